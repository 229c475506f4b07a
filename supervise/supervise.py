"""supervise(8): starts a service and monitors it.

SYNOPSIS   supervise dir

DESCRIPTION
    Runs dir/run, and runs it again whenever it ends.  Each time it pauses for
    a second first, so as not to loop too quickly.  If there is a file
    dir/down, it waits for svc to say so first.

EXIT       0: svc -x, or TERM or INT came, and the service is down.
           100: bad usage.  111: a problem with the directory, such as another
           supervise that runs there.

FILES      dir/run; dir/down; in dir/supervise: lock, control, ok and status
"""

from __future__ import annotations

import errno
import os
import select
import signal
import time

from supervise import chain
from supervise.errors import reason
from supervise.lifecycle import Event, Phase, State, Want, step
from supervise.program import Usage, program, say, unable_to
from supervise.service_directory import ServiceDirectory
from supervise.signals import SignalPipe
from supervise.status import Status, normally_up

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

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
PACE = 1.0  # seconds to pause after a start of ./run, whatever happens
PATIENCE = 60.0  # seconds to wait when there is no fork
NO_FORK = (errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE)


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
            Supervisor(directory, signals, want).watch()
    return 0


def heeded(signals: Iterable[signal.Signals]) -> list[signal.Signals]:
    """Those that are not ignored, which is left to be inherited."""
    return [number for number in signals if signal.getsignal(number) is not signal.SIG_IGN]


class Supervisor:
    """One service: its state, and the process that runs for it."""

    def __init__(self, directory: ServiceDirectory, signals: SignalPipe, want: Want) -> None:
        self.directory = directory
        self.signals = signals
        self.state = State(Phase.RESTING if want is Want.UP else Phase.DOWN, want)
        self.pid = 0
        self.paused = False
        self.changed = time.time_ns()  # when `pid` did
        self.start_at = 0.0  # monotonic; earlier ./run may not start
        self.pause_until = 0.0  # monotonic; earlier nothing is taken notice of

    def watch(self) -> None:
        """Keep the service as it is wanted, until told to leave."""
        self.announce()
        self.directory.admit()
        poll = select.poll()
        poll.register(self.signals, select.POLLIN)
        poll.register(self.directory.control, select.POLLIN)
        while not self.state.over:
            self.start_if_due()
            self.announce()
            self.pause()
            poll.poll(self.milliseconds())
            self.heed_signals()
            self.reap()
            self.obey()
        self.announce()

    def pause(self) -> None:
        """Let what was started be for a while; so a service that ends at once is no busy loop."""
        time.sleep(max(0.0, self.pause_until - time.monotonic()))

    def milliseconds(self) -> float | None:
        """How long there is nothing to do unless something happens."""
        if self.state.phase is not Phase.RESTING:
            return None
        return max(0.0, self.start_at - time.monotonic()) * 1000 + 1

    def announce(self) -> None:
        want = LETTERS.get(self.state.want, "")
        self.directory.announce(Status(self.changed, self.pid, self.paused, want))

    def start_if_due(self) -> None:
        if self.state.phase is Phase.RESTING and time.monotonic() >= self.start_at:
            self.feed(Event.RESTED)

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
        if self.pid:
            os.kill(self.pid, number)

    def reap(self) -> None:
        """Take notice of every child that has ended."""
        while True:
            try:
                pid, _ = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            if pid == self.pid:
                self.set_pid(0)
                self.feed(Event.ENDED)

    def set_pid(self, pid: int) -> None:
        self.pid = pid
        self.changed = time.time_ns()

    def feed(self, event: Event) -> None:
        """Let `event` change the state, and do what follows from it."""
        old, self.state = self.state, step(self.state, event)
        if event is Event.DOWN and old.phase in (Phase.STARTING, Phase.UP):
            self.kill(signal.SIGTERM)
            self.kill(signal.SIGCONT)
            self.paused = False
        if self.state.phase is old.phase:
            return
        if self.state.phase is Phase.UP:
            self.run()
        elif self.state.phase not in (Phase.DOWN, Phase.RESTING):
            self.feed(Event.ENDED)

    def run(self) -> None:
        """Start ./run."""
        self.paused = False
        self.pause_until = time.monotonic() + PACE
        try:
            self.set_pid(chain.spawn(["./run"]))
        except OSError as error:
            name = self.directory.name
            if error.errno in NO_FORK:
                self.pause_until, self.start_at = 0.0, time.monotonic() + PATIENCE
                self.directory.warn(f"unable to fork for {name}, sleeping 60 seconds: {reason(error)}")
                self.feed(Event.NO_FORK)
            else:  # as if it had been started, and had ended so
                say(f"supervise: fatal: unable to start {name}/run: {reason(error)}")
                self.set_pid(0)
                self.feed(Event.ENDED)
