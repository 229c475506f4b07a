"""users/assign, users/cdb and qmail-getpw agree on whose mail an address is."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from programs import BIN, environment, resolved, run
from queues import MailHome, make_home
from traces import needs_strace, strace

from qmail import newu
from qmail.spawning import users_cdb
from qmail.spawning.users_cdb import Assignment, Incomplete
from supervise.program import Fatal

FIELDS = b"joe:1:2:/h:-:pre:"
names = st.lists(st.sampled_from([b"a", b"B", b"-", b"+", b".", b"\xe9"]), max_size=5).map(b"".join)
assigns = st.lists(
    st.tuples(st.just(b"="), names) | st.tuples(st.just(b"+"), names.map(bytes.lower)), max_size=8
)
"""A wildcard that ends in upper case matches nothing, as in the original."""


class Compiled:
    """users/cdb in memory: of several records under a key the first."""

    def __init__(self, lines: list[bytes]) -> None:
        keys, datas = newu.compiled(lines)
        self._table = dict(reversed(list(zip(keys, datas, strict=True))))

    def find(self, key: bytes) -> bytes | None:
        return self._table.get(key)


def by_definition(assigned: list[tuple[bytes, bytes]], local: bytes) -> tuple[int, bytes] | None:
    """The number of the line that `local` belongs to, and its ext, by qmail-users(5)."""
    for number, (kind, name) in enumerate(assigned):
        if kind == b"=" and name.lower() == local.lower():
            return number, b"pre"
    best: tuple[int, int] | None = None
    for number, (kind, name) in enumerate(assigned):
        if kind == b"+" and local.lower().startswith(name.lower()) and (best is None or len(name) > best[0]):
            best = len(name), number
    return (best[1], b"pre" + local[best[0] :]) if best else None


@given(assigns, names)
def test_an_address_belongs_to_the_exact_line_or_else_to_the_longest_beginning(
    assigned: list[tuple[bytes, bytes]], local: bytes
) -> None:
    lines = [b"%b%b:u%d:1:2:/h:-:pre:\n" % (kind, name, at) for at, (kind, name) in enumerate(assigned)]
    found = users_cdb.find(Compiled(lines), local)
    expected = by_definition(assigned, local)
    if expected is None:
        assert found is None
    else:
        number, ext = expected
        assert found is not None
        assert users_cdb.parse(found) == Assignment(b"u%d" % number, 1, 2, b"/h", b"-", ext)


def test_a_table_without_the_ends_of_wildcards_is_no_users_cdb() -> None:
    class Empty:
        def find(self, key: bytes) -> bytes | None:
            return None

    with pytest.raises(LookupError):
        users_cdb.find(Empty(), b"joe")


@pytest.mark.parametrize("fields", [b"", b"joe", b"joe\x001\x002\0/h\0-", b"joe\x001\x002\0/h\0-\0ext"])
def test_an_assignment_that_lacks_a_field_is_incomplete(fields: bytes) -> None:
    with pytest.raises(Incomplete):
        users_cdb.parse(fields)


@given(st.binary())
def test_no_fields_are_too_wild(fields: bytes) -> None:
    try:
        found = users_cdb.parse(fields)
    except Incomplete:
        assert fields.count(b"\0") < 6
    else:
        assert 0 <= found.uid < 1 << 32
        assert b"\0" not in found.ext


@pytest.mark.parametrize(
    "line",
    [
        b"\n",
        b":\n",
        b":a:1:2:/:::\n",
        b"=a:b\n",
        b"=a:b:1:2:/::\n",
        b"=a\0:" + FIELDS + b"\n",
        b"=a:" + FIELDS,
    ],
)
def test_a_line_that_makes_no_sense_stops_the_compiler(line: bytes) -> None:
    with pytest.raises(Fatal, match=r"^bad format in users/assign$"):
        newu.compiled([line])


@pytest.fixture
def home(tmp_path: Path) -> MailHome:
    made = make_home(tmp_path / "mail")
    (made.path / "users").mkdir()
    (made.path / "users/assign").write_text("=joe:joe:1:2:/home/joe:::\n.\n")
    return made


@needs_strace
@pytest.mark.parametrize("fault", ["fsync:error=EIO:when=1", "write:error=ENOSPC:when=1", "rename:error=EIO"])
def test_a_fault_leaves_the_old_table(home: MailHome, tmp_path: Path, fault: str) -> None:
    table = home.path / "users/cdb"
    table.write_bytes(b"old")
    done = strace(tmp_path / "trace", ["qmail-newu"], f"--inject={fault}", env=home.environment())
    assert (done.code, done.injected) == (111, 1)
    assert done.stderr.startswith(b"qmail-newu: fatal: unable to ")
    assert table.read_bytes() == b"old"


@needs_strace
def test_the_new_table_is_on_disk_before_its_name(home: MailHome, tmp_path: Path) -> None:
    done = strace(tmp_path / "trace", ["qmail-newu"], env=home.environment())
    assert done.code == 0
    steps = [r"^fsync\(\d+</.*/cdb.tmp>", r"^rename\(", r"^fsync\(\d+</.*/users>"]
    assert done.order(*steps) == steps


# --- qmail-getpw, with accounts of the test's own


PASSWD = """root:x:0:0::/root:/bin/sh
alias:x:7790:2108::{home}/alias:/bin/true
joe:x:1001:1002::{home}/joe:/bin/sh
joe-shop:x:1003:1002::{home}/shop:/bin/sh
stranger:x:1004:1002::{home}/joe:/bin/sh
homeless:x:1005:1002::{home}/none:/bin/sh
a23456789012345678901234567890x:x:1006:1002::{home}/long:/bin/sh
a234567890123456789012345678901x:x:1006:1002::{home}/long:/bin/sh
"""


def joe(ext: str = "") -> tuple[str, str, str]:
    return ("joe", "-", ext) if ext else ("joe", "", "")


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("unshare"), reason="needs root and unshare")
@pytest.mark.parametrize(
    ("local", "expected"),
    [
        ("joe", joe()),
        ("JOE-List.x", joe("List.x")),
        ("joe-", ("joe", "-", "")),
        ("joe-a-b", joe("a-b")),
        ("joe-shop", ("joe-shop", "", "")),
        ("joe-shop-x", ("joe-shop", "-", "x")),
        ("joe-shopping", joe("shopping")),
        ("root", ("alias", "-", "root")),
        ("stranger", ("alias", "-", "stranger")),
        ("homeless-x", ("alias", "-", "homeless-x")),
        ("nosuch", ("alias", "-", "nosuch")),
        ("", ("alias", "-", "")),
        ("-x", ("alias", "-", "-x")),
        ("joe+x", ("alias", "-", "joe+x")),
        ("a23456789012345678901234567890x", ("a23456789012345678901234567890x", "", "")),
        ("a234567890123456789012345678901x", ("alias", "-", "a234567890123456789012345678901x")),
    ],
)
def test_mail_is_the_users_or_else_aliases(
    tmp_path: Path, local: str, expected: tuple[str, str, str]
) -> None:
    for name, uid in (("alias", 7790), ("joe", 1001), ("shop", 1003), ("long", 1006)):
        (tmp_path / name).mkdir()
        os.chown(tmp_path / name, uid, 1002)
    done = getpw(tmp_path, PASSWD.format(home=tmp_path), local)
    assert done.returncode == 0
    user, _, _, _, dash, ext, end = done.stdout.decode().split("\0")
    assert (user, dash, ext, end) == (*expected, "")


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("unshare"), reason="needs root and unshare")
def test_without_alias_there_is_nobody(tmp_path: Path) -> None:
    done = getpw(tmp_path, "root:x:0:0::/root:/bin/sh\n", "joe")
    assert (done.returncode, done.stdout) == (116, b"")


def getpw(place: Path, passwd: str, local: str) -> subprocess.CompletedProcess[bytes]:
    """Run qmail-getpw where `passwd` is /etc/passwd."""
    (place / "passwd").write_text(passwd)
    script = 'mount --bind "$1" /etc/passwd && shift && exec "$@"'
    program = resolved(["qmail-getpw", local])
    return run("unshare", "--mount", "sh", "-c", script, "sh", place / "passwd", *program)


def test_no_argument_is_misuse() -> None:
    done = run("qmail-getpw")
    assert (done.returncode, done.stdout, done.stderr) == (100, b"", b"")


# --- qmail-pw2u


def test_what_pw2u_writes_newu_compiles(home: MailHome) -> None:
    passwd = PASSWD.format(home="/h").encode()
    done = run("qmail-pw2u", "-H", stdin=passwd, env=home.environment())
    assert done.returncode == 0
    (home.path / "users/assign").write_bytes(done.stdout)
    assert run("qmail-newu", env=home.environment()).returncode == 0


@pytest.mark.parametrize(
    ("name", "content", "fatal"),
    [
        ("subusers", "web:nobody:x:\n", "unable to find nobody user for subuser"),
        ("include", None, "unable to read controls"),
        ("append", None, "unable to read controls"),
    ],
)
def test_pw2u_stops_at_what_it_cannot_use(home: MailHome, name: str, content: str | None, fatal: str) -> None:
    path = home.path / "users" / name
    if content is None:
        path.mkdir()
    else:
        path.write_text(content)
    done = run("qmail-pw2u", "-H", stdin=PASSWD.format(home="/h").encode(), env=home.environment())
    assert (done.returncode, done.stderr.decode()) == (111, f"qmail-pw2u: fatal: {fatal}\n")
    assert b"\n.\n" not in done.stdout


def test_pw2u_tells_of_output_that_nobody_takes(home: MailHome) -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [BIN / "qmail-pw2u", "-H"], input=PASSWD.encode(), stdout=full, stderr=subprocess.PIPE,
            env=environment(QMAILHOME=str(home.path)), check=False,
        )  # fmt: skip
    assert (done.returncode, done.stderr) == (111, b"qmail-pw2u: fatal: unable to write output\n")
