"""Hatchling's hook: the manual pages are made when the package is built, and installed in share/man."""

from __future__ import annotations

import runpy
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class ManualPages(BuildHookInterface):  # type: ignore[type-arg]
    """Adds a page for every command to the wheel."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version == "editable":
            return
        self._pages = tempfile.TemporaryDirectory()
        target = Path(self._pages.name)
        write_pages = runpy.run_path(f"{self.root}/man/generate.py")["write_pages"]
        for place in write_pages(target):
            build_data["shared_data"][str(target / place)] = f"share/man/{place}"

    def finalize(self, *_: object) -> None:
        self._pages.cleanup()
