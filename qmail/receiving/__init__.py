"""What comes from the network: the servers' front end, sessions without I/O, whom they take mail for."""
