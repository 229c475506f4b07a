"""Look-ups against a real cache: what is there is found, what is not is empty, no answer is a failure."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import dns.message
import dns.rcode
import pytest
from name_server import name_server, needs_dnsmasq, scripted
from programs import free_port

from ucspi.dns import Resolver
from ucspi.dns_lookup import ImpossibleName, LookupFailed

RECORDS = [
    "host-record=www.test,192.0.2.1,2001:db8::1",
    "host-record=four.test,192.0.2.4",
    "cname=alias.test,four.test",
    "mx-host=a.test,mail.test,10",
    "mx-host=a.test,Backup.test,20",
    *(f"mx-host=many.test,mail-exchanger-number-{i}.test,{i}" for i in range(100)),
    *(
        f"mx-host=huge.test,mail-exchanger-number-{i}-with-a-long-name.example{i}.test,{i}"
        for i in range(800)
    ),
    "txt-record=text.test,one,two",
    "txt-record=odd.test,caf\u00e9",
    "ptr-record=4.2.0.192.in-addr.arpa,Four.test",
]
FOUR, SIX = bytes([192, 0, 2, 1]), bytes.fromhex("20010db8000000000000000000000001")


@pytest.fixture(scope="module")
def cache() -> Iterator[str]:
    with name_server(RECORDS) as address:
        yield address


def resolver(cache: str, **env: str) -> Resolver:
    return Resolver.from_environment({"DNSCACHEIP": cache, "DNSREWRITEFILE": os.devnull, **env})


@needs_dnsmasq
def test_records_are_found(cache: str) -> None:
    ours = resolver(cache)
    assert ours.ip("www.test") == [SIX, FOUR]
    assert ours.ip("alias.test", want6=False) == [bytes([192, 0, 2, 4])]
    assert ours.ip("www.test", want4=False) == [SIX]
    assert sorted(ours.mx("a.test")) == [(10, "mail.test"), (20, "backup.test")]
    assert ours.ask([("text.test", "TXT"), ("odd.test", "TXT")]) == [(b"onetwo",), ("café".encode(),)]
    assert ours.name_of(bytes([192, 0, 2, 4])) == "four.test"
    assert ours.name_of(SIX) == "www.test"


@needs_dnsmasq
def test_what_is_not_there_is_empty(cache: str) -> None:
    ours = resolver(cache)
    assert (ours.ip("nobody.test"), ours.mx("www.test")) == ([], [])
    assert ours.ask([("nobody.test", "TXT")]) == [()]
    assert ours.name_of(bytes([192, 0, 2, 99])) == ours.name_of(SIX[:15] + b"\x99") == ""


@needs_dnsmasq
def test_a_long_answer_comes_by_tcp(cache: str) -> None:
    assert len(resolver(cache).mx("many.test")) == 100
    assert len(resolver(cache).mx("huge.test")) == 800, "nearly all that TCP can carry"


@needs_dnsmasq
def test_a_server_that_refuses_is_a_failure(cache: str) -> None:
    with pytest.raises(LookupFailed) as failure:
        resolver(cache).ip("www.example.org")
    assert failure.value.errno == errno.EAGAIN


@needs_dnsmasq
def test_a_dead_server_is_passed_over(cache: str) -> None:
    assert resolver(f"127.0.0.1:{free_port()} {cache}").ip("www.test", want6=False) == [FOUR]


@needs_dnsmasq
def test_many_questions_at_once_are_answered_in_their_order(cache: str) -> None:
    names = [f"nobody{i}.test" if i % 3 else "www.test" for i in range(60)]
    answers = resolver(cache).ask([(name, "A") for name in names])
    assert answers == [() if i % 3 else (FOUR,) for i in range(60)]


@needs_dnsmasq
def test_short_names_are_completed(cache: str, tmp_path: Path) -> None:
    assert resolver(cache, DNSREWRITEFILE="/nonexistent", LOCALDOMAIN="no.test test").qualified("www") == (
        "www.test",
        [SIX, FOUR],
    )
    rules = tmp_path / "rules"
    rules.write_text("=web:www.test\n=self:127.0.0.1\n")
    ours = resolver(cache, DNSREWRITEFILE=str(rules))
    assert ours.qualified("web", want6=False) == ("www.test", [FOUR])
    assert ours.qualified("self") == ("127.0.0.1", [bytes([127, 0, 0, 1])])
    assert ours.qualified("::1") == ("::1", [bytes(15) + b"\1"])
    assert ours.qualified("nobody.test") == ("nobody.test", [])


def test_an_impossible_name_is_never_asked() -> None:
    with pytest.raises(ImpossibleName):
        Resolver([("127.0.0.1", free_port())]).ip("a" * 64)


def test_nobody_listening_is_a_failure() -> None:
    with pytest.raises(LookupFailed) as failure:
        Resolver([("127.0.0.1", free_port())]).ip("www.test")
    assert failure.value.errno == errno.ECONNREFUSED


def test_silence_is_a_timeout() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        with pytest.raises(LookupFailed) as failure:
            Resolver([silent.getsockname()], udp_timeouts=[0.01, 0.02]).ip("www.test")
    assert failure.value.errno == errno.ETIMEDOUT


def test_a_server_without_edns_is_asked_without() -> None:
    def reply(query: dns.message.Message) -> list[bytes]:
        response = dns.message.make_response(query)
        if query.edns >= 0:
            response.use_edns(False)
            response.set_rcode(dns.rcode.FORMERR)
        return [response.to_wire()]

    with scripted(reply) as server:
        assert Resolver([server]).ip("www.test", want6=False) == []


def test_forged_and_broken_packets_do_not_count() -> None:
    def reply(query: dns.message.Message) -> list[bytes]:
        right = dns.message.make_response(query)
        forged = dns.message.make_response(query)
        forged.id ^= 1
        forged.set_rcode(dns.rcode.SERVFAIL)
        return [b"", b"\0", os.urandom(40), forged.to_wire(), right.to_wire()]

    with scripted(reply) as server:
        assert Resolver([server]).ip("www.test", want6=False) == []


def test_a_flood_of_rubbish_does_not_hold_up_the_timeout() -> None:
    with scripted(lambda query: [b"rubbish"] * 50) as server, pytest.raises(LookupFailed) as failure:
        Resolver([server], udp_timeouts=[0.05]).ip("www.test", want6=False)
    assert failure.value.errno == errno.ETIMEDOUT
