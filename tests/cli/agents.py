"""The agents that the tests of the command line run."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import penstock

app = penstock.App("cli-tests")


@app.agent("echo", description="Repeats what you say.")
async def echo(run: penstock.Run) -> AsyncIterator[str]:
    for word in run.text.split():
        yield word + " "


@app.agent("fail")
async def fail(run: penstock.Run) -> AsyncIterator[str]:
    yield "So far"
    raise penstock.Fatal("It broke.", code="BROKEN")


@app.agent("endless")
async def endless(run: penstock.Run) -> AsyncIterator[str]:
    yield "working"
    await asyncio.Event().wait()


@app.agent("stubborn")
async def stubborn(run: penstock.Run) -> AsyncIterator[str]:
    yield "working"
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        yield "cleaning up"
        await asyncio.Event().wait()


@app.agent("double")
async def double(run: penstock.Run) -> dict[str, int]:
    value = run.input
    assert isinstance(value, dict)
    return {"doubled": 2 * value["number"]}


@app.agent("size", description="Asks which size.")
async def size(run: penstock.Run) -> AsyncIterator[str]:
    answer = await run.ask("Which size?", on_expiry="continue")
    yield f"{answer.outcome}: {answer.text}"


@app.agent("refund", description="Asks whether it may.")
async def refund(run: penstock.Run) -> AsyncIterator[str]:
    answer = await run.ask("Refund it?", kind="approval")
    yield f"{answer.outcome}: {answer.value}"


@app.agent("seat", description="Asks for a seat by a schema of its own.")
async def seat(run: penstock.Run) -> AsyncIterator[str]:
    row = {"type": "integer", "minimum": 1}
    answer = await run.ask("Which row?", schema={"type": "object", "properties": {"row": row}, "required": ["row"]})
    yield f"{answer.outcome}: {answer.value}"


@app.agent("walk", description="Reads its inbox until it is told to stop.")
async def walk(run: penstock.Run) -> AsyncIterator[str]:
    yield "walking"
    async for message in run.inbox:
        text = message.parts[0].text.text
        yield f", {text}"
        if text == "stop":
            return


@app.agent("weather")
async def weather(run: penstock.Run) -> AsyncIterator[str | penstock.ToolCall | penstock.ToolResult]:
    yield "I look."
    yield penstock.ToolCall("call_1", "get_weather", {"place": run.text}, title=f"Weather in {run.text}")
    yield penstock.ToolResult("call_1", {"sky": "clear"})
    yield "It is clear."
