"""supervise(8): starts a service and monitors it.

SYNOPSIS   supervise dir

DESCRIPTION
    Runs dir/run, and runs it again whenever it ends.  Each time it pauses for
    a second first, so as not to loop too quickly.  If there is a file
    dir/down, it waits for svc to say so first.

    If the last supervise was killed and the service still runs, it is not
    started a second time: supervise goes on with it as it is.

EXTENSIONS
    If there is a file dir/extended when supervise starts, these count, too;
    each is looked at when it is needed:

    start            a program: it is run before the first run, and after svc
                     -u.  If it does not exit 0 the service has failed and is
                     down.
    finish           a program: it is run whenever ./run has ended, with its
                     exit code (256 if it was killed), the signal (or 0) and
                     dir as arguments.  If it exits 125 the service has failed.
    stop             a program: it is run once the service is down for good
    notify           a program: it is run, not waited for, whenever one of the
                     others or ./run starts or ends.  Arguments: its name;
                     start, exit or killed; the pid; exit code, signal or 0.
    backoff          a number of seconds: if ./run keeps ending within ten
                     seconds, wait 1, 2, 4... seconds, and at most so many,
                     before it is run again.  svc -u ends the wait.
    timeout-kill     a number of milliseconds: so long after the TERM of svc -d
                     send KILL
    notification-fd  the number of a descriptor: ./run is ready as soon as it
                     has written a newline there
    notify-socket    (empty) ./run finds a socket in NOTIFY_SOCKET, and is
                     ready once it, or a child, has sent READY=1 (sd_notify)

    A ./run that exits 100 has failed: it is not run again until svc says so.

SIGNALS    TERM, INT: as svc -dx.

EXIT       0: svc -x, or TERM or INT came, and the service is down.
           100: bad usage.  111: a problem with the directory, such as another
           supervise that runs there.

FILES      dir/run; dir/down; in dir/supervise: lock, control, ok and status,
           and for an extended service `details`
"""

from __future__ import annotations

import errno
import os
import select
import time

from supervise import adoption, chain
from supervise.errors import reason
from supervise.lifecycle import Event, Phase, State, Want, step
from supervise.program import Usage, program, say, unable_to
from supervise.service_directory import ServiceDirectory
from supervise.signals import SignalPipe
from supervise.status import Status, normally_up

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from collections.abc import Iterable, Sequence
    from typing import Protocol

    class Habits(Protocol):
        """How a service is run, beyond what the life cycle says."""

        def argv(self, phase: Phase) -> list[str] | None:
            """What is to run in `phase`; None if there is no such script."""

        def spawn(self, phase: Phase, argv: Sequence[str], /) -> int:
            """Start it and return its pid.  OSError."""

        def adopt(self, record: Status, /) -> None:
            """Take notice that ./run already runs, as another supervise has started it."""

        def ended(self, phase: Phase, pid: int, status: int, /) -> Event:
            """Take notice of its end: ENDED or FAILED."""

        def rest(self) -> float:
            """How many seconds to wait before the next start."""

        def pause(self, seconds: float) -> None:
            """Let time pass after a start."""

        def fileno(self) -> int:
            """Readable when `heed` has something to do; -1 if it never has."""

        def heed(self) -> None:
            """Take notice of what the service says."""

        def announce(self, state: State, changed: int, next_start: float, /) -> None:
            """Tell others how the service is, beside the status record."""

        @property
        def kill_after(self) -> float | None:
            """Seconds from TERM to KILL."""
else:
    import _signal as signal  # the same without enums, which cost time and memory

ENDING = (signal.SIGTERM, signal.SIGINT)
COMMANDS = {"u": Event.UP, "d": Event.DOWN, "o": Event.ONCE, "x": Event.LEAVE}
SIGNALS = {
    "a": signal.SIGALRM,
    "h": signal.SIGHUP,
    "i": signal.SIGINT,
    "k": signal.SIGKILL,
    "t": signal.SIGTERM,
}
LETTERS = {Want.UP: "u", Want.DOWN: "d"}  # in the status record
WANTS = {"u": Want.UP, "d": Want.DOWN}
SERVING = (Phase.STARTING, Phase.UP)  # the service counts as up
IDLE = (Phase.DOWN, Phase.RESTING)
PACE = 1.0  # seconds to pause after a start of ./run, whatever happens
PATIENCE = 60.0  # seconds to wait when there is no fork
NO_FORK = (errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE)
UNKNOWN = 0  # the wait status of what is nobody's child
COULD_NOT_RUN = 111 << 8  # as a wait status


@program("supervise", resident=True)
def main(argv: Sequence[str]) -> int:
    if len(argv) != 1:
        raise Usage("supervise dir")
    (name,) = argv
    with unable_to(f"create pipe for {name}"):
        signals = SignalPipe([signal.SIGCHLD, *heeded(ENDING)])
    with signals:
        with unable_to(f"chdir to {name}"):
            os.chdir(name)
        with unable_to(f"stat {name}/down"):
            want = Want.UP if normally_up() else Want.DOWN
        with ServiceDirectory(name) as directory:
            if not os.access("extended", os.F_OK):
                Supervisor(directory, signals, want, Plain()).watch()
                return 0
            from supervise.extended import Extended

            with Extended(directory) as extended:
                Supervisor(directory, signals, want, extended).watch()
    return 0


def heeded(signals: Iterable[signal.Signals]) -> list[signal.Signals]:
    """Those that are not ignored, which is left to be inherited."""
    return [number for number in signals if signal.getsignal(number) is not signal.SIG_IGN]


class Plain:
    """The habits of a service without extensions: there is ./run, and that is all."""

    kill_after = None

    def argv(self, phase: Phase) -> list[str] | None:
        return ["./run"] if phase is Phase.UP else None

    def spawn(self, _phase: Phase, argv: Sequence[str]) -> int:
        return chain.spawn(argv)

    def adopt(self, _record: Status) -> None:
        pass

    def ended(self, _phase: Phase, _pid: int, _status: int) -> Event:
        return Event.ENDED

    def rest(self) -> float:
        return 0.0

    def pause(self, seconds: float) -> None:
        time.sleep(seconds)

    def fileno(self) -> int:
        return -1

    def heed(self) -> None:
        pass

    def announce(self, _state: State, _changed: int, _next_start: float) -> None:
        pass


class Supervisor:
    """One service: its state, and the process that runs for it."""

    def __init__(self, directory: ServiceDirectory, signals: SignalPipe, want: Want, habits: Habits) -> None:
        self.directory = directory
        self.signals = signals
        self.habits = habits
        self.state = State(Phase.RESTING if want is Want.UP else Phase.DOWN, want)
        self.child = 0  # pid of the script that runs
        self.orphan = -1  # a pidfd, if the service is another supervise's child
        self.paused = False
        self.changed = time.time_ns()  # when the service went up or down
        self.start_at = 0.0  # monotonic; earlier it may not start
        self.pause_until = 0.0  # monotonic; earlier nothing is taken notice of
        self.kill_at: float | None = None  # monotonic

    def watch(self) -> None:
        """Keep the service as it is wanted, until told to leave."""
        self.adopt()
        try:
            self._watch()
        finally:
            self.release()

    def adopt(self) -> None:
        """Go on with the service of a supervise that was killed, if there is one."""
        found = adoption.survivor()
        if found:
            record, self.orphan = found
            self.child, self.paused, self.changed = record.pid, record.paused, record.when
            self.state = State(Phase.UP, WANTS.get(record.want, Want.ONCE))
            self.habits.adopt(record)

    def release(self) -> None:
        if self.orphan >= 0:
            os.close(self.orphan)
        self.orphan = -1

    def _watch(self) -> None:
        self.announce()
        self.directory.admit()
        poll = select.poll()
        for readable in (self.signals.fileno(), self.directory.control, self.habits.fileno(), self.orphan):
            if readable >= 0:
                poll.register(readable, select.POLLIN)
        while not self.state.over:
            self.keep_time()
            self.announce()
            self.pause()
            happened = poll.poll(self.milliseconds())
            if self.orphan >= 0 and (self.orphan, select.POLLIN) in happened:
                poll.unregister(self.orphan)
                self.release()
                self.ended(self.child, UNKNOWN)
            self.habits.heed()
            self.heed_signals()
            self.reap()
            self.obey()
        self.announce()

    def announce(self) -> None:
        pid = self.child if self.state.phase in SERVING else 0
        self.habits.announce(self.state, self.changed, self.start_at)
        self.directory.announce(Status(self.changed, pid, self.paused, LETTERS.get(self.state.want, "")))

    def pause(self) -> None:
        """Let what was started be for a while; so a service that ends at once is no busy loop."""
        left = self.pause_until - time.monotonic()
        if left > 0:
            self.habits.pause(left)

    def milliseconds(self) -> float | None:
        """How long there is nothing to do unless something happens."""
        moments = [self.kill_at] if self.kill_at else []
        if self.state.phase is Phase.RESTING:
            moments.append(self.start_at)
        return max(0.0, min(moments) - time.monotonic()) * 1000 + 1 if moments else None

    def keep_time(self) -> None:
        """Do what the clock says."""
        if self.state.phase is Phase.RESTING and time.monotonic() >= self.start_at:
            self.feed(Event.RESTED)
        if self.kill_at and time.monotonic() >= self.kill_at:
            self.kill_at = None
            self.kill(signal.SIGKILL)

    def heed_signals(self) -> None:
        if self.signals.arrived() & set(ENDING):
            self.feed(Event.DOWN)
            self.feed(Event.LEAVE)

    def obey(self) -> None:
        """Carry out what svc has asked for."""
        for command in self.directory.commands().decode("latin-1"):
            if self.state.over:
                return
            if command in COMMANDS:
                self.feed(COMMANDS[command])
            elif command in SIGNALS:
                self.kill(SIGNALS[command])
            elif command in "pc":
                self.paused = command == "p"
                self.kill(signal.SIGSTOP if self.paused else signal.SIGCONT)

    def kill(self, number: signal.Signals) -> None:
        if self.orphan >= 0:
            try:
                signal.pidfd_send_signal(self.orphan, number)
            except ProcessLookupError:  # poll is about to say so
                pass
        elif self.child:
            os.kill(self.child, number)

    def reap(self) -> None:
        """Take notice of every child that has ended."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            if pid == self.child and self.orphan < 0:
                self.ended(pid, status)

    def ended(self, pid: int, status: int) -> None:
        """The script that ran in this phase is over."""
        if self.state.phase in SERVING:
            self.changed = time.time_ns()
        self.child = 0
        self.kill_at = None
        self.feed(self.habits.ended(self.state.phase, pid, status))

    def feed(self, event: Event) -> None:
        """Let `event` change the state, and do what follows from it."""
        old, self.state = self.state, step(self.state, event)
        if event is Event.UP:
            self.start_at = 0.0
        if event is Event.DOWN and old.phase in SERVING:
            self.terminate()
        if self.state.phase is old.phase:
            return
        if self.state.phase not in IDLE:
            self.run()
        elif event is not Event.NO_FORK:
            self.start_at = time.monotonic() + self.habits.rest()

    def terminate(self) -> None:
        self.kill(signal.SIGTERM)
        self.kill(signal.SIGCONT)
        self.paused = False
        if self.habits.kill_after is not None and self.kill_at is None:
            self.kill_at = time.monotonic() + self.habits.kill_after

    def run(self) -> None:
        """Start the script of the new phase; one that is not there has run well."""
        phase = self.state.phase
        argv = self.habits.argv(phase)
        if not argv:
            self.feed(Event.ENDED)
            return
        self.paused = False
        if phase is Phase.UP:
            self.pause_until = time.monotonic() + PACE
        try:
            self.child = self.habits.spawn(phase, argv)
            if phase in SERVING:
                self.changed = time.time_ns()
        except OSError as error:
            self.could_not_run(argv[0], error)

    def could_not_run(self, script: str, error: OSError) -> None:
        name = self.directory.name
        if error.errno in NO_FORK and self.state.phase in SERVING:
            self.pause_until, self.start_at = 0.0, time.monotonic() + PATIENCE
            self.directory.warn(f"unable to fork for {name}, sleeping 60 seconds: {reason(error)}")
            self.feed(Event.NO_FORK)
        else:  # as if it had been started, and had ended so
            say(f"supervise: fatal: unable to start {name}{script[1:]}: {reason(error)}")
            self.ended(0, COULD_NOT_RUN)
