"""rblsmtpd against real lists: a name server on loopback, one that refuses, one that never answers."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import dns.message
import dns.rrset
import pytest
from hypothesis import given
from hypothesis import strategies as st
from name_server import name_server, needs_dnsmasq, scripted
from programs import DEADLINE, environment, run, running

from ucspi.rblsmtpd import MAX_COMMAND, Refusal

IPV6 = "1." + "0." * 23 + "8.b.d.0.1.0.0.2."
RECORDS = [
    "txt-record=7.2.0.192.rbl.test,you are listed",
    f"txt-record={IPV6}rbl.test,you too",
    "host-record=8.2.0.192.dnswl.test,127.0.0.2",
    f"host-record={IPV6}dnswl.test,127.0.0.3",
    "txt-record=8.2.0.192.rbl.test,listed and welcome",
]
LISTED, WELCOME, OTHER = "192.0.2.7", "192.0.2.8", "192.0.2.9"
REFUSING = "rbl.example.org"  # not in .test: our server refuses to say


@pytest.fixture(scope="module")
def cache() -> Iterator[str]:
    with name_server(RECORDS) as address:
        yield address


def outcome(cache: str, client: str, *options: str, **more: str) -> str:
    """What the client is told to RCPT, or "ran"."""
    env = environment(DNSCACHEIP=cache, DNSREWRITEFILE=os.devnull, TCPREMOTEIP=client, **more)
    done = run("rblsmtpd", *options, "echo", "ran", stdin=b"RCPT TO:<x@y>\r\nQUIT\r\n", env=env)
    assert done.returncode == 0
    if done.stdout == b"ran\n":
        assert done.stderr == b""
        return "ran"
    greeting, reply, goodbye = done.stdout.decode().splitlines()
    assert (greeting, goodbye) == ("220 rblsmtpd.local", "221 rblsmtpd.local")
    assert done.stderr.decode().startswith(f"rblsmtpd: {client} pid ")
    assert done.stderr.decode().endswith(f": {reply}\n")
    return reply


@needs_dnsmasq
def test_who_is_listed_is_refused_and_nobody_else(cache: str) -> None:
    for client in (LISTED, f"::ffff:{LISTED}"):
        assert outcome(cache, client, "-rrbl.test") == "451 you are listed"
    assert outcome(cache, "2001:db8::1", "-rrbl.test") == "451 you too"
    assert outcome(cache, OTHER, "-rrbl.test") == "ran"
    assert outcome(cache, "2001:db8::2", "-rrbl.test") == "ran"
    assert outcome(cache, LISTED) == "ran"
    assert outcome(cache, LISTED, "-rnone.test", "-rrbl.test") == "451 you are listed"


@needs_dnsmasq
def test_b_counts_for_the_lists_after_it(cache: str) -> None:
    assert outcome(cache, LISTED, "-b", "-rrbl.test") == "553 you are listed"
    assert outcome(cache, LISTED, "-rrbl.test", "-b") == "451 you are listed"
    assert outcome(cache, LISTED, "-bB", "-rrbl.test") == "451 you are listed"


@needs_dnsmasq
def test_an_anti_list_before_a_list_opens_the_door(cache: str) -> None:
    assert outcome(cache, WELCOME, "-adnswl.test", "-rrbl.test") == "ran"
    assert outcome(cache, WELCOME, "-rrbl.test", "-adnswl.test") == "451 listed and welcome"
    assert outcome(cache, LISTED, "-adnswl.test", "-rrbl.test") == "451 you are listed"
    assert outcome(cache, "2001:db8::1", "-adnswl.test", "-rrbl.test") == "ran"


@needs_dnsmasq
def test_a_list_that_fails_speaks_for_the_client_unless_c_is_given(cache: str) -> None:
    assert outcome(cache, LISTED, f"-r{REFUSING}") == "ran"
    assert outcome(cache, LISTED, "-c", f"-r{REFUSING}") == "451 temporary RBL lookup error"
    assert outcome(cache, LISTED, f"-r{REFUSING}", "-b", "-rrbl.test") == "451 you are listed"
    assert outcome(cache, LISTED, f"-a{REFUSING}", "-rrbl.test") == "ran"
    assert outcome(cache, LISTED, "-c", f"-a{REFUSING}", "-b", "-rrbl.test") == "451 you are listed"
    assert outcome(cache, LISTED, "-c", "-r" + "a" * 64) == "451 temporary RBL lookup error"


def test_a_silent_list_does_not_hold_up_what_another_has_decided() -> None:
    def reply(query: dns.message.Message) -> list[bytes]:
        name = query.question[0].name
        if "silent" in name.to_text():
            return []
        response = dns.message.make_response(query)
        response.answer.append(dns.rrset.from_text(name, 60, "IN", "TXT", "listed"))
        return [response.to_wire()]

    with scripted(reply) as (host, port):
        assert outcome(f"{host}:{port}", LISTED, "-rrbl.test", "-rsilent.test") == "451 listed"


@needs_dnsmasq
def test_the_variable_outdoes_the_lists(cache: str) -> None:
    assert outcome(cache, LISTED, "-rrbl.test", RBLSMTPD="") == "ran"
    assert outcome(cache, OTHER, "-rrbl.test", RBLSMTPD="-never") == "553 never"


@pytest.mark.parametrize("closed", ["<&-", ">&-", "<&- >&-", ">/dev/full"])
def test_a_client_that_cannot_be_reached_is_refused_all_the_same(closed: str) -> None:
    done = run("sh", "-c", f"rblsmtpd echo ran {closed}", env=environment(RBLSMTPD="no"))
    assert done.returncode == 0
    assert b"ran" not in done.stdout
    assert done.stderr.startswith(b"rblsmtpd:  pid ")
    assert done.stderr.endswith(b": 451 no\n")
    assert done.stderr.count(b"\n") == 1


def test_a_client_that_says_nothing_is_left_after_the_timeout(tmp_path: Path) -> None:
    one, other = socket.socketpair()
    env = environment(RBLSMTPD="no", TCPREMOTEIP=LISTED)
    with one, other, running("rblsmtpd", "-t1", "true", stdin=other, stdout=other, env=env) as process:
        assert process.wait(DEADLINE) == 0
        assert one.recv(100) == b"220 rblsmtpd.local\r\n"


def test_a_client_that_never_stops_talking_is_left_as_well() -> None:
    one, other = socket.socketpair()
    env = environment(RBLSMTPD="no", TCPREMOTEIP=LISTED)
    with one, running("rblsmtpd", "-t1", "true", stdin=other, stdout=other, env=env) as process:
        other.close()
        one.settimeout(DEADLINE)
        try:
            while True:
                one.send(b"NOOP\r\n" * 1000)  # and reads no answer
        except OSError:
            pass
        assert process.wait(DEADLINE) == 0


@given(st.lists(st.lists(st.sampled_from([b"\r", b"\n", b"quit", b" ", b"MAIL", b"x", b"\0"])).map(b"".join)))
def test_the_conversation_does_not_depend_on_the_pieces(cut: list[bytes]) -> None:
    def answers(pieces: list[bytes]) -> bytes:
        conversation, said = Refusal(b"451 no\r\n"), b""
        for piece in pieces:
            said += b"" if conversation.over else conversation.feed(piece)
        return said

    whole = b"".join(cut)
    assert answers(cut) == answers([whole]) == answers([whole[i : i + 1] for i in range(len(whole))])


def test_a_command_without_an_end_takes_no_memory() -> None:
    conversation = Refusal(b"451 no\r\n")
    for _ in range(1000):
        assert conversation.feed(b"x" * MAX_COMMAND) == b""
    assert (
        conversation.feed(b"\nNOOP\r\nQUIT \r\nNOOP\r\n")
        == b"451 no\r\n250 rblsmtpd.local\r\n221 rblsmtpd.local\r\n"
    )
