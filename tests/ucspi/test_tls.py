"""TLS without I/O and over sockets: both sides agree or say why not; files are read again when changed."""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import threading
from pathlib import Path

import pytest
from certificates import Authority, meet, sessions
from cryptography import x509
from hypothesis import given
from hypothesis import strategies as st

from ucspi import timed, tls, tls_environment


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


def served_name(session: tls.Session) -> str:
    der = session.tls.getpeercert(binary_form=True)
    assert der
    return str(x509.load_der_x509_certificate(der).subject.rfc4514_string())


@pytest.mark.parametrize("step", [1, 7, 1 << 20])
def test_what_one_side_says_the_other_hears_however_it_is_cut(authority: Authority, step: int) -> None:
    client, server = sessions(authority, authority.issue("a.test"))
    meet(client, server, step)
    said = os.urandom(50_000)
    client.write(said)
    wire, heard = client.to_send(), b""
    for start in range(0, len(wire), max(step, 100)):
        server.feed(wire[start : start + max(step, 100)])
        while data := server.read(1 << 16):
            heard += data
    assert heard == said
    client.close()
    assert server.read(1) is None
    server.feed(client.to_send())
    assert server.read(1) == b""


def test_a_wire_that_ends_is_the_end(authority: Authority) -> None:
    client, server = sessions(authority, authority.issue("a.test"))
    meet(client, server)
    server.feed(b"")
    assert server.read(1) == b""


@given(st.binary(min_size=1, max_size=200))
def test_rubbish_is_refused_and_never_more_than_an_error(rubbish: bytes) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server = tls.Session(context, server_side=True)
    server.feed(rubbish)
    with contextlib.suppress(tls.TlsError):
        assert server.handshake() is False


def test_only_versions_1_2_and_1_3_are_spoken(authority: Authority) -> None:
    for version, spoken in (
        (ssl.TLSVersion.TLSv1_1, False),
        (ssl.TLSVersion.TLSv1_2, True),
        (ssl.TLSVersion.TLSv1_3, True),
    ):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(authority.file)
        context.set_ciphers("ALL:@SECLEVEL=0")
        old = pytest.warns(DeprecationWarning, match="TLSv1_1")
        with contextlib.nullcontext() if spoken else old:
            context.minimum_version = context.maximum_version = version
        server = sessions(authority, authority.issue("a.test"))[1]
        client = tls.Session(context, host="a.test")
        if spoken:
            meet(client, server)
            assert client.tls.version() == f"TLSv1.{2 if version == ssl.TLSVersion.TLSv1_2 else 3}"
        else:
            with pytest.raises(tls.TlsError):
                meet(client, server)


def test_a_server_is_who_it_should_be_or_the_reason_is_told(authority: Authority, tmp_path: Path) -> None:
    stranger = Authority(tmp_path, "Stranger")
    for certificate, name, untrusted, wrong_name in (
        (authority.issue("b.test"), "a.test", False, True),
        (authority.issue("b.test"), "127.0.0.1", False, True),
        (stranger.issue("a.test"), "a.test", True, False),
        (authority.issue("old.test", expired=True), "old.test", True, False),
    ):
        with pytest.raises(tls.TlsError) as failure:
            meet(*sessions(authority, certificate, name))
        assert (failure.value.untrusted, failure.value.wrong_name) == (untrusted, wrong_name)
    meet(*sessions(authority, authority.issue("127.0.0.1"), "127.0.0.1"))


def test_a_client_must_show_a_certificate_if_the_server_says_so(authority: Authority) -> None:
    client, server = sessions(authority, authority.issue("a.test"), ca_file=str(authority.file))
    with pytest.raises(tls.TlsError):
        meet(client, server)
    _, server = sessions(authority, authority.issue("a.test"), ca_file=str(authority.file))
    known = tls.client_context(ca_file=str(authority.file), certificate=str(authority.issue("joe.test")))
    client = tls.Session(known, host="a.test")
    meet(client, server)
    assert "joe.test" in served_name(server)
    own = authority.issue("a.test").read_bytes()
    found = tls_environment.variables(server, own, server_side=True)
    assert (found["SSL_CLIENT_S_DN_CN"], found["SSL_SERVER_S_DN_CN"]) == ("joe.test", "a.test")
    assert (found["SSL_CLIENT_I_DN"], found["SSL_CLIENT_M_VERSION"]) == ("/O=Tests/CN=Test CA", "3")
    assert found["SSL_CLIENT_CERT_CHAIN_1"].encode() == authority.file.read_bytes()
    assert (found["SSL_PROTOCOL"], found["SSL_CIPHER_EXPORT"]) == ("TLSv1.3", "false")


def test_files_that_are_no_good_are_told_apart(authority: Authority, tmp_path: Path) -> None:
    good, other = str(authority.issue("a.test")), str(authority.issue("b.test"))
    locked = str(authority.issue("locked.test", password=b"secret"))
    (tmp_path / "empty").touch()
    for certificate, key, why in (
        (str(tmp_path / "none"), None, "unable to load certificate"),
        (str(tmp_path / "empty"), None, "unable to load certificate"),
        (good, str(tmp_path / "none"), "unable to load key"),
        (str(authority.file), None, "unable to load key"),
        (good, other, "key does not match certificate"),
        (locked, None, "unable to load key"),
    ):
        with pytest.raises(tls.TlsError) as failure:
            tls.server_context(certificate, key)
        assert failure.value.strerror == why
    tls.server_context(locked, password=b"secret")
    with pytest.raises(tls.TlsError, match="unable to set cipher list"):
        tls.client_context(ciphers="no such cipher")
    with pytest.raises(tls.TlsError, match="unable to load CA list"):
        tls.client_context(ca_file=str(tmp_path / "none"))


def test_a_changed_certificate_is_read_again_and_a_bad_one_is_not_taken(authority: Authority) -> None:
    file = authority.issue("a.test")
    certificates = tls.Certificates(tls.server_context, str(file))
    first = certificates.context()
    assert certificates.context() is first
    authority.issue("a.test")
    second = certificates.context()
    assert second is not first
    file.write_bytes(b"rubbish")
    assert [certificates.refresh(), certificates.refresh()] == ["unable to load certificate", ""], "told once"
    assert certificates.context() is second
    authority.issue("a.test")
    assert certificates.context() is not second


def test_each_name_has_its_certificate(authority: Authority, tmp_path: Path) -> None:
    default = authority.issue("default.test", "wild.test", "..", "a/b", "broken.test")
    for name in ("one.test", "*.wild.test"):
        authority.issue(name, file=tmp_path / f"{name}.pem")
    (tmp_path / "broken.test.pem").write_text("rubbish")
    certificates = tls.Certificates(tls.server_context, str(default), directory=str(tmp_path))
    client_side = tls.client_context(ca_file=str(authority.file), check_name=False)

    def served(name: str | None) -> str:
        client = tls.Session(client_side, host=name)
        server = tls.Session(certificates.context(), server_side=True)
        meet(client, server)
        assert server.tls.context is not None
        chosen = certificates.file_of(server.tls.context)
        assert served_name(client).removeprefix("CN=").split(",")[0] in chosen
        return served_name(client).removeprefix("CN=").split(",")[0]

    assert served("one.test") == "one.test"
    assert served("ONE.test") == "one.test"
    assert served("x.wild.test") == "*.wild.test"
    assert served("x.y.wild.test") == "default.test"
    assert served(None) == "default.test"
    assert served("broken.test") == "default.test"
    assert certificates.problem.endswith("broken.test.pem: unable to load certificate")
    before = (tmp_path / "one.test.pem").read_bytes()
    authority.issue("one.test", file=tmp_path / "one.test.pem")
    assert (tmp_path / "one.test.pem").read_bytes() != before
    assert served("one.test") == "one.test"


def test_a_conversation_goes_on_under_tls(authority: Authority) -> None:
    one, other = socket.socketpair()
    client, server = sessions(authority, authority.issue("a.test"))
    plain = timed.Channel(other.fileno(), other.fileno(), 20)
    heard: list[bytes] = []

    def serve() -> None:
        heard.append(plain.read(100))
        plain.write(b"220 go ahead\r\n")
        channel = tls.Channel(plain, server)
        channel.handshake(20)
        heard.append(channel.read(100))
        channel.write(b"x" * 1_000_000)
        channel.close()

    with one, other:
        thread = threading.Thread(target=serve)
        thread.start()
        near = timed.Channel(one.fileno(), one.fileno(), 20)
        near.write(b"STARTTLS\r\n")
        assert near.read(100) == b"220 go ahead\r\n"
        channel = tls.Channel(near, client)
        channel.handshake(20)
        channel.write(b"hello")
        got = b""
        while data := channel.read(100_000):
            got += data
        thread.join()
    assert got == b"x" * 1_000_000
    assert heard == [b"STARTTLS\r\n", b"hello"]


def test_a_handshake_has_its_time_and_no_more(authority: Authority) -> None:
    one, other = socket.socketpair()
    with one, other:
        _, server = sessions(authority, authority.issue("a.test"))
        channel = tls.Channel(timed.Channel(one.fileno(), one.fileno(), 1000), server)
        with pytest.raises(TimeoutError):
            channel.handshake(0.05)
        other.send(b"\x16\x03\x01\x00\xff\x01\x00\x00\xfb")  # the beginning of a hello
        with pytest.raises(TimeoutError):
            channel.handshake(0.05)
        other.close()
        with pytest.raises(ConnectionResetError):
            channel.handshake(10)


def test_a_peer_that_does_not_speak_tls_is_an_error(authority: Authority) -> None:
    one, other = socket.socketpair()
    with one, other:
        _, server = sessions(authority, authority.issue("a.test"))
        other.send(b"EHLO me\r\n")
        with pytest.raises(tls.TlsError):
            tls.Channel(timed.Channel(one.fileno(), one.fileno(), 10), server).handshake(10)


def test_a_server_hears_why_it_is_refused(authority: Authority) -> None:
    one, other = socket.socketpair()
    client, server = sessions(authority, authority.issue("b.test"), "a.test")
    refusals: list[tls.TlsError] = []

    def serve() -> None:
        channel = tls.Channel(timed.Channel(other.fileno(), other.fileno(), 10), server)
        try:
            channel.handshake(10)
            channel.read(1)
        except tls.TlsError as error:
            refusals.append(error)

    with one, other:
        thread = threading.Thread(target=serve)
        thread.start()
        with pytest.raises(tls.TlsError):
            tls.Channel(timed.Channel(one.fileno(), one.fileno(), 10), client).handshake(10)
        thread.join()
    assert "alert" in str(refusals[0])
