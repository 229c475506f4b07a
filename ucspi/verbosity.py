"""How much tcpserver, tcpclient and their like say."""

from __future__ import annotations

SILENT, ERRORS, EVERYTHING = 0, 1, 2
OPTIONS = {"q": SILENT, "Q": ERRORS, "v": EVERYTHING}
