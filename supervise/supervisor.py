"""supervise's loop: one service, the process that runs for it, and what svc wants of it."""

from __future__ import annotations

import errno
import os
import select
from time import monotonic, time_ns  # by name: a look into a module is one more page to copy

from supervise import adoption, children
from supervise.errors import reason
from supervise.lifecycle import State, step
from supervise.program import say
from supervise.status import Status

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal

    from supervise.habits import Habits
    from supervise.lifecycle import Command, Event, Want
    from supervise.service_directory import ServiceDirectory
    from supervise.signals import SignalPipe
else:
    import _signal as signal  # the same without enums, which cost time and memory

ENDING = (signal.SIGTERM, signal.SIGINT)
COMMANDS: dict[str, Command] = {"u": "u", "d": "d", "o": "o", "x": "x"}
ANSWERED = (*COMMANDS, "p", "c")  # by a new status, as in the original
SIGNALS = {
    "a": signal.SIGALRM,
    "h": signal.SIGHUP,
    "i": signal.SIGINT,
    "k": signal.SIGKILL,
    "t": signal.SIGTERM,
}
WANTS: dict[str, Want] = {"u": "u", "d": "d"}  # by the letter in the status record
SERVING = ("starting", "up")  # the service counts as up
IDLE = ("down", "waiting")
PACE = 1.0  # seconds to pause after a start of ./run, whatever happens
PATIENCE = 60.0  # seconds to wait when there is no fork
LONGEST = 3600.0  # seconds for poll, which cannot count beyond 24 days
NO_FORK = (errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE)
COULD_NOT_RUN = 111 << 8  # as a wait status


class Supervisor:
    """One service: its state, and the process that runs for it."""

    def __init__(self, directory: ServiceDirectory, signals: SignalPipe, want: Want, habits: Habits) -> None:
        self.directory = directory
        self.signals = signals
        self.habits = habits
        self.state = State("waiting" if want == "u" else "down", want)
        self.poll = select.poll()
        self.due: tuple[str, ...] | None = None  # the command of the script to be started now
        self.child = 0  # pid of the script that runs
        self.orphan = -1  # a pidfd, if the service is another supervise's child
        self.paused = False
        self.changed = time_ns()  # when the service went up or down
        self.start_at = 0.0  # monotonic; earlier it may not start
        self.pause_until = 0.0  # monotonic; earlier nothing is taken notice of
        self.kill_at: float | None = None  # monotonic

    def prepare(self) -> None:
        """All that comes before the first start of a script, and that a process may do for its child."""
        self.adopt()
        self.announce()
        self.directory.admit()
        for readable in (self.signals.fileno(), self.directory.control, self.habits.fileno(), self.orphan):
            if readable >= 0:
                self.poll.register(readable, select.POLLIN)
        self.keep_time()

    def descriptors(self) -> list[int]:
        """What is open for it."""
        orphan = [self.orphan] if self.orphan >= 0 else []
        return [
            *self.signals.descriptors(),
            *self.directory.descriptors(),
            *self.habits.descriptors(),
            *orphan,
        ]

    def close(self) -> None:
        """Give the service up, in this process."""
        self.directory.close()
        self.signals.close()
        self.habits.close()
        self.release()

    def watch(self) -> None:
        """Keep the service as it is wanted, until told to leave.  Its signals have been entered."""
        while True:
            self.start()
            self.announce()
            if self.state.over:
                return
            self.let_it_be()
            self.wait()
            self.habits.heed()
            self.heed_signals()  # before the children, or the news of one could be lost
            self.reap()
            self.start()
            self.obey()
            self.keep_time()

    def adopt(self) -> None:
        """Go on with the service of a supervise that was killed, if there is one."""
        found = adoption.survivor()
        if found:
            record, self.orphan = found
            self.child, self.paused, self.changed = record.pid, record.paused, record.when
            self.state = State(self.habits.adopt(record), WANTS.get(record.want, "o"))

    def release(self) -> None:
        if self.orphan >= 0:
            os.close(self.orphan)
        self.orphan = -1

    def let_it_be(self) -> None:
        """Let what was started be for a while; so a service that ends at once is no busy loop."""
        left = self.pause_until - monotonic()
        if left > 0:
            self.habits.pause(left)

    def wait(self) -> None:
        """Wait until something happens, or the clock has something to say."""
        happened = self.poll.poll(self.milliseconds())
        if any(fd == self.orphan for fd, _ in happened):
            self.poll.unregister(self.orphan)
            self.release()
            self.ended(self.child, None)

    def announce(self) -> None:
        pid = self.child if self.state.phase in SERVING else 0
        self.habits.announce(self.state, self.changed, self.start_at)
        self.directory.announce(
            Status(self.changed, pid, self.paused, self.state.want if self.state.want in WANTS else "")
        )

    def milliseconds(self) -> float | None:
        """How long there is nothing to do unless something happens."""
        moments = [self.kill_at] if self.kill_at else []
        if self.state.phase == "waiting":
            moments.append(self.start_at)
        return min(max(0.0, min(moments) - monotonic()), LONGEST) * 1000 + 1 if moments else None

    def keep_time(self) -> None:
        """Do what the clock says."""
        if self.state.phase == "waiting" and monotonic() >= self.start_at:
            self.feed("rested")
        if self.kill_at and monotonic() >= self.kill_at:
            self.kill_at = None
            self.kill(signal.SIGKILL)

    def heed_signals(self) -> None:
        if self.signals.arrived() & set(ENDING):
            self.feed("d")
            self.feed("x")

    def obey(self) -> None:
        """Carry out the next thing that svc has asked for."""
        command = self.directory.command()
        if not command or self.state.over:
            return
        if command not in "dx":  # a start that is due comes first, as in the original
            self.keep_time()
            self.start()
            self.announce()
            self.let_it_be()
        if command in ANSWERED:
            self.directory.forget()
        if command in COMMANDS:
            self.feed(COMMANDS[command])
        elif command in SIGNALS:
            self.kill(SIGNALS[command])
        elif command in "pc":
            self.paused = command == "p"
            self.kill(signal.SIGSTOP if self.paused else signal.SIGCONT)

    def kill(self, number: signal.Signals) -> None:
        try:
            if self.orphan >= 0:
                signal.pidfd_send_signal(self.orphan, number)
            elif self.child:
                os.kill(self.child, number)
        except OSError:  # poll is about to say that it has ended; or it has become another user's
            pass

    def reap(self) -> None:
        """Take notice of every child that has ended."""
        for pid, status in children.ended():
            if pid == self.child and self.orphan < 0:
                self.ended(pid, status)

    def ended(self, pid: int, status: int | None) -> None:
        """The script that ran in this phase is over; None: it was nobody's child, and how is unknown."""
        if self.state.phase in SERVING:
            self.changed = time_ns()
        self.child = 0
        self.kill_at = None
        self.feed(self.habits.ended(self.state.phase, pid, status))

    def feed(self, event: Event) -> None:
        """Let `event` change the state, and do what follows from it."""
        old, self.state = self.state, step(self.state, event)
        if event == "u":
            self.start_at = 0.0
        if event == "d" and old.phase in SERVING:
            self.terminate()
        if self.state.phase == old.phase:
            return
        if self.state.phase not in IDLE:
            self.run()
        elif event != "no fork":
            self.start_at = monotonic() + self.habits.rest()

    def terminate(self) -> None:
        self.kill(signal.SIGTERM)
        self.kill(signal.SIGCONT)
        self.paused = False
        if self.habits.kill_after is not None and self.kill_at is None:
            self.kill_at = monotonic() + self.habits.kill_after

    def run(self) -> None:
        """Have the script of the new phase started; one that is not there has run well."""
        self.due = self.habits.argv(self.state.phase)
        if not self.due:
            self.feed("ended")

    def start(self) -> None:
        """Start the script that is due."""
        if not self.due:
            return
        argv, self.due = self.due, None
        phase = self.state.phase
        self.paused = False
        if phase == "up":
            self.pause_until = monotonic() + PACE
        try:
            self.child = self.habits.spawn(phase, argv)
            if phase in SERVING:
                self.changed = time_ns()
        except OSError as error:
            self.could_not_run(argv[0], error)

    def could_not_run(self, script: str, error: OSError) -> None:
        name = self.directory.name
        if error.errno in NO_FORK and self.state.phase in SERVING:
            self.pause_until, self.start_at = 0.0, monotonic() + PATIENCE
            self.directory.warn(f"unable to fork for {name}, sleeping 60 seconds: {reason(error)}")
            self.feed("no fork")
        else:  # as if it had been started, and had ended so
            say(f"supervise: fatal: unable to start {name}{script[1:]}: {reason(error)}")
            self.ended(0, COULD_NOT_RUN)
