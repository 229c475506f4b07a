"""SMTP as a server speaks it, without I/O."""
