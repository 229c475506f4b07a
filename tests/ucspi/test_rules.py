"""Rules: each line is compiled as the original does or refused, and the right rule is found."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ucspi import rules
from ucspi.cdb import Writer

THEIRS = "/usr/bin/tcprules"
PIECES = st.sampled_from(
    [
        b"1",
        b"2",
        b"255",
        b"256",
        b".",
        b".",
        b"-",
        b":",
        b":allow",
        b":deny",
        b"=",
        b"@",
        b",",
        b'"',
        b"/",
        b'A="1"',
        b"joe",
        b"host",
        b" ",
        b"\t",
        b"\n",
        b"\n",
        b"#",
        b"\0",
        b"\xff",
        b"::",
        b"2001:db8:",
        b"/8",
    ]
)
texts = st.one_of(st.binary(max_size=60), st.lists(PIECES, max_size=30).map(b"".join))


def compiled(text: bytes, *, cut: int = 1 << 20) -> bytes:
    """The database of the rules in `text`, fed in pieces of `cut` bytes."""
    fd = os.memfd_create("rules")
    try:
        compiler = rules.Compiler(Writer(fd))
        for place in range(0, len(text), cut):
            compiler.feed(text[place : place + cut])
        compiler.finish()
        return os.pread(fd, 1 << 24, 0)
    finally:
        os.close(fd)


def outcome(text: bytes, cut: int) -> bytes | str:
    try:
        return compiled(text, cut=cut)
    except rules.BadRule as error:
        return f"bad: {error.line!r}"


@settings(max_examples=10_000)
@given(texts, st.integers(1, 70))
@example(b"1.2.3.4:allow\nnocolon\n5:6:allow\n", 3)
def test_any_text_is_compiled_or_a_bad_rule_however_it_is_cut(text: bytes, cut: int) -> None:
    assert outcome(text, cut) == outcome(text, 1 << 20)


@pytest.mark.skipif(not shutil.which(THEIRS), reason="no C tcprules (Debian: ucspi-tcp)")
@settings(max_examples=300, deadline=None)
@given(texts)
@example(b"-/:allow")
def test_what_c_tcprules_compiles_is_the_same_here(text: bytes) -> None:
    directory = Path(f"/dev/shm/rules-{os.getpid()}")
    directory.mkdir(exist_ok=True)
    try:
        argv = [THEIRS, "cdb", "tmp"]
        done = subprocess.run(argv, input=text, cwd=directory, capture_output=True, check=False)
        if done.returncode == 0 and b"/" not in text:  # a network, here
            assert compiled(text) == (directory / "cdb").read_bytes()
        elif done.returncode == 100 and b"::" not in text and b"db8" not in text:
            with pytest.raises(rules.BadRule) as bad:
                compiled(text)
            line = bad.value.line.partition(b"\0")[0]
            assert done.stderr == b"tcprules: fatal: unable to parse this line: " + line + b"\n"
    finally:
        shutil.rmtree(directory)


def look_up(
    text: bytes, path: Path, ip: str, host: str | None = None, info: str | None = None
) -> rules.Verdict:
    path.write_bytes(compiled(text))
    found = rules.Rules(str(path))
    try:
        return found.look_up(ip, host, info)
    finally:
        found.close()


ORDER = [
    (b"joe@192.0.2.1", "the remote user and address"),
    (b"joe@=a.example.org", "the remote user and host name"),
    (b"192.0.2.1", "the address"),
    (b"=a.example.org", "the host name"),
    (b"192.0.2.", "the beginning of the address"),
    (b"192.", "the beginning of the address"),
    (b"192.0.2.0/30", "its network"),
    (b"192.0/16", "its network"),
    (b"0.0.0.0/0", "its network"),
    (b"=.example.org", "the end of the host name"),
    (b"=.org", "the end of the host name"),
    (b"=", "having a host name"),
    (b"", "default"),
]


@pytest.mark.parametrize("first", range(len(ORDER)))
def test_rules_count_in_their_order_wherever_they_stand(first: int, tmp_path: Path) -> None:
    text = b"".join(b'%b:allow,N="%d"\n' % (ORDER[n][0], n) for n in reversed(range(first, len(ORDER))))
    verdict = look_up(text, tmp_path / "cdb", "192.0.2.1", "a.example.org", "joe")
    assert verdict.variables == [(b"N", b"%d" % first)]
    assert verdict.why == ORDER[first][1]


@pytest.mark.parametrize(
    ("rule", "ip", "matches"),
    [
        ("10.0.0.0/8", "10.255.1.2", True),
        ("10.0.0.0/8", "11.0.0.0", False),
        ("10/8", "10.1.1.1", True),
        ("192.168./16", "192.168.3.4", True),
        ("192.0.2.128/25", "192.0.2.127", False),
        ("192.0.2.129/25", "192.0.2.255", True),
        ("192.0.2.1/32", "192.0.2.1", True),
        ("2001:db8::/32", "2001:db8:ffff::1", True),
        ("2001:db8::/32", "2001:db9::1", False),
        ("2001:DB8::1", "2001:db8:0:0:0:0:0:1", True),
        ("::/0", "fe80::1", True),
        ("::/0", "10.0.0.1", False),
        ("::1/128", "::1", True),
        ("::ffff:10.1.1.1", "10.1.1.1", True),
        ("::ffff:10.0.0.0/104", "10.9.9.9", True),
        ("10.0.0.0/8", "::ffff:10.1.1.1", True),
        ("8000::/1", "ffff::", True),
        ("8000::/1", "7fff::", False),
    ],
)
def test_networks_and_ipv6(rule: str, ip: str, matches: bool, tmp_path: Path) -> None:
    verdict = look_up(f"{rule}:deny\n".encode(), tmp_path / "cdb", ip)
    assert verdict.allowed is not matches


def test_the_longest_network_counts(tmp_path: Path) -> None:
    text = b'2001:db8::/32:allow,N="32"\n2001:db8:1::/48:allow,N="48"\n::/0:deny\n'
    assert look_up(text, tmp_path / "cdb", "2001:db8:1::7").variables == [(b"N", b"48")]
    assert look_up(text, tmp_path / "cdb", "2001:db8:2::7").variables == [(b"N", b"32")]
    assert not look_up(text, tmp_path / "cdb", "2002::7").allowed


def test_a_user_at_an_ipv6_address(tmp_path: Path) -> None:
    text = b"joe@2001:db8::1:deny\n"
    assert not look_up(text, tmp_path / "cdb", "2001:db8::1", None, "joe").allowed
    assert look_up(text, tmp_path / "cdb", "2001:db8::1", None, "bill").allowed


@pytest.mark.parametrize(
    "line",
    [
        "10.0.0.0/33:deny",
        "10.0.0.256/8:deny",
        "1.2.3.4.5/8:deny",
        "10/:deny",
        "10.0.0.0/8x:deny",
        "2001:db8::/129:deny",
        "2001:db8::/x:deny",
        "2001:db8::g:deny",
        "joe@2001:db8::/32:deny",
        "::deny",
        "2001:db8::1:permit",
        "2001:db8::1:allow,A",
    ],
)
def test_a_network_or_ipv6_address_that_is_none_is_refused(line: str) -> None:
    with pytest.raises(rules.BadRule) as bad:
        compiled(line.encode())
    assert bad.value.line == line.encode()


addresses4 = st.binary(min_size=4, max_size=4)
addresses6 = st.binary(min_size=16, max_size=16)


@given(st.one_of(addresses4, addresses6), st.data())
def test_a_network_has_the_keys_of_its_addresses_and_no_other(packed: bytes, data: st.DataObject) -> None:
    size = 8 * len(packed)
    length = data.draw(st.integers(0, size))
    other = data.draw(st.binary(min_size=len(packed), max_size=len(packed)))
    inside = (int.from_bytes(packed, "big") ^ int.from_bytes(other, "big")) >> (size - length) == 0
    assert rules.network_key(other, size).startswith(rules.network_key(packed, length)) == inside


@given(st.one_of(addresses4, addresses6), st.data())
def test_a_printed_key_compiles_to_itself(packed: bytes, data: st.DataObject) -> None:
    if packed.startswith(bytes(10) + b"\xff\xff"):
        return
    key = rules.network_key(packed, data.draw(st.integers(0, 8 * len(packed))))
    line = rules.printable_key(key).encode() + b":allow"
    assert rules.records(line, rules.Instructions()) == [(key, b"")]
    key = rules.address_key(packed)
    assert rules.records(rules.printable_key(key).encode() + b":deny", rules.Instructions()) == [
        (key, b"D\0")
    ]


def test_it_says_which_rule_applied_and_why(tmp_path: Path) -> None:
    text = b"192.168.0.0/16:deny\n"
    assert (
        look_up(text, tmp_path / "c", "192.168.1.1").explain() == "rule 192.168.0.0/16: deny, by its network"
    )
    assert look_up(text, tmp_path / "c", "10.1.1.1").explain() == "no rule applies, so allow"


def test_a_file_that_is_replaced_or_rewritten_is_read_afresh(tmp_path: Path) -> None:
    path = tmp_path / "cdb"
    path.write_bytes(compiled(b"10.:deny\n"))
    found = rules.Rules(str(path))
    assert not found.look_up("10.1.1.1").allowed
    (tmp_path / "new").write_bytes(compiled(b"10.0.0.0/8:allow\n"))
    (tmp_path / "new").rename(path)
    assert found.look_up("10.1.1.1").why == "its network"
    with path.open("r+b") as file:
        file.truncate(100)
    with pytest.raises(OSError, match="too short"):
        found.look_up("10.1.1.1")
    path.unlink()
    with pytest.raises(FileNotFoundError):
        found.look_up("10.1.1.1")
    path.write_bytes(compiled(b'10.:allow,A="b"\n'))
    assert found.look_up("10.1.1.1").variables == [(b"A", b"b")]
    assert found.mention(b"A")
    assert not found.mention(b"B")
    found.close()


@given(
    st.text(max_size=30),
    st.one_of(st.none(), st.text(max_size=30)),
    st.one_of(st.none(), st.text(max_size=30)),
)
def test_any_connection_has_candidates_and_the_last_is_the_default(
    ip: str, host: str | None, info: str | None
) -> None:
    tried = list(rules.candidates(ip.replace("\0", ""), host, info))
    assert tried[-1] == (b"", "default")
    assert len(tried) < 400
