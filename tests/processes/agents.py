"""Agents that the process tests need besides the demo agents. Served by `penstock up tests/processes/agents.py`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import penstock
from penstock.demo import app

__all__ = ["app"]


async def exists(path: Path) -> None:
    """Return once a file is there: how a test lets an agent go on."""
    while not path.exists():
        await asyncio.sleep(0.01)


@app.agent("quiet", description="Notes its start in a folder, and says nothing before the file `go` is there.")
async def quiet(run: penstock.Run) -> AsyncIterator[str]:
    folder = Path(run.text)
    (folder / f"started-{run.attempt}").touch()
    await exists(folder / "go")
    yield "done"


@app.agent("gated", description="Says `one`, waits for the file `go`, says `two`.")
async def gated(run: penstock.Run) -> AsyncIterator[str]:
    folder = Path(run.text)
    yield "one "
    (folder / f"started-{run.attempt}").touch()
    try:
        await exists(folder / "go")
    except asyncio.CancelledError:
        (folder / "cancelled").touch()
        raise
    yield "two"


@app.agent("block", description="Blocks the worker's event loop for so many seconds.")
async def block(run: penstock.Run) -> AsyncIterator[str]:
    yield "before "
    time.sleep(float(run.text))  # noqa: ASYNC251 — that is what it is for
    yield "after"


@app.agent("errands", description="Three durable steps, each noted in a file; the third waits for the file `go`.")
async def errands(run: penstock.Run) -> AsyncIterator[str]:
    folder = Path(run.text)
    for name in ("one", "two", "three"):
        yield f"{name}: "
        yield f"{await run.step(name, errand, str(folder), name)} "
    yield "all done"


async def errand(step: penstock.Step, folder: str, name: str) -> str:
    directory = Path(folder)
    await step.say("doing ")
    if name == "three":
        (directory / "third").touch()
        await exists(directory / "go")
    with (directory / "effects").open("a") as effects:
        effects.write(f"{name}\n")
    return f"did {name}"


@app.agent("asker", description="Asks two questions at once, and tells the answers.")
async def asker(run: penstock.Run) -> AsyncIterator[str]:
    yield "Two questions. "
    first, second = await asyncio.gather(run.ask("First?"), run.ask("Second?", on_expiry="continue"))
    yield f"{first.text or first.outcome}, {second.text or second.outcome}."
