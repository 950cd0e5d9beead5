"""An agent that calls others. Start it with `penstock up examples/team.py`, then `penstock run editor wheels`."""

import asyncio
from collections.abc import AsyncIterator

import penstock

app = penstock.App("team")


@app.agent("researcher", description="Knows something about everything.")
async def researcher(run: penstock.Run) -> AsyncIterator[str]:
    for word in f"There is a lot to say about {run.text}.".split():
        yield word + " "


@app.agent("editor", description="Asks two researchers at once, and puts it together.")
async def editor(run: penstock.Run) -> AsyncIterator[str]:
    yield "Asking around. "
    # Each is a run of its own, wherever there is room. With `stream` its words are seen here too, in its own lane.
    past, future = await asyncio.gather(
        run.call("researcher", f"{run.text} in the past", stream=True, name="Historian"),
        run.call("researcher", f"{run.text} in the future", stream=True, name="Futurist"),
    )
    yield f"{past.text}{future.text}"


if __name__ == "__main__":
    app.run()
