"""Runs scenarios one after another, each on a fresh system and an empty database, each bounded in time."""

from __future__ import annotations

import asyncio
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from bench.databases import Databases
from bench.events import WrongStream
from bench.report import Result
from bench.scenarios import SCENARIOS
from bench.sizes import Sizes
from bench.stage import Stage
from bench.system import SystemFailed

LIMIT_SECONDS = 120.0
"""For one scenario; what hangs is a failure, not a wait."""


async def run_scenarios(
    databases: Databases, names: Sequence[str], sizes: Sizes, *, on_result: Callable[[Result], None]
) -> list[Result]:
    """Run the named scenarios on one kind of database."""
    results = []
    for name in names:
        results.append(await _run(databases, name, sizes))
        on_result(results[-1])
    return results


async def _run(databases: Databases, name: str, sizes: Sizes) -> Result:
    begin = time.monotonic()
    measurement, failure = None, ""
    said: list[str] = []
    with tempfile.TemporaryDirectory(prefix=f"penstock-bench-{name}-") as path:
        folder = Path(path)
        try:
            with databases.new(folder) as database:
                async with asyncio.timeout(LIMIT_SECONDS):
                    measurement = await SCENARIOS[name](Stage(sizes, database, folder, said))
        except TimeoutError:
            failure = f"not done after {LIMIT_SECONDS:g} s"
        except Exception as error:  # noqa: BLE001 - reported; the other scenarios go on
            failure = _explanation(error)
    return Result(name, databases.name, time.monotonic() - begin, measurement, failure, said)


def _explanation(error: Exception) -> str:
    """What is known well in a line each, many clients often say the same; anything else with its traceback."""
    causes = list(_leaves(error))
    if all(isinstance(cause, WrongStream | SystemFailed) for cause in causes):
        return "\n".join(dict.fromkeys(map(str, causes)))
    return "".join(traceback.format_exception(error))


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _leaves(inner)
    else:
        yield error
