"""svstat -v and --json: how a service is in figures, its process tree's among them."""

from __future__ import annotations

import json
import time

from supervise import details, svstat
from supervise.details import Details
from supervise.status import Status
from supervise.tai import SECOND

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeAlias

    import psutil

    Facts: TypeAlias = dict[str, str | int | float | bool | None]

MEGABYTE = 1_000_000


def teller(verbose: bool, json: bool) -> Callable[[str], str]:
    """What svstat calls for each service."""
    return lambda service: _tell(service, verbose, json)


def _tell(service: str, verbose: bool, as_json: bool) -> str:
    now = time.time_ns()
    try:
        record, normally_up = svstat.look(service)
    except svstat.Unknown as problem:
        return _json({"service": service, "error": str(problem)}) if as_json else f"{service}: {problem}"
    known = details.read(record.when)
    tree = process_tree(record.pid) if verbose and record.pid else {}
    if as_json:
        facts: Facts = {"service": service, **state(record, normally_up, known, now), **tree}
        return _json(facts)
    said = [f"{service}: {record.describe(normally_up, now)}", *_figures(tree), *_remarks(known, now)]
    return "\n    ".join(said)


def _json(facts: Facts) -> str:
    return json.dumps(facts)


def state(record: Status, normally_up: bool, known: Details | None, now: int) -> Facts:
    """What the status record says, and the details if there are any."""
    facts: Facts = {
        "up": record.pid != 0,
        "pid": record.pid or None,
        "seconds": record.seconds(now),
        "normally": "up" if normally_up else "down",
        "want": {"u": "up", "d": "down"}.get(record.want),
        "paused": record.paused and record.pid != 0,
    }
    more = known or details.plain(record)
    facts["phase"] = more.phase
    facts["ready"] = more.ready_since is not None
    facts["failed"] = more.failed
    facts["last_end"] = known.last_end if known else None
    facts["starts_in"] = _until(more.starts_at, now)
    facts["remark"] = more.remark or None
    return facts


def _until(moment: int | None, now: int) -> float | None:
    return None if moment is None else max(0.0, round((moment - now) / SECOND, 1))


def process_tree(pid: int) -> Facts:
    """The figures of a process and all that descend from it, summed up; empty if it is gone."""
    import psutil

    try:
        root = psutil.Process(pid)
        processes = [root, *root.children(recursive=True)]
        began = root.create_time()
    except psutil.NoSuchProcess:
        return {}
    return {
        "processes": len(processes),
        "uptime": round(max(0.0, time.time() - began), 1),
        "cpu_seconds": round(sum(_cpu(process) for process in processes), 2),
        "memory_bytes": sum(_memory(process) for process in processes),
    }


def _cpu(process: psutil.Process) -> float:
    import psutil

    try:
        times = process.cpu_times()
    except psutil.Error:  # gone, or none of our business
        return 0.0
    return float(times.user + times.system)


def _memory(process: psutil.Process) -> int:
    """The proportional share where it may be known, else what is resident."""
    import psutil

    try:
        try:
            return int(process.memory_full_info().pss)
        except psutil.AccessDenied:
            return int(process.memory_info().rss)
    except psutil.Error:  # gone
        return 0


def _figures(tree: Facts) -> list[str]:
    if not tree:
        return []
    many = "1 process" if tree["processes"] == 1 else f"{tree['processes']} processes"
    memory = int(tree["memory_bytes"] or 0) / MEGABYTE
    return [f"{many} since {tree['uptime']} s, CPU {tree['cpu_seconds']} s, memory {memory:.1f} MB"]


def _remarks(known: Details | None, now: int) -> list[str]:
    """What the details say, in words."""
    if not known:
        return []
    words = [known.phase if not known.failed else f"{known.phase}, failed"]
    if known.ready_since is not None:
        words.append(f"ready for {max(0, now - known.ready_since) // SECOND} seconds")
    elif known.phase == "up":
        words.append("not ready")
    if known.starts_at is not None:
        words.append(f"starts in {_until(known.starts_at, now)} seconds")
    words.append(f"last end: {known.last_end}")
    if known.remark:
        words.append(known.remark)
    return [", ".join(words)]
