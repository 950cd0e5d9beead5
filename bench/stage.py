"""What a scenario gets: its sizes, an empty database, and systems to start on it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bench import system
from bench.closed_loop import closed_loop
from bench.databases import Database
from bench.sizes import Sizes
from bench.system import System
from penstock.cli.apps import DEMO

LOOK_AGAIN = 0.1
FOLD_AT_ONCE, FOLD_LATER = {"fold_delay": 0.0}, {"fold_delay": 86_400.0}
"""Settings of a core for scenarios that compare a log as written with the same log folded."""


@dataclass(frozen=True)
class Stage:
    """One scenario on one database."""

    sizes: Sizes
    database: Database
    folder: Path
    complaints: list[str] = field(default_factory=list)
    """Warnings and errors that the system logged while it was measured."""

    @asynccontextmanager
    async def system(
        self, core_settings: Mapping[str, object] | None = None, *, app: str = DEMO
    ) -> AsyncIterator[System]:
        """Run a system."""
        async with system.running(self.database, self.folder, core_settings or {}, app=app) as serving:
            try:
                yield serving
            finally:
                self.complaints[:] = system.complaints(self.folder)

    async def folded(self) -> None:
        """Return once no log is left to be folded."""
        while self.database.runs_to_fold():  # noqa: ASYNC110 - another process folds
            await asyncio.sleep(LOOK_AGAIN)

    async def warm_up(self, serving: System) -> None:
        """Let it serve some runs before it is measured."""
        await closed_loop(serving.edge, clients=8, deltas=20, seconds=self.sizes.warm_up)
