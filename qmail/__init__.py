"""The top floor: the mail system (qmail)."""
