"""sendmail(8): the interface of old mail programs to qmail-inject.

SYNOPSIS
sendmail [ -t ] [ -fsender ] [ -Fname ] [ -bp ] [ -bs ] [ arg ... ]

DESCRIPTION
sendmail reads a message up to the end of standard input (a line with a dot is
nothing special) and gives it to qmail-inject, for the recipients named as
arguments.

OPTIONS
-t        take recipients from the header, too
-f sender the envelope sender, and the address in From if that is missing
-F name   the name in From if that is missing
-bm       as described (the default)
-bs       talk SMTP on standard input and output: run qmail-smtpd
-bp       show the queue: run qmail-qread
-q...     run the queue: nothing to do, qmail-send never stops doing it
-B type, -e mode, -E, -i, -J, -m, -o option, -p protocol, -v, -x
          ignored
Called as mailq it does as with -bp; as newaliases it refuses.

ENVIRONMENT
  What qmail-inject reads.  With -bs and without PROTO, qmail-smtpd gets
  RELAYCLIENT, DATABYTES=0, and the variables of a connection from localhost.

EXIT
100: wrong usage.  Else that of qmail-inject, qmail-smtpd or qmail-qread.
"""

from __future__ import annotations

import os
import sys

from qmail import home
from supervise import chain
from supervise.options import BadOption, Options
from supervise.program import PERMANENT, Fatal, Usage, program, say

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import NoReturn

LETTERS = "vimte:f:p:o:B:F:E::J::xb:q::"
SYNOPSIS = "sendmail [ -t ] [ -fsender ] [ -Fname ] [ -bp ] [ -bs ] [ arg ... ]"
LOCAL_CONNECTION = {
    "RELAYCLIENT": "", "DATABYTES": "0", "PROTO": "TCP",
    "TCPLOCALIP": "127.0.0.1", "TCPLOCALHOST": "localhost",
    "TCPREMOTEIP": "127.0.0.1", "TCPREMOTEHOST": "localhost", "TCPREMOTEINFO": "sendmail-bs",
}  # fmt: skip
NAMES = ("QMAILNAME", "MAILNAME", "NAME", "QMAILHOST", "MAILHOST")


@program("sendmail")
def main(argv: Sequence[str]) -> int:
    try:
        os.chdir(home.find())
    except OSError:
        raise Fatal("unable to switch to qmail home directory") from None
    request = Request()
    options = Options(argv, LETTERS)
    try:
        for letter, argument in options:
            request.option(letter, argument)
    except BadOption as error:
        say(f"sendmail: {error}")
        raise Usage(SYNOPSIS) from None
    called = os.path.basename(sys.argv[0])
    if called == "mailq":
        _become("qmail-qread", (), os.environ)
    if called == "newaliases":
        raise Fatal("please use fastforward/newaliases instead", PERMANENT)
    if not request.run_queue or options.operands or request.from_header:
        _become("qmail-inject", [*request.inject_options(), "--", *options.operands], request.environment())
    return 0


class Request:
    """What the command line asks qmail-inject for."""

    def __init__(self) -> None:
        self.from_header = False
        self.run_queue = False
        self._sender: str | None = None
        self._name: str | None = None

    def option(self, letter: str, argument: str) -> None:
        """Take an option, or be the program that it names."""
        if letter == "t":
            self.from_header = True
        elif letter == "f":
            self._sender = argument
        elif letter == "F":
            self._name = argument
        elif letter == "q":
            self.run_queue = True
        elif letter == "b":
            _change_mode(argument, {} if self._name is None else {"MAILNAME": self._name})

    def inject_options(self) -> list[str]:
        recipients = "-H" if self.from_header else "-a"
        return [recipients] if self._sender is None else [recipients, "-f", self._sender]

    def environment(self) -> dict[str, str]:
        environment = dict(os.environ)
        if self._name is not None:
            environment["MAILNAME"] = self._name
        if self._sender is not None:
            for name in NAMES:
                environment.pop(name, None)
            user, at, host = self._sender.rpartition("@")
            environment["QMAILUSER"] = user if at else host
            if at:
                environment["QMAILHOST"] = host
        return environment


def _change_mode(mode: str, more: Mapping[str, str]) -> None:
    environment = {**os.environ, **more}
    if mode.startswith("p"):
        _become("qmail-qread", (), environment)
    if mode.startswith("s"):
        if "PROTO" not in environment:
            environment |= LOCAL_CONNECTION
        _become("qmail-smtpd", (), environment)
    if not mode.startswith("m"):
        raise Usage(SYNOPSIS)


def _become(name: str, arguments: Sequence[str], environment: Mapping[str, str]) -> NoReturn:
    try:
        chain.run([f"bin/{name}", *arguments], environment)
    except OSError:
        raise Fatal(f"unable to run {name}") from None
