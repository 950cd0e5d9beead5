"""An agent that says what the demo agents do not: state, steps, files, data, tokens, and what its client told it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import penstock
from penstock.outputs import AnyOutput

app = penstock.App("client-tests")


@app.agent("planner", description="Keeps a plan in the thread's state, and tells all it knows.")
async def planner(run: penstock.Run) -> AsyncIterator[str | AnyOutput]:
    yield penstock.StepStarted(1, name="plan")
    if run.state:
        yield penstock.State(patch=[{"op": "add", "path": "/plan/-", "value": run.text}])
    else:
        yield penstock.State({"plan": [run.text]})
    yield penstock.Custom("progress", {"percent": 50})
    yield f"Noted {run.text}. "
    yield penstock.Source("s1", url="https://x.example/1", title="A page")
    yield penstock.File("image/png", url="https://x.example/plan.png", name="plan.png")
    yield penstock.Data("client", run.agent_options, key="options")
    yield penstock.Usage(12, 3, provider="maker", model="m")
    yield penstock.StepEnded()
