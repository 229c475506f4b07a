"""A worker runs job after job, whatever a job does to the descriptors that programs use by number."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

SERVER = """
import os
from supervise.workers import Worker

def job(payload, fds):
    os.closerange(3, 32)  # as a program that uses 3, 6 or 7
    return int(payload)

worker = Worker.start("test", job)
for number in (7, 8, 9):
    reads, writes = os.pipe()
    worker.assign(b"%d" % number, [reads])
    os.close(reads), os.close(writes)
    print(worker.report())
worker.close()
print(os.waitpid(worker.pid, 0)[1])
"""


def test_a_job_may_use_any_low_descriptor(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SERVER], cwd=tmp_path, capture_output=True, timeout=30, check=False,
        env={"PATH": os.environ["PATH"]},
    )  # fmt: skip
    assert (done.stdout, done.stderr) == (b"7\n8\n9\n0\n", b"")
