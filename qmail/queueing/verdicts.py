"""What qmail-queue's exit codes mean, and how smtpd, inject and the others word them."""

from __future__ import annotations

QUEUED = 0
ADDRESS_TOO_LONG = 11
REJECTED = 31
OUT_OF_MEMORY = 51
TIMED_OUT = 52
WRITE_ERROR = 53
READ_ERROR = 54
BAD_CONTROL = 55
NO_NETWORK = 56
BAD_HOME = 61
BAD_QUEUE = 62
BAD_PID = 63
BAD_MESS = 64
BAD_INTD = 65
BAD_TODO = 66
TEMPORARILY_REJECTED = 71
CONNECTION_TIMED_OUT = 72
CONNECTION_REJECTED = 73
CONNECTION_FAILED = 74
INTERNAL_BUG = 81
CUSTOM = 82
"""The program says on descriptor 6 what is wrong: "D..." or "Z...", at most 255 bytes."""
BAD_ENVELOPE = 91
NOT_RUN = 120
"""Not from qmail-queue: there was no qmail-queue to run."""

TROUBLE_CREATING = b"Zqq trouble creating files in queue (#4.3.0)"
INTERNAL = b"Zqq internal bug (#4.3.0)"
TOO_LONG = b"Denvelope address too long for qq (#5.1.3)"
TEXTS = {
    QUEUED: b"",
    ADDRESS_TOO_LONG: TOO_LONG,
    115: TOO_LONG,  # qmail-queue before 1.0
    REJECTED: b"Dmail server permanently rejected message (#5.3.0)",
    OUT_OF_MEMORY: b"Zqq out of memory (#4.3.0)",
    TIMED_OUT: b"Zqq timeout (#4.3.0)",
    WRITE_ERROR: b"Zqq write error or disk full (#4.3.0)",
    READ_ERROR: b"Zqq read error (#4.3.0)",
    BAD_CONTROL: b"Zqq unable to read configuration (#4.3.0)",
    NO_NETWORK: b"Zqq trouble making network connection (#4.3.0)",
    BAD_HOME: b"Zqq trouble in home directory (#4.3.0)",
    BAD_QUEUE: TROUBLE_CREATING,
    BAD_PID: TROUBLE_CREATING,
    BAD_MESS: TROUBLE_CREATING,
    BAD_INTD: TROUBLE_CREATING,
    BAD_TODO: TROUBLE_CREATING,
    TEMPORARILY_REJECTED: b"Zmail server temporarily rejected message (#4.3.0)",
    CONNECTION_TIMED_OUT: b"Zconnection to mail server timed out (#4.4.1)",
    CONNECTION_REJECTED: b"Zconnection to mail server rejected (#4.4.1)",
    CONNECTION_FAILED: b"Zcommunication with mail server failed (#4.4.2)",
    INTERNAL_BUG: INTERNAL,
    BAD_ENVELOPE: INTERNAL,
    NOT_RUN: b"Zunable to exec qq (#4.3.0)",
}
CRASHED = b"Zqq crashed (#4.3.0)"
PERMANENT = b"Dqq permanent problem (#5.3.0)"
TEMPORARY = b"Zqq temporary problem (#4.3.0)"


class Refused(Exception):
    """The message is not queued; `code` is qmail-queue's exit code for why."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


def verdict(code: int, said: bytes = b"") -> bytes:
    """b"" if the message is queued, else why not, after a D (for good) or Z (for now).

    `code`: qmail-queue's exit code, negative if it was killed; `said`: what it
    wrote on descriptor 6.
    """
    if code < 0:
        return CRASHED
    if code in TEXTS:
        return TEXTS[code]
    if code == CUSTOM and len(said) > 2:
        return said
    return PERMANENT if 11 <= code <= 40 else TEMPORARY
