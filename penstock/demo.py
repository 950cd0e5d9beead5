"""The demo agents: what `penstock up` serves when no app is named. Tests, examples and the bench use them too.

echo    repeats the text, a word per delta          slow    20 pieces in about 3.5 s, the same every time
think   reasons, then answers                       error   says something, then raises
tool    calls a tool of its own                     ctool   calls the first tool that the client offered
approve books a table, once somebody approves it    steps   adds three numbers up, each in a durable step
count   the load generator's agent: counts as fast or as slowly as it is told
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import msgspec

from penstock.app import App
from penstock.durable import Step
from penstock.errors import Rejected
from penstock.outputs import Reasoning, ToolCall, ToolResult
from penstock.run import Run
from penstock.v1.message_pb2 import ToolResultPart

app = App("demo", version="1", owner="Penstock")

SLOW_PAUSE = 0.18
SLOW_PIECES = (
    *("The ", "water ", "comes ", "down ", "from ", "the ", "lake ", "through ", "a ", "gate, "),
    *("and ", "what ", "passes ", "the ", "gate ", "turns ", "the ", "wheels ", "below ", "it."),
)


@app.agent("echo", description="Repeats what you say.")
async def echo(run: Run) -> AsyncIterator[str]:
    for word in run.text.split():
        yield word + " "


@app.agent("think", description="Thinks about what you say, then answers.")
async def think(run: Run) -> AsyncIterator[str | Reasoning]:
    words = run.text.split()
    for thought in ("Somebody ", "said ", f"{len(words)} ", "words. ", "I ", "should ", "say ", "so."):
        yield Reasoning(thought)
    for word in ("You ", "said ", f"{len(words)} ", "words."):
        yield word


@app.agent("tool", description="Looks up the weather with a tool of its own.", capabilities=["tools"])
async def tool(run: Run) -> AsyncIterator[str | ToolCall | ToolResult]:
    place = run.text.strip() or "Lucerne"
    for word in ("Let ", "me ", "look. "):
        yield word
    call_id = _call_id(run)
    yield ToolCall(call_id, "get_weather", {"place": place, "unit": "celsius"}, title=f"Weather in {place}")
    yield ToolResult(call_id, {"place": place, "temperature": 17, "sky": "clear"})
    for word in ("It ", "is ", "17 ", "degrees ", "in ", f"{place}, ", "and ", "clear."):
        yield word


@app.agent("slow", description="Says the same twenty words, slowly.")
async def slow(run: Run) -> AsyncIterator[str]:
    for number, piece in enumerate(SLOW_PIECES):
        if number:
            await asyncio.sleep(SLOW_PAUSE)
        yield piece


@app.agent("error", description="Says something, then fails.")
async def error(run: Run) -> AsyncIterator[str]:
    for word in ("This ", "will ", "not ", "end ", "well. "):
        yield word
    raise RuntimeError("the demo agent `error` always fails; nobody but the log should see this text")


@app.agent("ctool", description="Calls the first tool that you offer, and uses your result.", capabilities=["tools"])
async def ctool(run: Run) -> AsyncIterator[str | ToolCall]:
    result = _newest_result(run)
    if result is not None:
        yield f"Your tool {result.tool_name} said: "
        yield result.error_text or result.output_json
    elif run.tools:
        yield "Your turn. "
        yield ToolCall(_call_id(run), run.tools[0].name, {"text": run.text})
    else:
        raise Rejected("Offer a tool, and I will call it.")


@app.agent("approve", description="Books a table, once you have approved it.", capabilities=["tools", "approvals"])
async def approve(run: Run) -> AsyncIterator[str | ToolCall | ToolResult]:
    for word in ("I ", "found ", "a ", "table. "):
        yield word
    arguments = {"place": run.text.strip() or "Lucerne", "people": 2, "time": "19:30"}
    call = ToolCall(_call_id(run), "book_table", arguments, title=f"Book a table in {arguments['place']}")
    yield call
    decision = await run.approve(call)
    if decision:
        yield ToolResult(call.call_id, {"booked": True, **arguments})
        verdict = "It is approved and booked."
    else:
        yield ToolResult(call.call_id, denied=True)
        verdict = "It was not approved: nothing is booked."
    yield verdict


@app.agent("steps", description="Adds three numbers up, each in a durable step.")
async def steps(run: Run) -> AsyncIterator[str]:
    total = 0
    for number, name in enumerate(("one", "two", "three"), 1):
        total += await run.step(name, _count_step, name, number)
    yield f"makes {total}."


async def _count_step(step: Step, name: str, number: int) -> int:
    await step.say(f"{name} ")
    return number


class Count(msgspec.Struct, forbid_unknown_fields=True):
    """What `count` is asked for, as a data part or as JSON text."""

    deltas: int
    rate: float = 0.0
    """Deltas per second; 0 is full speed."""
    stamp: bool = False
    """Say the time (nanoseconds since 1970) instead of the number, so that the receiver can tell the latency."""


@app.agent("count", description="Counts to `deltas`, at `rate` per second or as fast as it can.")
async def count(run: Run) -> AsyncIterator[str]:
    order = _count_order(run)
    loop = asyncio.get_running_loop()
    start = loop.time()
    for number in range(order.deltas):
        if order.rate:
            ahead = start + number / order.rate - loop.time()
            if ahead > 0:
                await asyncio.sleep(ahead)
        yield f"{time.time_ns()} " if order.stamp else f"{number + 1} "


def _count_order(run: Run) -> Count:
    try:
        if run.input is None:
            return msgspec.json.decode(run.text, type=Count)
        return msgspec.convert(run.input, Count)
    except msgspec.MsgspecError as mistake:
        raise Rejected(f'Ask with {{"deltas": 100, "rate": 0}}: {mistake}') from mistake


def _call_id(run: Run) -> str:
    return "call_" + run.id.removeprefix("run_")


def _newest_result(run: Run) -> ToolResultPart | None:
    for message in reversed(run.new_messages):
        for part in reversed(message.parts):
            if part.HasField("tool_result"):
                return part.tool_result
    return None
