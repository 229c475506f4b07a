"""Each job finds its worker as the first one did, and a worker's end is told however it comes."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from programs import DEADLINE, eventually, run

from supervise import chain
from supervise.descriptors import OWN
from supervise.workers import MAX_FDS, MAX_JOB, Surroundings, Worker

Handler = Callable[[bytes, list[int]], int]


@contextmanager
def started(handler: Handler) -> Iterator[Worker]:
    """A worker, gone at the end."""
    surroundings = Surroundings()
    worker = Worker.start("test", handler, surroundings)
    try:
        yield worker
    finally:
        surroundings.close()
        worker.close()
        reap(worker.pid)


def reap(pid: int) -> int | None:
    """The end of a child: its exit code or minus its signal; None if that is known already."""
    end = time.monotonic() + DEADLINE
    while time.monotonic() < end:
        try:
            ended, status = os.waitpid(pid, os.WNOHANG)
        except ChildProcessError:
            return None
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    raise AssertionError("the worker does not end")


def answer(worker: Worker, job: bytes, *fds: int) -> int | None:
    worker.assign(job, fds)
    return worker.report()


def test_it_answers_job_after_job_in_one_process() -> None:
    answers = set()

    def handler(job: bytes, fds: list[int]) -> int:
        (out,) = fds
        os.write(out, b"%d" % os.getpid())
        os.close(out)
        return job[0]

    with started(handler) as worker:
        for number in range(256):
            read, write = os.pipe()
            assert answer(worker, bytes([number, 1]), write) == number
            os.close(write)
            with os.fdopen(read, "rb") as pipe:
                answers.add(int(pipe.read()))  # up to the end: nobody else holds it
        assert (answers, worker.jobs) == ({worker.pid}, 256)


def test_a_job_may_be_large_and_bring_many_descriptors() -> None:
    def handler(job: bytes, fds: list[int]) -> int:
        return 7 if job == b"x" * MAX_JOB and len(fds) == MAX_FDS else 8

    null = os.open(os.devnull, os.O_RDONLY)
    with started(handler) as worker:
        assert answer(worker, b"x" * MAX_JOB, *[null] * MAX_FDS) == 7
        with pytest.raises(OSError, match="too long"):
            worker.assign(b"x" * 10 * MAX_JOB)
        assert answer(worker, b"x" * MAX_JOB, *[null] * MAX_FDS) == 7
    os.close(null)


def _surroundings() -> str:
    """What a job finds, but for what it is given."""
    status = Path("/proc/self/status").read_text().splitlines()
    signals = [line for line in status if line.startswith(("SigB", "SigI", "SigC"))]
    fds = sorted((fd, os.readlink(f"/proc/self/fd/{fd}")) for fd in os.listdir("/proc/self/fd") if _valid(fd))
    umask = os.umask(0)
    os.umask(umask)
    left = signal.getitimer(signal.ITIMER_REAL)
    return repr((signals, fds, os.getcwd(), umask, left, signal.set_wakeup_fd(-1)))


def _valid(fd: str) -> bool:
    return os.path.lexists(f"/proc/self/fd/{fd}")


def _leave_a_child() -> None:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)  # it is dead, but not reaped


MESSES: dict[str, Callable[[], object]] = {
    "directory": lambda: os.chdir("/"),
    "umask": lambda: os.umask(0o777),
    "alarm": lambda: signal.alarm(1000),
    "timer": lambda: signal.setitimer(signal.ITIMER_REAL, 1000, 5),
    "handler": lambda: signal.signal(signal.SIGALRM, lambda *_: None),
    "ignored signal": lambda: signal.signal(signal.SIGPIPE, signal.SIG_IGN),
    "default for an ignored signal": lambda: signal.signal(signal.SIGUSR2, signal.SIG_DFL),
    "mask": lambda: signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM}),
    "wakeup descriptor": lambda: signal.set_wakeup_fd(os.pipe2(os.O_NONBLOCK)[1]),
    "descriptors": lambda: [fcntl.fcntl(0, fcntl.F_DUPFD, 100) for _ in range(20)],
    "a zombie": _leave_a_child,
}


@pytest.mark.parametrize("mess", MESSES.values(), ids=MESSES)
def test_what_a_program_leaves_is_tidied_up(mess: Callable[[], object]) -> None:
    found: list[bytes] = []

    def handler(job: bytes, fds: list[int]) -> int:
        os.write(fds[0], _surroundings().encode())
        os.close(fds[0])
        if job == b"mess":
            mess()
        return 0

    old = signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    try:
        with started(handler) as worker:
            for job in (b"mess", b"look"):
                read, write = os.pipe()
                assert answer(worker, job, write) == 0
                os.close(write)
                with os.fdopen(read, "rb") as pipe:
                    found.append(pipe.read().replace(b"pipe:[%d]" % os.fstat(read).st_ino, b"ours"))
            children = Path(f"/proc/{worker.pid}/task/{worker.pid}/children").read_text()
    finally:
        signal.signal(signal.SIGUSR2, old)
    assert found[0] == found[1]
    assert children == ""


def test_it_finds_its_way_home_though_its_server_has_many_descriptors() -> None:
    def handler(_: bytes, fds: list[int]) -> int:
        os.write(fds[0], os.fsencode(os.getcwd()) + b"\n")
        os.close(fds[0])
        os.chdir("/")
        return 0

    taken = [fcntl.fcntl(0, fcntl.F_DUPFD_CLOEXEC, number) for number in OWN]
    try:
        read, write = os.pipe()
        with started(handler) as worker, os.fdopen(read, "rb") as said:
            assert [answer(worker, b"x", write) for _ in range(3)] == [0, 0, 0]
            os.close(write)
            assert said.read().splitlines() == [os.fsencode(os.getcwd())] * 3
    finally:
        for fd in taken:
            os.close(fd)


@pytest.mark.parametrize(
    ("code", "outcome"),
    [("os._exit(9)", 9), ("sys.exit(8)", 8), ("1/0", 111), ("os.kill(os.getpid(), 9)", -9),
     ("os.setpgid(0, 0); result = 6", 6)],
)  # fmt: skip
def test_a_worker_that_cannot_go_on_reports_by_its_end(
    code: str, outcome: int, capfd: pytest.CaptureFixture[str]
) -> None:
    def handler(job: bytes, fds: list[int]) -> int:
        names = {"os": os, "sys": sys, "result": 0}
        exec(code, names)
        return int(str(names["result"]))

    with started(handler) as worker:
        assert answer(worker, b"job") is None
        assert reap(worker.pid) == outcome
        with pytest.raises(OSError, match=r"[Pp]ipe|reset"):
            worker.assign(b"another")


def test_a_worker_with_a_limit_on_processor_time_serves_once() -> None:
    code = """
import os, resource, sys
from supervise.workers import Surroundings, Worker
resource.setrlimit(resource.RLIMIT_CPU, (100, resource.RLIM_INFINITY))
worker = Worker.start("test", lambda job, fds: 5, Surroundings())
worker.assign(b"job")
report = worker.report()
print(report, os.waitstatus_to_exitcode(os.waitpid(worker.pid, 0)[1]))
"""
    done = run(sys.executable, "-c", code)
    assert (done.stdout, done.stderr) == (b"None 5\n", b"")


def test_a_job_may_use_any_low_descriptor() -> None:
    def handler(job: bytes, fds: list[int]) -> int:
        os.closerange(3, 32)  # as a program that uses 3, 6 or 7
        return job[0]

    with started(handler) as worker:
        assert [answer(worker, bytes([number]), 0) for number in (7, 8, 9)] == [7, 8, 9]


@pytest.mark.parametrize(("words", "outcome"), [(("sh", "-c", "exit 3"), 3), (("svok", "/"), 100)], ids=str)
def test_a_worker_that_becomes_another_program_ends_with_it(
    words: tuple[str, ...], outcome: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", f"{sys.prefix}/bin:/usr/bin:/bin")

    def handler(job: bytes, fds: list[int]) -> int:
        chain.run(words)

    with started(handler) as worker:
        assert answer(worker, b"job") is None
        assert reap(worker.pid) == outcome


def test_a_killed_worker_is_noticed_while_it_is_idle_or_busy() -> None:
    with started(lambda job, fds: int(signal.sigwait({signal.SIGUSR1}))) as worker:
        worker.assign(b"job")
        os.kill(worker.pid, signal.SIGKILL)
        assert worker.report() is None
        assert reap(worker.pid) == -signal.SIGKILL


def test_an_idle_worker_goes_when_it_is_let_go() -> None:
    with started(lambda job, fds: 0) as worker:
        assert answer(worker, b"job") == 0
        worker.close()
        assert reap(worker.pid) == 0


def test_a_busy_worker_goes_after_its_job(tmp_path: Path) -> None:
    def handler(job: bytes, fds: list[int]) -> int:
        eventually(lambda: (tmp_path / "go").exists())
        (tmp_path / "done").write_text("")
        return 0

    with started(handler) as worker:
        worker.assign(b"job")
        worker.close()
        (tmp_path / "go").write_text("")
        assert reap(worker.pid) == 0
        assert (tmp_path / "done").exists()


def test_workers_end_with_their_server() -> None:
    code = """
import os, sys
from supervise.workers import Worker
workers = [Worker.start("test", lambda job, fds: 0) for _ in range(3)]
workers[0].assign(b"x")
print(*[worker.pid for worker in workers], flush=True)
os.kill(os.getpid(), 9)
"""
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, check=False, timeout=DEADLINE)
    for pid in done.stdout.split():
        eventually(lambda pid=pid: not _runs(int(pid)))  # type: ignore[misc]


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_the_server_s_other_descriptors_are_not_kept_open_by_its_workers() -> None:
    read, write = os.pipe()
    with started(lambda job, fds: 0) as worker:
        assert answer(worker, b"job") == 0
        os.close(write)
        assert os.read(read, 1) == b""
    os.close(read)
