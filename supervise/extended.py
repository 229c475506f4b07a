"""What supervise does for a service that has the file `extended`; supervise(8) tells of its files.

The scripts and `notify` are daemontools-encore's, `finish` and the timeouts
are as in runit and s6, readiness is s6's notification-fd or systemd's
sd_notify(3).
"""

from __future__ import annotations

import os
import select
import time

from supervise import children, details
from supervise.details import Details
from supervise.errors import reason
from supervise.readiness import Newline, NotifySocket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from supervise.lifecycle import Event, Phase, State
    from supervise.service_directory import ServiceDirectory
    from supervise.status import Status

SCRIPTS = {"starting": "start", "up": "run", "finishing": "finish", "stopping": "stop"}
STEADY = 10.0  # seconds; a run as long as this has not failed to start
LONGEST_WAIT = 60.0  # seconds of back-off, if the file does not say
RUN_FAILED = 100  # exit codes that mean: not again
FINISH_FAILED = 125
HIGHEST_DESCRIPTOR = 255
KILLED = 256  # in place of an exit code, for ./finish


class Extended:
    """The habits of a service with extensions, in the present directory."""

    def __init__(self, directory: ServiceDirectory) -> None:
        self._directory = directory
        self._said = select.epoll()
        self._newline = Newline()
        self._socket: NotifySocket | None = None
        self._details = Details(0)
        self._written = b""
        self._fresh = True  # ./start is to be run before ./run
        self._run_pid = 0
        self._started = 0.0  # monotonic; the last ./run
        self._end = (0, 0)  # how it ended, for ./finish
        self._failures = 0  # runs in a row that ended too soon

    def descriptors(self) -> list[int]:
        return [self._said.fileno()]

    def close(self) -> None:
        self._newline.close()
        if self._socket:
            self._socket.close()
        self._said.close()

    def argv(self, phase: Phase) -> tuple[str, ...] | None:
        if phase == "up":
            return ("./run",)
        if phase in ("starting", "stopping") and self._fresh != (phase == "starting"):
            return None
        script = f"./{SCRIPTS[phase]}"
        is_there = _is_program(script)
        if phase == "stopping" or not is_there:
            self._fresh = phase == "stopping"
        if not is_there:
            return None
        if phase == "finishing":
            return script, *map(str, self._end), self._directory.name
        return (script,)

    def spawn(self, phase: Phase, argv: tuple[str, ...]) -> int:
        if phase != "up":
            pid = children.spawn(argv)
        else:
            self._started = time.monotonic()
            pid = self._run_pid = self._spawn_run(argv)
        if phase == "starting":
            self._fresh = False
        self._details.failed = False
        self._notify(phase, "start", pid, 0)
        return pid

    def adopt(self, record: Status) -> Phase:
        self._details = details.read(record.when) or details.plain(record)
        if self._details.phase == "starting":
            return "starting"
        self._run_pid = record.pid
        self._fresh = False
        return "up"

    def _spawn_run(self, argv: Sequence[str]) -> int:
        env, asks = dict(os.environ), os.path.exists("notify-socket")
        if asks:
            env["NOTIFY_SOCKET"] = self._open_socket().name
        number = self._number("notification-fd")
        if number is None:
            pid = children.spawn(argv, env)
            self._details.ready_since = None if asks else time.time_ns()  # nobody will say
            return pid
        write = self._newline.open()
        self._said.register(self._newline, select.EPOLLIN)
        try:
            return children.spawn(argv, env, {min(int(number), HIGHEST_DESCRIPTOR): write})
        finally:
            os.close(write)

    def _open_socket(self) -> NotifySocket:
        if not self._socket:
            self._socket = NotifySocket()
            self._said.register(self._socket, select.EPOLLIN)
        return self._socket

    def ended(self, phase: Phase, pid: int, status: int | None) -> Event:
        if status is None and phase == "starting":
            return "no fork"  # to be run again, since nobody knows whether it has done its work
        code, number = _how(status or 0)
        if pid:
            self._notify(phase, "killed" if number else "exit", pid, number or code)
        if phase == "up":
            self._end = (KILLED if number else code), number
            self._details.last_end = _told(status)
            self._details.ready_since = None
            self._details.remark = ""
            self._run_pid = 0
            self._newline.close()
            short = time.monotonic() - self._started < STEADY
            self._failures = self._failures + 1 if short else 0
        failed = {
            "starting": (code, number) != (0, 0),
            "up": not number and code == RUN_FAILED,
            "finishing": not number and code == FINISH_FAILED,
        }
        if not failed.get(phase):
            return "ended"
        if phase == "starting":
            self._fresh = True
        self._details.failed = True
        return "failed"

    def rest(self) -> float:
        """The back-off before the next start: 1, 2, 4... seconds, if there is to be one."""
        longest = self._number("backoff", LONGEST_WAIT)
        if longest is None or not self._failures:
            return 0.0
        return min(2.0 ** min(self._failures - 1, 30), longest)

    @property
    def kill_after(self) -> float | None:
        milliseconds = self._number("timeout-kill")
        return milliseconds / 1000 if milliseconds else None

    def pause(self, seconds: float) -> None:
        """Let time pass; but what the service says of itself counts at once."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            if self._said.poll(left):
                self.heed()
                self._write()

    def fileno(self) -> int:
        return self._said.fileno()

    def heed(self) -> None:
        """Take notice of what the service says of itself."""
        said = self._socket.heed(self._run_pid) if self._socket else {}
        if self._newline.heed() or said.get("READY") == "1":
            self._details.ready_since = self._details.ready_since or time.time_ns()
        if said.get("STOPPING") == "1":
            self._details.ready_since = None
        self._details.remark = said.get("STATUS", self._details.remark)

    def announce(self, state: State, changed: int, next_start: float) -> None:
        waits = state.phase == "waiting"
        self._details.changed = changed
        self._details.phase = state.phase
        wait = int((next_start - time.monotonic()) * 1e9)
        self._details.starts_at = time.time_ns() + wait if waits and wait > 0 else None
        self._write()

    def _write(self) -> None:
        content = self._details.pack()
        if content == self._written:
            return
        try:
            details.write(self._details)
            self._written = content
        except OSError as error:
            name = self._directory.name
            self._directory.warn(f"unable to write {name}/{details.FILE}: {reason(error)}")

    def _notify(self, phase: Phase, what: str, pid: int, code: int) -> None:
        """Run ./notify; supervise reaps it as it does any stranger."""
        if not _is_program("./notify"):
            return
        try:
            children.spawn(["./notify", SCRIPTS[phase], what, str(pid), str(code)])
        except OSError as error:
            self._directory.warn(f"unable to run {self._directory.name}/notify: {reason(error)}")

    def _number(self, file: str, default: float | None = None) -> float | None:
        """The number in `file`; `default` if it is empty, None if there is none or it makes no sense."""
        try:
            with open(file, encoding="ascii") as content:
                text = content.read(100).strip()
            number = float(text) if text else default
        except FileNotFoundError:
            return None
        except (OSError, ValueError):
            self._directory.warn(f"unable to read a number from {self._directory.name}/{file}")
            return None
        return number if number is not None and 0 <= number < float("inf") else None


def _is_program(path: str) -> bool:
    return os.path.isfile(path) and os.access(path, os.X_OK)


def _told(status: int | None) -> str:
    """How a run ended, for the details."""
    if status is None:
        return "unknown"
    code, number = _how(status)
    return f"signal {number}" if number else f"exit {code}"


def _how(status: int) -> tuple[int, int]:
    """A wait status as exit code and signal, one of them 0."""
    if os.WIFSIGNALED(status):
        return 0, os.WTERMSIG(status)
    return os.WEXITSTATUS(status), 0
