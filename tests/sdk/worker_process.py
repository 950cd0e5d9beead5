"""A worker in a process of its own, with agents that misbehave: `python -m tests.sdk.worker_process ADDRESS`."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

from penstock import App, Run, Step
from penstock.worker import WorkerSettings, main

app = App("misbehaving")


@app.agent("echo")
async def echo(run: Run) -> AsyncIterator[str]:
    yield run.text


@app.agent("blocks")
async def blocks(run: Run) -> AsyncIterator[str]:
    """Blocks the event loop for so many seconds."""
    yield "before "
    await asyncio.sleep(0.05)  # so that `before` is sent
    time.sleep(float(run.text))  # noqa: ASYNC251 - that is what it is for
    yield "after"


@app.agent("stubborn")
async def stubborn(run: Run) -> AsyncIterator[str]:
    """Does not stop for anything."""
    yield "here "
    while True:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            yield "still here "


@app.agent("hangs")
def hangs(run: Run) -> Iterator[str]:
    """Hangs in its thread."""
    yield "hanging "
    threading.Event().wait()


@app.agent("errands")
async def errands(run: Run) -> AsyncIterator[str]:
    """Three steps, each noted in a file; the third waits until another file is there."""
    folder = Path(run.text)
    for name in ("one", "two", "three"):
        yield f"{name}: "
        yield f"{await run.step(name, errand, name, str(folder))} "
    yield "done"


def errand(step: Step, name: str, folder: str) -> str:
    step.blocking.say("doing ")
    while name == "three" and not Path(folder, "go").exists():
        time.sleep(0.01)
    with Path(folder, "effects").open("a") as effects:
        effects.write(f"{name}\n")
    return f"did {name}"


@asynccontextmanager
async def worker_process(address: str, **settings: float) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run this file as a worker of the core at `address`."""
    environment = {f"PENSTOCK_{name.upper()}": str(value) for name, value in settings.items()}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.sdk.worker_process", address, env=os.environ | environment
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


if __name__ == "__main__":
    main(app, WorkerSettings.load(core=sys.argv[1]))
