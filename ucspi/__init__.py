"""The middle floor: TCP servers and clients (ucspi-tcp)."""
