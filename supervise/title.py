"""What `ps`, `pgrep` and `svstat` show for a process that exec did not name."""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import ModuleType


def show(argv: Sequence[str]) -> None:
    """Show `argv` as the command line, and the name's last part as the command."""
    for call, words in steps(argv):
        call(*words)


def steps(argv: Sequence[str]) -> list[tuple[Callable[..., object], tuple[str]]]:
    """The calls that show `argv`, perhaps to be made by a child of this process."""
    module = load()
    words, name = " ".join(argv), argv[0].rpartition("/")[2]
    try:
        words.encode()
    except UnicodeEncodeError:  # names are bytes; a title is text
        words = words.encode("utf-8", "replace").decode()
        name = name.encode("utf-8", "replace").decode()
    return [(module.setproctitle, (words,)), (module.setthreadtitle, (name,))]


def load() -> ModuleType:
    """The C module of setproctitle without the package around it, which imports logging: 15 ms."""
    if "_setproctitle" in sys.modules:
        return sys.modules["_setproctitle"]
    from importlib.machinery import PathFinder

    package = PathFinder.find_spec("setproctitle")
    places = package.submodule_search_locations if package else None
    spec = PathFinder.find_spec("_setproctitle", places)
    if not spec or not spec.loader:
        import setproctitle

        return setproctitle
    module = spec.loader.create_module(spec)
    assert module
    spec.loader.exec_module(module)
    try:
        module.getproctitle()  # prepares what would crash if memory were short later
    except UnicodeDecodeError:  # the arguments are bytes; it is prepared all the same
        pass
    sys.modules["_setproctitle"] = module
    return module
