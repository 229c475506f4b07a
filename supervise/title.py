"""What `ps`, `pgrep` and `svstat` show for a process that exec did not name."""

from __future__ import annotations

import os

from setproctitle import setproctitle, setthreadtitle

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


def show(argv: Sequence[str]) -> None:
    """Show `argv` as the command line, and the name's last part as the command."""
    setproctitle(" ".join(argv))
    setthreadtitle(os.path.basename(argv[0]))
