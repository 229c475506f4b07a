"""What becomes of a message for somebody elsewhere: which host, which protocol, and which to leave alone."""
