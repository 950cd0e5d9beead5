"""An agent that listens while it works. Start it with `penstock up examples/steering.py`, steer it with `steer.py`."""

import asyncio
from collections.abc import AsyncIterator

import penstock

app = penstock.App("walks")


@app.agent("walk", description="Walks until somebody tells it to stop.", capabilities=["steering"])
async def walk(run: penstock.Run) -> AsyncIterator[str]:
    direction = "ahead"
    while direction != "stop":
        yield f"{direction} "
        await asyncio.sleep(0.05)
        for message in run.inbox.read():
            direction = message.parts[0].text.text
    yield "and stops."


if __name__ == "__main__":
    app.run()
