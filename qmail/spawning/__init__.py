"""From an order of qmail-send to a process that carries it out, and back with its report."""
