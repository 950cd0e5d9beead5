"""A first agent. Start it with `penstock up examples/support.py`, or `python examples/support.py`."""

from collections.abc import AsyncIterator

import penstock

app = penstock.App("support")


@app.agent("support", description="Answers, a word at a time.")
async def support(run: penstock.Run) -> AsyncIterator[str]:
    yield "You said: "
    for word in run.text.split():
        yield word + " "


if __name__ == "__main__":
    app.run()
