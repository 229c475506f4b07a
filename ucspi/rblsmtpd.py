"""rblsmtpd(1): refuse mail from clients that are on a list.

SYNOPSIS   rblsmtpd [ -bBcC ] [ -t timeout ] [ -r base ] [ -a base ] smtpd [ arg ... ]

DESCRIPTION
A client is blocked if it is on one of the lists -r; unless an anti-list -a
that stands before that list has it.  A blocked client gets no smtpd but a
short conversation in which every recipient is refused, and a line on
descriptor 2 tells so.  Without any list, and without RBLSMTPD, smtpd runs.
All lists are asked at once; the first in order that has something to say
decides.

OPTIONS
-r base    a list: a client a.b.c.d is on it if d.c.b.a.base has a TXT record, which is the reason given;
           for an IPv6 address the nibbles are turned round
-a base    an anti-list: whoever has an A record there is welcome
-B, -b     the lists that follow refuse for the time being, 451 (default), or for good, 553
-C, -c     a look-up that fails speaks for the client (default), or against it, with 451
-t n       end the conversation after n seconds (60); 0: only the refusal, and no conversation

EXIT       that of smtpd; 0 for a blocked client.  100: wrong usage.  111: smtpd cannot be run.
ENVIRONMENT
RBLSMTPD   set: no list is asked.  Empty: the client is welcome.  Otherwise it is blocked, and this is the
           reason given; for good if it begins with a hyphen, which does not count
TCPREMOTEIP  the client
DNSCACHEIP   the caches to ask, if not those of /etc/resolv.conf
"""

from __future__ import annotations

import os

from supervise import chain
from supervise.numbers import leading_number
from supervise.options import BadOption, Options
from supervise.program import Usage, program, say, unable_to
from ucspi import blocklists
from ucspi.blocklists import List, Verdict

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from ucspi.blocklists import Outcome

SYNOPSIS = "rblsmtpd [ -b ] [ -R ] [ -t timeout ] [ -r base ] [ -a base ] smtpd [ arg ... ]"
TIMEOUT = 60  # seconds
MAX_COMMAND = 1024  # bytes of a command line that are looked at
ACCEPTED = (b"helo", b"ehlo", b"mail", b"rset", b"noop")


@program("rblsmtpd", later=("ucspi.dns", "ucspi.dns_lookup"))
def main(argv: Sequence[str]) -> int:
    lists, timeout, child = _read(argv)
    client = os.environ.get("TCPREMOTEIP", "")
    verdict = blocklists.by_variable(os.environb.get(b"RBLSMTPD")) or _asked(lists, client)
    if verdict.kind == blocklists.ACCEPT:
        with unable_to(f"run {child[0]}"):
            chain.run(child)
    reply = verdict.reply()
    say(f"rblsmtpd: {client} pid {os.getpid()}: {reply.decode('ascii')}")
    _refuse(reply + b"\r\n", timeout)
    return 0


def _read(argv: Sequence[str]) -> tuple[list[List], int, Sequence[str]]:
    """The lists, the timeout and the program."""
    options, lists, timeout = Options(argv, "bBcCt:r:a:"), [], TIMEOUT
    bounce = fail_closed = False
    try:
        for letter, argument in options:
            if letter in "ra":
                lists.append(List(argument, anti=letter == "a", bounce=bounce, fail_closed=fail_closed))
            elif letter in "bB":
                bounce = letter == "b"
            elif letter in "cC":
                fail_closed = letter == "c"
            else:
                timeout = leading_number(argument)
    except BadOption as error:
        say(f"rblsmtpd: {error}")
        raise Usage(SYNOPSIS) from error
    if not options.operands:
        raise Usage(SYNOPSIS)
    return lists, timeout, options.operands


def _asked(lists: Sequence[List], client: str) -> Verdict:
    """The verdict of `lists`."""
    questions = [question for one in lists for question in one.questions(client)]
    if not questions:
        return Verdict(blocklists.ACCEPT)
    from ucspi.dns import Resolver

    def decided(outcomes: Sequence[Outcome]) -> bool:
        return blocklists.decide(lists, client, outcomes) is not None

    try:
        outcomes: Sequence[Outcome] = Resolver.from_environment().ask(questions, decided)
    except OSError as error:  # resolv.conf cannot be read: as if no cache answered
        outcomes = [error] * len(questions)
    verdict = blocklists.decide(lists, client, outcomes)
    assert verdict
    return verdict


def _refuse(reply: bytes, timeout: float) -> None:
    """Refuse whatever the client wants, with `reply`, for `timeout` seconds or as long as it is there."""
    import time

    from ucspi import timed

    try:
        if not timeout:
            timed.write(1, reply, TIMEOUT)
            return
        end = time.monotonic() + timeout
        conversation = Refusal(reply)
        answer = conversation.greeting
        while True:
            timed.write(1, answer, end - time.monotonic())
            data = b"" if conversation.over else timed.read_until(0, MAX_COMMAND, end)
            if not data:
                return
            answer = conversation.feed(data)
    except OSError:  # of the network: the client is refused all the same
        return


class Refusal:
    """The conversation with a blocked client.  Does no I/O."""

    greeting = b"220 rblsmtpd.local\r\n"

    def __init__(self, reply: bytes) -> None:
        self._reply = reply
        self._partial = b""
        self.over = False

    def feed(self, data: bytes) -> bytes:
        """What to answer to `data`; after QUIT `over` is true."""
        *lines, self._partial = (self._partial + data).split(b"\n")
        self._partial = self._partial[:MAX_COMMAND]
        answers = []
        for line in lines:
            answers.append(self._answer(line))
            if self.over:
                break
        return b"".join(answers)

    def _answer(self, line: bytes) -> bytes:
        verb = line.removesuffix(b"\r").partition(b" ")[0].lower()
        if verb == b"quit":
            self.over = True
            return b"221 rblsmtpd.local\r\n"
        return b"250 rblsmtpd.local\r\n" if verb in ACCEPTED else self._reply
