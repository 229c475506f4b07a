"""The ground floor: processes, their logs and their limits (daemontools)."""

__version__ = "0.1.0"
