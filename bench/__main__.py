"""make bench: run every benchmark, or those named (`make bench BENCH="smtp multilog"`)."""

from __future__ import annotations

import importlib
import pkgutil
import sys

import bench


def main() -> int:
    names = sys.argv[1:] or [
        m.name for m in pkgutil.iter_modules(bench.__path__) if not m.name.startswith("_")
    ]
    for name in names:
        module = importlib.import_module(f"bench.{name}")
        print(f"== {name}: {(module.__doc__ or '').strip().splitlines()[0]}", flush=True)
        for line in module.measure():
            print(f"   {line}", flush=True)
    return 0


sys.exit(main())
