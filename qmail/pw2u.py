"""qmail-pw2u(8): make users/assign of /etc/passwd.

SYNOPSIS   qmail-pw2u [ -/ohHuUC ] [ -c char ] < /etc/passwd > users/assign

OPTIONS    -o    leave out users who do not own their home directory, or
                 whose home directory does not exist (default)
           -h    stop at a home directory that does not exist
           -H    do not look at home directories
           -u    take users whose names have upper case
           -U    leave them out (default)
           -c c  user, and all that begins with user and the character c (-)
           -C    user alone
           -/    look for .qmail/ext where .qmail-ext is looked for otherwise
DESCRIPTION
           Root is left out, and what is nobody's is the user alias's.
EXIT       0: done.  100: misuse.  111: trouble, or there is no user alias;
           what has been written is not complete then.
FILES      users/include: the only users to take, if it exists
           users/exclude: users to leave out
           users/mailnames: lines `user:name1:name2:...`, names in place of the user's
           users/subusers: lines `sub:user:pre:`, user's .qmail-pre for the address sub
           users/append: lines to add at the end
"""

from __future__ import annotations

import os

from qmail import control, home
from supervise.durable import write_all
from supervise.numbers import leading_number
from supervise.options import BadOption, Options
from supervise.program import PERMANENT, Fatal, program, say

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

ALIAS = b"alias"
OWN, MUST_EXIST, ANY = "o", "h", "H"
ENOUGH = 64 * 1024  # bytes to write at once
UPPER = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ"


class Settings:
    """What the options say."""

    def __init__(self) -> None:
        self.homes = OWN
        self.upper = False
        self.dash = b"-"
        self.separator = b"-"  # between a user and what follows him; empty: nothing may

    def set(self, letter: str, argument: str) -> None:
        if letter in (OWN, MUST_EXIST, ANY):
            self.homes = letter
        elif letter in "uU":
            self.upper = letter == "u"
        elif letter == "/":
            self.dash = b"-/"
        else:
            self.separator = os.fsencode(argument)[:1]


@program("qmail-pw2u")
def main(argv: Sequence[str]) -> int:
    settings = Settings()
    try:
        for letter, argument in Options(argv, "/ohHuUc:C"):
            settings.set(letter, argument)
    except BadOption as error:
        say(f"qmail-pw2u: {error}")
        return PERMANENT
    try:
        os.chdir(home.find())
    except OSError as error:
        raise Fatal("unable to chdir") from error
    output = _Output()
    assignments = Assignments(settings, _Lists())
    for lines in (assignments.of_accounts(_passwd()), assignments.of_others()):
        for line in lines:
            output.put(line)
        output.flush()  # an error before this, and nothing of it is shown, as ever
    return 0


class _Lists:
    """The files in users/ that say more."""

    def __init__(self) -> None:
        try:
            self.include = self._set("include")
            self.exclude = self._set("exclude") or frozenset()
            self.mailnames = control.lookup_table(self._lines("mailnames") or ())
            self.subusers = control.read_file("users/subusers")
            self.append = control.read_file("users/append") or b""
        except OSError as error:
            raise Fatal("unable to read controls") from error

    def _lines(self, name: str) -> list[bytes] | None:
        content = control.read_file(f"users/{name}")
        return None if content is None else control.significant(content)

    def _set(self, name: str) -> frozenset[bytes] | None:
        lines = self._lines(name)
        return None if lines is None else control.lookup_set(lines)


def _passwd() -> Iterator[bytes]:
    try:
        with os.fdopen(0, "rb", closefd=False) as file:
            yield from file
    except OSError as error:
        raise Fatal("unable to read input") from error


class _Output:
    """Lines for descriptor 1."""

    def __init__(self) -> None:
        self._waiting: list[bytes] = []
        self._size = 0

    def put(self, line: bytes) -> None:
        self._waiting.append(line)
        self._size += len(line)
        if self._size > ENOUGH:
            self.flush()

    def flush(self) -> None:
        data = b"".join(self._waiting)
        self._waiting, self._size = [], 0
        try:
            write_all(1, data)
        except OSError as error:
            raise Fatal("unable to write output") from error


class Assignments:
    """Makes lines of users/assign."""

    def __init__(self, settings: Settings, lists: _Lists) -> None:
        self._settings = settings
        self._lists = lists
        self._users: dict[bytes, bytes] = {}  # by name: `:user:uid:gid:home:`

    def of_accounts(self, passwd: Iterable[bytes]) -> Iterator[bytes]:
        """The lines made of those of /etc/passwd."""
        for line in passwd:
            yield from self._account(line)

    def of_others(self) -> Iterator[bytes]:
        """The lines that follow those of the accounts."""
        if ALIAS not in self._users:
            raise Fatal("unable to find alias user")
        for line in (self._lists.subusers or b"").split(b"\n"):
            yield from self._subuser(line)
        yield self._lists.append
        yield b".\n"

    def _account(self, line: bytes) -> Iterator[bytes]:
        fields = line.removesuffix(b"\n").split(b":")
        if b"\0" in line or len(fields) < 7:
            return
        name, _, uid, gid, _, directory = fields[:6]
        number = leading_number(uid)
        if not number or not self._wanted(name) or not self._at_home(number, directory):
            return
        account = b":%b:%b:%b:%b:" % (name, uid, gid, directory)
        self._users[name.lower()] = account
        if name == ALIAS:
            yield b"+%b%b::\n" % (account, self._settings.dash)
        for mailname in self._lists.mailnames.get(name.lower(), name).split(b":"):
            if mailname:
                yield from self._names(mailname, account)

    def _names(self, mailname: bytes, account: bytes) -> Iterator[bytes]:
        yield b"=%b%b::\n" % (mailname, account)
        if self._settings.separator:
            yield b"+%b%b%b%b::\n" % (mailname, self._settings.separator, account, self._settings.dash)

    def _wanted(self, name: bytes) -> bool:
        if not self._settings.upper and any(letter in UPPER for letter in name):
            return False
        key = name.lower()
        if self._lists.include is not None and key not in self._lists.include:
            return False
        return key not in self._lists.exclude

    def _at_home(self, uid: int, directory: bytes) -> bool:
        """Is the home directory one that counts?"""
        if self._settings.homes == ANY:
            return True
        try:
            return os.stat(directory).st_uid == uid
        except OSError as error:
            if self._settings.homes == OWN and isinstance(error, FileNotFoundError):
                return False
            raise Fatal(f"unable to stat {os.fsdecode(directory)}") from error

    def _subuser(self, line: bytes) -> Iterator[bytes]:
        fields = line.split(b":")
        if len(fields) < 3:
            return
        sub, user, pre = fields[:3]
        account = self._users.get(user.lower())
        if account is None:
            raise Fatal(f"unable to find {os.fsdecode(user)} user for subuser")
        if len(fields) < 4:
            return
        dash, separator = self._settings.dash, self._settings.separator
        yield b"=%b%b%b:%b:\n" % (sub, account, dash, pre)
        if separator:
            yield b"+%b%b%b%b:%b-:\n" % (sub, separator, account, dash, pre)
