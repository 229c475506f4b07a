"""Children that make deliveries: executed programs, or workers that are kept for the next delivery.

If the program to run is the toolkit's own, it runs in a worker that may have
run others before for the same user; anything else is executed.  Either has
the message on descriptor 0, and 1 and 2 go where the server wants them.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Sequence

from supervise import accounts, chain, children, descriptors, title
from supervise.errors import temporary
from supervise.workers import Surroundings, Worker

MOST_RUNS = 500  # of one worker
MOST_IDLE = 64  # workers
NOT_ALLOWED = 112
"""Exit code of a child that could not become its user: what qmail-lspawn takes for a bug."""

User = tuple[int, int]
"""uid and gid to become, with no other groups."""
Kind = tuple[str, User | None]
"""What a worker is good for: a module, and the user it runs as (None: who the server is)."""


class Agent:
    """One child.  `worker` is None if it is an executed program, whose exit is its report."""

    __slots__ = ("kind", "pid", "since", "worker")

    def __init__(self, pid: int, worker: Worker | None = None, kind: Kind = ("", None)) -> None:
        self.pid = pid
        self.worker = worker
        self.kind = kind
        self.since = 0.0  # when it became idle


class Agents:
    """Starts children, and keeps the workers that have nothing to do for a while."""

    def __init__(self, descriptors: tuple[int, int]) -> None:
        """`descriptors`: the limits on open files that the children are to have."""
        self._descriptors = descriptors
        self._idle: dict[Kind, list[Agent]] = {}
        self._count = 0
        self._surroundings: Surroundings | None = None  # of a worker; those of the server at the first one

    def start(
        self,
        argv: Sequence[str],
        module: str | None,
        user: User | None,
        fds: Sequence[int],
        unable: tuple[int, int],
    ) -> Agent:
        """Have a child run `argv`, from `module` or by exec, with `fds` as its 0 and 1 (and 2).

        `unable` are its exit codes if it cannot be executed, for now and for
        good.  OSError: no fork.
        """
        if module is None:
            return Agent(children.fork(argv[0], lambda: self._execute(argv, user, fds, unable)))
        payload = os.fsencode("\0".join(argv))
        while agent := self._take((module, user)):
            assert agent.worker
            try:
                agent.worker.assign(payload, fds)
                return agent
            except OSError:  # it died while idle
                agent.worker.close()
        self._surroundings = self._surroundings or Surroundings()
        worker = Worker.start(argv[0], Performer(module, user, self._descriptors), self._surroundings)
        worker.assign(payload, fds)
        return Agent(worker.pid, worker, (module, user))

    def close(self) -> None:
        """Start no more children."""
        if self._surroundings:
            self._surroundings.close()

    def _execute(
        self, argv: Sequence[str], user: User | None, fds: Sequence[int], unable: tuple[int, int]
    ) -> int:
        resource.setrlimit(resource.RLIMIT_NOFILE, self._descriptors)
        try:
            if user:
                accounts.become(*user, [user[1]])
        except OSError:
            return NOT_ALLOWED
        message, output = fds
        try:
            descriptors.arrange({0: message, 1: output, 2: output})
            chain.run(argv)
        except OSError as error:
            return unable[0] if temporary(error) else unable[1]

    def _take(self, kind: Kind) -> Agent | None:
        """Of the idle ones that which was used last, so that the others grow old."""
        agents = self._idle.get(kind)
        if not agents:
            return None
        agent = agents.pop()
        self._count -= 1
        if not agents:
            del self._idle[kind]
        return agent

    def keep(self, agent: Agent, now: float) -> bool:
        """Keep a worker that has finished its job for the next one; False if it is to be let go."""
        assert agent.worker
        if agent.worker.jobs >= MOST_RUNS or self._count >= MOST_IDLE:
            return False
        agent.since = now
        self._idle.setdefault(agent.kind, []).append(agent)
        self._count += 1
        return True

    def forget(self, agent: Agent) -> None:
        """Let go of a worker, idle or not."""
        agents = self._idle.get(agent.kind, [])
        if agent in agents:
            agents.remove(agent)
            self._count -= 1
            if not agents:
                del self._idle[agent.kind]

    def idle(self, since: float) -> list[Agent]:
        """Those that have had nothing to do since then."""
        return [agent for agents in self._idle.values() for agent in agents if agent.since <= since]

    def __len__(self) -> int:
        return self._count


class Performer:
    """What a worker does: it becomes its user once, and then calls the program for each job."""

    def __init__(self, module: str, user: User | None, descriptors: tuple[int, int]) -> None:
        self._program = chain.load(module)  # before the fork, so that all share it
        self._user = user
        self._descriptors = descriptors
        self._entered = False

    def __call__(self, payload: bytes, fds: list[int]) -> int:
        argv = os.fsdecode(payload).split("\0")
        message, output = fds
        try:
            os.dup2(message, 0)
            os.dup2(output, 1)
            os.dup2(output, 2)
        finally:
            os.close(message)
            os.close(output)
        code = self._run(argv)
        title.show([f"{os.path.basename(argv[0])} (idle)"])
        _let_go()
        return code

    def _run(self, argv: Sequence[str]) -> int:
        if not self._entered:
            resource.setrlimit(resource.RLIMIT_NOFILE, self._descriptors)
            try:
                if self._user:
                    accounts.become(*self._user, [self._user[1]])
            except OSError:
                return NOT_ALLOWED
            self._entered = True
        return chain.call(self._program, argv)


def _let_go() -> None:
    """Close the message and the way to the report: until then the server takes it for unfinished."""
    nothing = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    try:
        for fd in (0, 1, 2):
            os.dup2(nothing, fd)
    finally:
        if nothing > 2:
            os.close(nothing)
