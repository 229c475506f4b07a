"""qmailctl does what the words of the well-known script say, on the services that there are."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from instances import RunningInstance, answers, make_instance, running_instance
from programs import eventually, run


@pytest.fixture(scope="module")
def instance(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningInstance]:
    with running_instance(tmp_path_factory.mktemp("qmailctl") / "i") as made:
        yield made


def ctl(instance: RunningInstance, *words: str) -> tuple[int, str, str]:
    done: subprocess.CompletedProcess[bytes] = run(instance.home / "bin/qmailctl", *words)
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def states(instance: RunningInstance) -> list[str]:
    """up or down, of send, send/log, smtpd, smtpd/log."""
    _, shown, _ = ctl(instance, "stat")
    return [line.split(": ")[1].split()[0] for line in shown.splitlines()[:4]]


def pids(instance: RunningInstance) -> list[str]:
    return [line.split("pid ")[1].split(")")[0] for line in ctl(instance, "stat")[1].splitlines()[:4]]


def test_stop_and_start(instance: RunningInstance) -> None:
    assert ctl(instance, "stop") == (0, "Stopping qmail...\n  qmail-smtpd\n  qmail-send\n", "")
    eventually(lambda: states(instance) == ["down"] * 4)
    assert not answers(instance.port)
    assert ctl(instance, "start") == (0, "Starting qmail\n", "")
    eventually(lambda: states(instance) == ["up"] * 4)
    eventually(lambda: answers(instance.port))


def test_restart_gives_every_service_a_new_process(instance: RunningInstance) -> None:
    before = pids(instance)
    code, shown, _ = ctl(instance, "restart")
    assert code == 0
    assert shown.splitlines() == [
        "Restarting qmail:",
        "* Stopping qmail-smtpd.",
        "* Sending qmail-send SIGTERM and restarting.",
        "* Restarting qmail-smtpd.",
    ]
    eventually(lambda: states(instance) == ["up"] * 4 and not set(pids(instance)) & set(before))
    eventually(lambda: answers(instance.port))


def test_pause_and_cont(instance: RunningInstance) -> None:
    assert ctl(instance, "pause")[1] == "Pausing qmail-send\nPausing qmail-smtpd\n"
    eventually(lambda: "paused" in ctl(instance, "stat")[1])
    assert ctl(instance, "cont")[1] == "Continuing qmail-send\nContinuing qmail-smtpd\n"
    eventually(lambda: "paused" not in ctl(instance, "stat")[1])


@pytest.mark.parametrize("word", ["doqueue", "alrm", "flush"])
def test_doqueue_clears_the_timeouts_and_wakes_qmail_send(instance: RunningInstance, word: str) -> None:
    table = instance.home / "queue/lock/tcpto"
    table.write_bytes(b"\1" * 1024)
    expected = "Flushing timeout table and sending ALRM signal to qmail-send.\n"
    assert ctl(instance, word) == (0, expected, "")
    assert table.read_bytes() == bytes(1024)


@pytest.mark.parametrize("word", ["reload", "hup"])
def test_reload_makes_qmail_send_read_locals_again(instance: RunningInstance, word: str) -> None:
    host = f"{word}.example"
    with (instance.home / "control/locals").open("a") as locals_file:
        locals_file.write(f"{host}\n")
    with (instance.home / "control/rcpthosts").open("a") as rcpthosts:
        rcpthosts.write(f"{host}\n")
    assert ctl(instance, word) == (0, "Sending HUP signal to qmail-send.\n", "")

    def is_local() -> bool:
        instance.send("is it local?", f"you@{host}")
        return f"to local you@{host}" in instance.log()

    eventually(is_local)


def test_cdb_compiles_the_rules_that_the_next_connection_meets(instance: RunningInstance) -> None:
    rules = instance.home / "tcp.smtp"
    before = rules.read_text()
    try:
        rules.write_text("127.:deny\n")
        assert ctl(instance, "cdb") == (0, f"Reloaded {rules}.\n", "")
        assert (instance.home / "tcp.smtp.cdb").stat().st_mode & 0o777 == 0o644
        eventually(lambda: not answers(instance.port))
        rules.write_text("127.:nonsense\n")
        code, shown, complaint = ctl(instance, "cdb")
        assert (code, shown) == (100, "")
        assert complaint.startswith("tcprules: fatal: unable to parse this line: ")
        assert not answers(instance.port), "the old rules stand"
    finally:
        rules.write_text(before)
        assert ctl(instance, "cdb")[0] == 0
    eventually(lambda: answers(instance.port))


def test_queue_shows_the_count(instance: RunningInstance) -> None:
    code, shown, _ = ctl(instance, "queue")
    assert code == 0
    assert shown.startswith("messages in queue: ")


def test_help_names_every_command(instance: RunningInstance) -> None:
    _, shown, _ = ctl(instance, "help")
    for word in ("start", "stop", "restart", "stat", "doqueue", "reload", "pause", "cont", "cdb", "queue"):
        assert f"{word} -- " in shown


@pytest.mark.parametrize("words", [[], ["bogus"]])
def test_other_words_get_the_usage_and_exit_1(instance: RunningInstance, words: list[str]) -> None:
    commands = "start|stop|restart|doqueue|flush|reload|stat|pause|cont|cdb|queue|help"
    assert ctl(instance, *words) == (1, f"Usage: {instance.home}/bin/qmailctl {{{commands}}}\n", "")


def test_services_that_do_not_run_are_named(tmp_path: Path) -> None:
    make_instance(tmp_path / "i")
    done = run(tmp_path / "i/bin/qmailctl", "start")
    assert done.returncode == 0
    assert done.stdout.decode() == (
        "Starting qmail\nqmail-send supervise not running\nqmail-smtpd supervise not running\n"
    )
