"""What qmail-send does between the queue and the spawners.

Pure: rewriting, schedule, envelope, bounces.  With the world: log, settings,
cleaner, channel, todo, backlog, sweep, manager; `qmail/send.py` is their loop.
"""
