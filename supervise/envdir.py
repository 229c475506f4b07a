"""envdir(8): run a program with the environment changed by the files of a directory.

SYNOPSIS   envdir dir child ...
EXIT       the child's.  111: wrong usage, a file that cannot be read, or no child.
FILES      dir/NAME: its first line, without spaces and tabs at the end, is the value of $NAME, a NUL
           standing for a newline.  If it is empty (0 bytes), $NAME is removed.  Names that begin
           with a dot are passed over.

The child is looked up along the old PATH, even if dir/PATH changes it.
"""

from __future__ import annotations

import errno
import os

from supervise import chain
from supervise.program import TEMPORARY, Usage, program, unable_to

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

LONGEST = 128 * 1024
"""Bytes of a variable, its name included, that execve(2) lets pass."""


@program("envdir")
def main(argv: Sequence[str]) -> int:
    if len(argv) < 2:
        raise Usage("envdir dir child", TEMPORARY)
    directory, *child = argv
    env = dict(os.environ)
    with unable_to("switch to current directory"):
        start = os.open(".", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        _change(env, directory)
        with unable_to("switch to starting directory"):
            os.fchdir(start)
    finally:
        os.close(start)
    with unable_to(f"run {child[0]}"):
        if any(len(os.fsencode(name + value)) + 2 > LONGEST for name, value in env.items()):
            chain.find(child[0])  # if there is none, that is to be said
            raise OSError(errno.E2BIG, os.strerror(errno.E2BIG))
        chain.run(child, env)


def _change(env: dict[str, str], directory: str) -> None:
    """Do to `env` what the files in `directory` say, which is the working directory then."""
    with unable_to(f"switch to directory {directory}"):
        os.chdir(directory)
    with unable_to(f"read directory {directory}"):
        names = os.listdir(".")
    for name in names:
        if name.startswith("."):
            continue
        with unable_to(f"read {directory}/{name}"):
            content = _beginning(name)
        _set(env, name, content)


def _set(env: dict[str, str], name: str, content: bytes) -> None:
    """The environment is made of strings: what follows a "=" in the name is part of the value."""
    variable, equals, start = name.partition("=")
    value = content.partition(b"\n")[0].rstrip(b" \t").replace(b"\0", b"\n")
    env.pop(variable, None)
    if not variable:  # no program could ask for it
        return
    if content:
        env[variable] = (start + equals if equals else "") + os.fsdecode(value)
    elif equals:
        env[variable] = start


def _beginning(file: str) -> bytes:
    """The start of `file`, with its first line, or too long for a variable; nothing if there is no file."""
    try:
        fd = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return b""
    content = b""
    try:
        while b"\n" not in content and len(content) <= LONGEST:
            more = os.read(fd, LONGEST)
            if not more:
                break
            content += more
    finally:
        os.close(fd)
    return content
