"""qmail-send between a real queue and spawners that are the test: nothing is lost, nothing is tried twice."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

import pytest
from programs import eventually
from queues import MailHome, make_home
from senders import DEFERRAL, FAILURE, SUCCESS, Sender, queue_message

from qmail.queueing.queue_layout import Queue
from qmail.spawning.orders import Order, Report, encode_report


@pytest.fixture
def home(tmp_path: Path) -> MailHome:
    return make_home(tmp_path / "home")


def fields(order: Order) -> tuple[bytes, bytes]:
    return order.sender, order.recipient


def files_of(home: MailHome, kind: str) -> list[Path]:
    return [home.path / "queue" / name for name in home.files() if name.startswith(f"{kind}/")]


# One recipient: from todo/ to the end


def test_a_quick_delivery_needs_no_more_files_than_the_queue_had(home: MailHome) -> None:
    queue_message(home, b"joe@mx.example.org")
    before = home.files()
    with Sender(home) as sender:
        order = sender.local.order()
        assert fields(order) == (b"s@x.org", b"joe@mx.example.org")
        assert home.files() == before
        sender.local.report(order, SUCCESS)
        sender.wait_for("end msg")
        sender.wait_until_empty()
    number = order.message.rpartition(b"/")[2].decode()
    assert sender.log().splitlines()[1:] == [
        f"new msg {number}",
        f"info msg {number}: bytes {len(body_with_received(sender))} from <s@x.org> qp {qp(sender)} "
        f"uid {os.getuid()}",
        f"starting delivery 1: msg {number} to local joe@mx.example.org",
        "status: local 1/10 remote 0/20",
        "delivery 1: success: done/",
        "status: local 0/10 remote 0/20",
        f"end msg {number}",
    ]


def body_with_received(sender: Sender) -> bytes:
    size = sender.log().partition("bytes ")[2].split()[0]
    return bytes(int(size))


def qp(sender: Sender) -> str:
    return sender.log().partition(" qp ")[2].split()[0]


def test_a_slow_try_is_preprocessed_meanwhile(home: MailHome) -> None:
    with Sender(home) as sender:
        queue_message(home, b"joe@mx.example.org")
        order = sender.local.order()
        eventually(lambda: not files_of(home, "todo"), "todo/ is empty")
        (local,) = files_of(home, "local")
        (info,) = files_of(home, "info")
        assert (info.read_bytes(), local.read_bytes()) == (b"Fs@x.org\0", b"Tjoe@mx.example.org\0")
        sender.local.report(order, SUCCESS)
        sender.wait_until_empty()


def test_a_deferral_is_preprocessed_and_tried_again_on_alrm(home: MailHome) -> None:
    queue_message(home, b"joe@mx.example.org")
    with Sender(home) as sender:
        first = sender.local.serve(DEFERRAL)
        sender.wait_for("deferral: not_yet/")
        eventually(lambda: files_of(home, "local") and not files_of(home, "todo"), "local/N")
        assert sender.local.next_order(0.3) is None
        sender.send_signal(signal.SIGALRM)
        second = sender.local.serve()
        assert fields(second) == fields(first)
        sender.wait_until_empty()


def test_the_next_try_is_written_down_at_the_end(home: MailHome) -> None:
    queue_message(home, b"joe@mx.example.org")
    with Sender(home) as sender:
        start = time.time()
        sender.local.serve(DEFERRAL)
        sender.wait_for("deferral")
        assert sender.stop() == 0
    (local,) = files_of(home, "local")
    assert start + 98 <= local.stat().st_mtime <= time.time() + 101
    with Sender(home) as sender:
        assert sender.local.next_order(0.5) is None


# Several recipients


def test_what_was_reported_is_not_tried_again_after_a_kill(home: MailHome) -> None:
    queue_message(home, b"a@mx.example.org", b"b@far.org", b"c@mx.example.org")
    with Sender(home) as sender:
        assert sender.local.serve().recipient == b"a@mx.example.org"
        sender.wait_for("delivery 1: success")
        sender.stop(signal.SIGKILL)
    (local,) = files_of(home, "local")
    assert local.read_bytes() == b"Da@mx.example.org\0Tc@mx.example.org\0"
    with Sender(home) as sender:
        assert sender.local.serve().recipient == b"c@mx.example.org"
        assert sender.remote.serve().recipient == b"b@far.org"
        sender.wait_until_empty()


def test_a_sender_with_verp_is_written_for_each_recipient(home: MailHome) -> None:
    queue_message(home, b"a@far.org", b"b@far.org", sender=b"owner-@list.org-@[]")
    with Sender(home) as sender:
        senders = {sender.remote.serve().sender for _ in range(2)}
        assert senders == {b"owner-a=far.org@list.org", b"owner-b=far.org@list.org"}
        sender.wait_until_empty()


def test_many_recipients_are_read_from_disk(home: MailHome) -> None:
    home.control("concurrencyremote", "100")
    recipients = [b"user%d@far.org" % n for n in range(6000)]
    queue_message(home, *recipients)
    with Sender(home) as sender:
        served = [sender.remote.serve().recipient for _ in recipients]
        assert served == recipients
        sender.wait_until_empty()


# Bounces


def test_a_failure_bounces_to_the_sender(home: MailHome) -> None:
    queue_message(home, b"joe@mx.example.org", sender=b"amy@far.org")
    with Sender(home) as sender:
        sender.local.serve(FAILURE)
        order = sender.remote.order()
        assert fields(order) == (b"", b"amy@far.org")
        text = (home.path / "queue/mess" / order.message.decode()).read_bytes()
        assert b" invoked for bounce); " in text
        assert (
            b"\n\n<joe@mx.example.org>:\nnever\n\n--- Below this line is a copy of the message.\n\n" in text
        )
        sender.remote.report(order, SUCCESS)
        sender.wait_until_empty()


def test_a_double_bounce_goes_to_the_postmaster_and_a_triple_one_nowhere(home: MailHome) -> None:
    queue_message(home, b"joe@mx.example.org", sender=b"")
    with Sender(home) as sender:
        sender.local.serve(FAILURE)
        assert fields(sender.local.serve(FAILURE)) == (b"#@[]", b"postmaster@mx.example.org")
        sender.wait_for("triple bounce: discarding bounce/")
        sender.wait_until_empty()


def test_a_blank_doublebounceto_discards_double_bounces(home: MailHome) -> None:
    home.control("doublebounceto", "\n")
    queue_message(home, b"joe@mx.example.org", sender=b"")
    with Sender(home) as sender:
        sender.local.serve(FAILURE)
        sender.wait_for("double bounce: discarding bounce/")
        sender.wait_until_empty()


@pytest.mark.parametrize(("most", "stripped"), [("40", True), ("1000000", False), ("0", False)])
def test_a_bounce_quotes_no_more_than_bouncemaxbytes(home: MailHome, most: str, stripped: bool) -> None:
    home.control("bouncemaxbytes", most)
    queue_message(home, b"joe@mx.example.org", body=b"x" * 5000 + b"\n")
    with Sender(home) as sender:
        sender.local.serve(FAILURE)
        order = sender.remote.order()
        text = (home.path / "queue/mess" / order.message.decode()).read_bytes()
    copy = text.partition(b"Return-Path: <s@x.org>\n")[2]
    assert copy.endswith(b"\n\n--- End of message stripped.\n") == stripped
    assert len(copy) == 40 + 31 if stripped else copy.endswith(b"x\n")


def test_an_old_message_bounces_at_its_last_deferral(home: MailHome) -> None:
    home.control("queuelifetime", "1000")
    queue_message(home, b"joe@mx.example.org")
    with Sender(home) as sender:
        sender.local.serve(DEFERRAL)
        sender.wait_for("deferral")
        (info,) = files_of(home, "info")
        os.utime(info, (time.time() - 2000,) * 2)
        sender.send_signal(signal.SIGALRM)
        sender.local.serve(DEFERRAL)
        sender.wait_for("failure: not_yet/I'm_not_going_to_try_again;")
        assert fields(sender.remote.serve()) == (b"", b"s@x.org")
        sender.wait_until_empty()


# Spawners


@pytest.mark.parametrize("limit", [120, 300])
def test_slots_of_one_and_of_two_bytes(home: MailHome, limit: int) -> None:
    home.control("concurrencylocal", "1000")
    queue_message(home, *[b"u%d@mx.example.org" % n for n in range(limit + 5)])
    with Sender(home, (limit, limit)) as sender:
        assert f"status: local 0/{limit} remote 0/20" in sender.log()
        orders = [sender.local.order() for _ in range(limit)]
        assert sorted(order.slot for order in orders) == list(range(limit))
        assert sender.local.next_order(0.2) is None
        for order in orders:
            sender.local.report(order, SUCCESS)
        for _ in range(5):
            sender.local.serve()
        sender.wait_until_empty()


def test_garbage_from_a_spawner_is_logged_and_does_no_harm(home: MailHome) -> None:
    queue_message(home, b"a@mx.example.org", b"b@mx.example.org")
    with Sender(home) as sender:
        first, second = sender.local.order(), sender.local.order()
        os.write(sender.local.reports, encode_report(Report(99, SUCCESS)) + b"\xff\0\xffKx\0")
        sender.wait_for("warning: internal error: delivery report out of range", 3)
        sender.local.report(first, b"?what")
        sender.wait_for("report mangled, will defer")
        for byte in encode_report(Report(second.slot, b"K" + bytes(range(1, 256)))):
            os.write(sender.local.reports, bytes([byte]))
        sender.wait_for("delivery 2: success: " + "_" * 9 + "/" + "_" * 22 + "!")
        sender.send_signal(signal.SIGALRM)
        assert sender.local.serve().recipient == b"a@mx.example.org"
        sender.wait_until_empty()
    assert all(32 <= byte < 127 or byte == 10 for byte in sender.log().encode())


def test_a_report_without_end_keeps_nobody_from_delivering(home: MailHome) -> None:
    queue_message(home, b"a@far.org", b"b@mx.example.org")
    with Sender(home) as sender:
        order = sender.remote.order()
        os.write(sender.remote.reports, bytes([order.slot]) + b"K")
        for _ in range(50):
            os.write(sender.remote.reports, b"x" * 10000)
        sender.local.serve()
        sender.wait_for(": success: done/")
        os.write(sender.remote.reports, b"\0")
        sender.wait_until_empty()


def test_it_stops_when_a_spawner_is_gone_after_the_other_ones_reports(home: MailHome) -> None:
    queue_message(home, b"a@mx.example.org", b"b@far.org")
    with Sender(home) as sender:
        order = sender.local.order()
        sender.remote.order()
        sender.remote.close()
        sender.wait_for("alert: oh no! lost spawn connection! dying...")
        sender.local.report(order, SUCCESS)
        assert sender.process.wait(30) == 0
        assert sender.log().endswith("status: exiting\n")
    (remote,) = files_of(home, "remote")
    assert remote.read_bytes() == b"Tb@far.org\0"


def test_it_stops_when_qmail_clean_is_gone(home: MailHome) -> None:
    with Sender(home) as sender:
        sender.clean.kill()
        sender.wait_for("alert: oh no! lost qmail-clean connection! dying...")
        assert sender.process.wait(30) == 0


# Signals and settings


def test_hup_reads_locals_and_concurrency_again(home: MailHome) -> None:
    with Sender(home) as sender:
        home.control("locals", "new.org\n")
        home.control("virtualdomains", "virt.org:joe\n")
        home.control("concurrencylocal", "3\n")
        sender.send_signal(signal.SIGHUP)
        queue_message(home, b"a@new.org", b"b@virt.org", b"c@mx.example.org")
        assert {sender.local.serve().recipient for _ in range(2)} == {b"a@new.org", b"joe-b@virt.org"}
        assert sender.remote.serve().recipient == b"c@mx.example.org"
        sender.wait_for("status: local 0/3 remote 0/20")
        sender.wait_until_empty()


def test_hup_with_an_unreadable_file_changes_nothing(home: MailHome) -> None:
    home.control("locals", "old.org\n")
    with Sender(home) as sender:
        (home.path / "control/locals").unlink()
        (home.path / "control/locals").mkdir()
        sender.send_signal(signal.SIGHUP)
        sender.wait_for("alert: unable to reread control/locals")
        queue_message(home, b"a@old.org")
        sender.local.serve()
        sender.wait_until_empty()


def test_no_concurrency_holds_a_channel(home: MailHome) -> None:
    home.control("concurrencyremote", "0")
    with Sender(home) as sender:
        queue_message(home, b"a@far.org")
        eventually(lambda: files_of(home, "remote"), "preprocessed")
        assert sender.remote.next_order(0.2) is None
        home.control("concurrencyremote", "1")
        sender.send_signal(signal.SIGHUP)
        sender.remote.serve()
        sender.wait_until_empty()


# The queue


def test_big_todo(tmp_path: Path) -> None:
    home = make_home(tmp_path / "home", big_todo=True)
    queue_message(home, b"a@mx.example.org")
    queue_message(home, b"a@mx.example.org", b"b@far.org")
    with Sender(home) as sender:
        sender.local.serve()
        sender.local.serve()
        sender.remote.serve()
        sender.wait_until_empty()


def test_a_flood_does_not_stop_deliveries_of_the_other_channel(home: MailHome) -> None:
    for n in range(40):
        queue_message(home, b"u%d@mx.example.org" % n)
    with Sender(home) as sender:
        for _ in range(10):
            sender.local.order()  # which takes all slots, for good
        queue_message(home, b"x@far.org")
        sender.remote.serve()
        sender.wait_for("to remote x@far.org")


def test_what_does_not_fit_into_memory_is_preprocessed_bit_by_bit(home: MailHome) -> None:
    """With no concurrency nothing may wait in memory: 250 are more than a second's share."""
    home.control("concurrencylocal", "0")
    queue = home.queue
    for number in range(1000, 1250):
        Path(queue.mess(number)).write_bytes(b"Subject: hi\n\n")
        Path(queue.todo(number)).write_bytes(b"u0\0p1\0Fs@x.org\0Tu%d@mx.example.org\0" % number)
    with Sender(home) as sender:
        eventually(lambda: not list(queue.numbers("todo")), "nothing in todo/")
        queue_message(home, b"joe@far.org")
        sender.remote.serve()
        home.control("concurrencylocal", "20")
        sender.send_signal(signal.SIGHUP)
        served = {sender.local.serve().recipient for _ in range(250)}
        assert served == {b"u%d@mx.example.org" % number for number in range(1000, 1250)}
        sender.wait_until_empty()


def test_leftovers_of_36_hours_go_and_younger_ones_stay(home: MailHome) -> None:
    queue = home.queue
    paths = {"old": queue.mess(46), "young": queue.mess(47), "intd": queue.intd(46)}
    paths["pid"] = f"{queue.path}/pid/1.2"
    for path in paths.values():
        Path(path).write_bytes(b"x")
    for name in ("old", "pid"):
        os.utime(paths[name], (time.time() - 130_000,) * 2)
    with Sender(home):
        eventually(lambda: not os.path.exists(paths["old"]), "the old message is gone")
        eventually(lambda: not os.path.exists(paths["pid"]), "the old file in pid/ is gone")
    assert os.path.exists(paths["young"])
    assert not os.path.exists(paths["intd"])


def test_leftovers_of_a_broken_preprocessing_are_not_believed(home: MailHome) -> None:
    queue_message(home, b"joe@mx.example.org")
    queue, (message,) = home.queue, home.queued()
    Path(queue.local(message.number)).write_bytes(b"Twrong@mx.example.org\0")
    Path(queue.remote(message.number)).write_bytes(b"Twrong@far.org\0")
    Path(queue.info(message.number)).write_bytes(b"Fwr")
    with Sender(home) as sender:
        assert fields(sender.local.serve()) == (b"s@x.org", b"joe@mx.example.org")
        sender.wait_until_empty()
        assert sender.remote.next_order(0.1) is None


def test_a_c_queue_of_preprocessed_messages_is_finished(home: MailHome) -> None:
    """As C qmail-send leaves it: one half delivered, one bouncing, one that only needs removing."""
    queue = Queue.recognise(f"{home.path}/queue")
    place(queue, 100, local=b"Da@mx.example.org\0Tb@mx.example.org\0", remote=b"Tc@far.org\0")
    place(queue, 200, local=b"Da@mx.example.org\0", bounce=b"<a@mx.example.org>:\nno\n\n")
    place(queue, 300)
    with Sender(home) as sender:
        assert sender.local.serve().recipient == b"b@mx.example.org"
        assert {sender.remote.serve().recipient for _ in range(2)} == {b"c@far.org", b"s@x.org"}
        sender.wait_until_empty()


def place(queue: Queue, number: int, local: bytes = b"", remote: bytes = b"", bounce: bytes = b"") -> None:
    Path(queue.mess(number)).write_bytes(b"Subject: hi\n\nbody\n")
    Path(queue.info(number)).write_bytes(b"Fs@x.org\0")
    for path, content in (
        (queue.local(number), local),
        (queue.remote(number), remote),
        (queue.bounce(number), bounce),
    ):
        if content:
            Path(path).write_bytes(content)


# Kills


@pytest.mark.parametrize("seed", range(2))
def test_kills_at_any_moment_lose_nothing_and_repeat_only_what_was_not_reported(
    home: MailHome, seed: int
) -> None:
    """What the log calls a success is never tried again."""
    chance = random.Random(seed)
    expected: set[bytes] = set()
    for n in range(12):
        recipients = [b"m%d-%d@mx.example.org" % (n, k) for k in range(1 + n % 3)]
        expected |= set(recipients)
        queue_message(home, *recipients)
    delivered: set[bytes] = set()
    logged: set[bytes] = set()
    while unfinished(home):
        with Sender(home) as sender:
            names: dict[str, bytes] = {}
            for _ in range(chance.randrange(1, 25)):
                order = sender.local.next_order(0.3)
                if not order:
                    break
                assert order.recipient not in logged
                delivered.add(order.recipient)
                sender.local.report(order, chance.choice([SUCCESS, SUCCESS, DEFERRAL]))
                if chance.random() < 0.05:
                    sender.send_signal(signal.SIGALRM)
            time.sleep(chance.random() * 0.02)
            sender.stop(signal.SIGKILL)
        for line in sender.log().splitlines():
            words = line.split()
            if line.startswith("starting delivery "):
                names[words[2].rstrip(":")] = words[-1].encode()
            elif line.startswith("delivery ") and words[2] == "success:":
                logged.add(names[words[1].rstrip(":")])
        make_all_due(home)
    assert delivered == expected
    assert logged <= delivered
    sweep_up(home)


def unfinished(home: MailHome) -> list[str]:
    """What qmail-send still has to do something about; a message alone is for the sweep."""
    return [name for name in home.files() if not name.startswith(("mess/", "intd/"))]


def sweep_up(home: MailHome) -> None:
    """What a kill has left goes after 36 hours."""
    for path in files_of(home, "mess"):
        os.utime(path, (1, 1))
    with Sender(home) as sender:
        sender.wait_until_empty()


def make_all_due(home: MailHome) -> None:
    for path in files_of(home, "local"):
        os.utime(path, (1, 1))
