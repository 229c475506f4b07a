"""Workers are kept for whom they were made, a bounded number, for a bounded time and number of runs."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from qmail.spawning import agents
from qmail.spawning.agents import Agent, Agents
from supervise import children

GETPW = ["qmail-getpw", "nosuchuser"]
SOFT_AND_HARD = (200, 1000)  # open files


class Started:
    """Agents, and the children that they started."""

    def __init__(self) -> None:
        self.agents = Agents(SOFT_AND_HARD)
        self.children: set[int] = set()

    def run(self, argv: list[str], module: str | None) -> tuple[Agent, bytes]:
        """Have a child run `argv`; return it and what it said."""
        message = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
        ours, theirs = os.pipe()
        try:
            agent = self.agents.start(argv, module, None, (message, theirs), (120, 126))
        finally:
            os.close(theirs)
            os.close(message)
        self.children.add(agent.pid)
        said = b""
        while data := os.read(ours, 1000):
            said += data
        os.close(ours)
        return agent, said


@pytest.fixture
def started() -> Iterator[Started]:
    made = Started()
    yield made
    for agent in made.agents.idle(float("inf")):
        assert agent.worker
        agent.worker.close()
        made.agents.forget(agent)
    made.agents.close()
    for pid in made.children:
        try:
            children.wait(pid)
        except ChildProcessError:  # the test has waited for it
            continue


def finish(agent: Agent) -> int | None:
    assert agent.worker
    return agent.worker.report()


def test_a_worker_kept_is_used_again(started: Started) -> None:
    first, said = started.run(GETPW, "qmail.getpw")
    code = finish(first)
    assert started.agents.keep(first, 10.0)
    assert len(started.agents) == 1
    second, again = started.run(GETPW, "qmail.getpw")
    assert (second.pid, finish(second), again) == (first.pid, code, said)
    assert len(started.agents) == 0
    assert started.agents.keep(second, 20.0)


def test_a_worker_for_another_program_is_another_worker(started: Started) -> None:
    first, _ = started.run(GETPW, "qmail.getpw")
    finish(first)
    started.agents.keep(first, 10.0)
    second, _ = started.run(["qmail-newu", "x"], "qmail.newu")
    finish(second)
    started.agents.keep(second, 20.0)
    assert first.pid != second.pid
    assert started.agents.idle(15.0) == [first]
    assert started.agents.idle(20.0) == [first, second]


def test_too_many_idle_workers_or_runs_of_one_are_not_kept(
    started: Started, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agents, "MOST_IDLE", 1)
    monkeypatch.setattr(agents, "MOST_RUNS", 2)
    pair = [started.run(argv, module)[0] for argv, module in
            ((GETPW, "qmail.getpw"), (["qmail-newu"], "qmail.newu"))]  # fmt: skip
    for agent in pair:
        finish(agent)
    assert [started.agents.keep(agent, 0.0) for agent in pair] == [True, False]
    again, _ = started.run(GETPW, "qmail.getpw")
    finish(again)
    assert again is pair[0]
    assert not started.agents.keep(again, 0.0)
    for agent in pair:
        assert agent.worker
        agent.worker.close()


def test_an_executed_program_has_the_limits_it_is_to_have(started: Started) -> None:
    agent, said = started.run(["/bin/sh", "-c", "ulimit -S -n; ulimit -H -n"], None)
    assert agent.worker is None
    assert (children.wait(agent.pid), said) == (0, b"200\n1000\n")


def test_an_executed_program_gets_nothing_of_the_servers_but_what_it_needs(started: Started) -> None:
    inherited = {str(fd) for fd in range(4096) if is_inherited(fd)}
    agent, said = started.run(["/bin/ls", "/proc/self/fd"], None)
    assert children.wait(agent.pid) == 0
    assert set(said.decode().split()) <= inherited | {"0", "1", "2", "3"}  # 3: the listing itself


def is_inherited(fd: int) -> bool:
    try:
        return os.get_inheritable(fd)
    except OSError:
        return False


@pytest.mark.parametrize(("name", "code"), [("/no/such/program", 126), ("/", 126)])
def test_a_program_that_cannot_be_executed_gives_the_code_for_that(
    started: Started, name: str, code: int
) -> None:
    agent, said = started.run([name], None)
    assert (children.wait(agent.pid), said) == (code, b"")
