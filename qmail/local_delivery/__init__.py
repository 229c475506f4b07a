"""What becomes of a message for somebody here: .qmail files, Maildirs, mailboxes, programs."""
