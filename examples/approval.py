"""An agent that asks before it acts. Start it with `penstock up examples/approval.py`, answer with `answer.py`.

It may wait for days: stop everything while it does, start it again, answer, and it goes on.
"""

from collections.abc import AsyncIterator

import penstock

app = penstock.App("shop")


@app.agent("refund", description="Refunds an order, once somebody approves it.")
async def refund(run: penstock.Run) -> AsyncIterator[str | penstock.ToolCall | penstock.ToolResult]:
    yield "I would refund this. "
    call = penstock.ToolCall("refund_1", "refund", {"order": run.text}, title=f"Refund order {run.text}?")
    yield call
    if await run.approve(call):
        yield penstock.ToolResult(call.call_id, {"refunded": True})
        yield "It is refunded."
    else:
        yield penstock.ToolResult(call.call_id, denied=True)
        yield "Nobody wants me to."


if __name__ == "__main__":
    app.run()
