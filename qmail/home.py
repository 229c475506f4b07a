"""Where the mail system lives: its home directory and its control files."""

from __future__ import annotations

import os
import sys

DEFAULT = "/var/qmail"
LEDGER = ".instance"  # in a home that qmail-install --private made; see qmail.instance


def find() -> str:
    """The home directory of the mail system, as an absolute path.

    $QMAILHOME; else the directory above the bin/ through which this program
    was called, links not followed, if it has a control/; else /var/qmail.
    A relative name counts from the working directory, so look before chdir.
    """
    chosen = os.environ.get("QMAILHOME")
    if chosen:
        return os.path.abspath(chosen)
    above, name = os.path.split(os.path.dirname(os.path.abspath(_called())))
    if name == "bin" and os.path.isdir(f"{above}/control"):
        return above
    return DEFAULT


def _called() -> str:
    """The file by which this program was called; a bare name is looked up in PATH."""
    name = sys.argv[0]
    if "/" not in name:
        for directory in os.environ.get("PATH", "").split(":"):
            if os.path.exists(f"{directory}/{name}"):
                return f"{directory}/{name}"
    return name


def control_directory(home: str) -> str:
    """The directory of the control files: $QMAIL_CONTROLDIR, else the home's control/."""
    chosen = os.environ.get("QMAIL_CONTROLDIR")
    return os.path.join(home, chosen) if chosen else f"{home}/control"


def is_private(home: str) -> bool:
    """Is `home` a private instance, where every role is the user's who runs it?"""
    return os.path.exists(f"{home}/{LEDGER}")
