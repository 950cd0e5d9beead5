"""The golden run: one agent run in every variant of its course and its end, always the same to the byte.

`VARIANTS` maps a name to the run's events from seq 1. `everything` holds every kind of event there is; the others are
short and named after what they end with or show. `waiting` has no end yet: its run is still paused. Encoders are
tested against exact frames of these, and at every cut of each.
"""

from __future__ import annotations

from collections.abc import Callable

from penstock.v1.event_pb2 import Event
from penstock.v1.message_pb2 import FilePart, Part, ToolOutcome
from penstock.v1.run_pb2 import EndReason, InputKind, InputOutcome, RunError
from tests.grammar.outputs import (
    ask,
    call,
    child,
    child_done,
    custom,
    data,
    end,
    file,
    message,
    patch,
    reasoning,
    result,
    result_piece,
    signature,
    snapshot,
    source,
    step,
    step_done,
    text,
    turn,
    turn_done,
    usage,
    wait,
)
from tests.grammar.script import Script

APPROVAL = InputKind.INPUT_KIND_APPROVAL
BROKEN = RunError(code="TOOL_BROKEN", message="The weather service does not answer.", retryable=True)


def golden() -> Script:
    """A run that was just started, of an agent whose client offers the tool `show_map`."""
    return Script(client_tools=["show_map"]).begin()


def hello(script: Script) -> Script:
    return script.say(text("Good "), text("morning."))


def weather(script: Script) -> Script:
    """One turn: thinks, speaks, calls a tool of its own with streamed arguments, and has its result."""
    return script.say(
        turn(1, max_steps=4),
        reasoning("They want "),
        reasoning("the weather."),
        signature('{"signature":"c2ln"}'),
        text("Let me look. "),
        call("call_weather", '{"city":', tool="weather", title="Weather in Bern"),
        call("call_weather", ' "Bern"}', tool="weather", done=True),
        usage(120, 30),
        result_piece("call_weather", '{"sky":', tool="weather"),
        result_piece("call_weather", '"clear"}', tool="weather", done=True),
        turn_done(),
    )


def two_tools(script: Script) -> Script:
    """Two calls at once whose arguments interleave; one tool runs while the other's arguments stream; one fails."""
    return script.say(
        text("Both. "),
        call("call_a", '{"q":', tool="search"),
        call("call_b", "{", tool="fetch"),
        call("call_a", "1}", tool="search", done=True),
        result("call_a", '["one","two"]', tool="search", duration_ms=12),
        call("call_b", "}", tool="fetch", done=True),
        result("call_b", tool="fetch", error="no such page"),
        text("Done."),
    )


def attachments(script: Script) -> Script:
    chart = Part(file=FilePart(name="chart.png", media_type="image/png", url="https://files.example/chart.png"))
    return script.say(
        text("See [1]. "),
        source("https://pages.example/1", title="A page"),
        text("And the chart:"),
        file("https://files.example/chart.png", name="chart.png"),
        data("forecast", '{"days": 3}', key="bern"),
        call("call_draw", "{}", tool="draw", done=True),
        result("call_draw", '"drawn"', tool="draw", content=(chart,)),
    )


def shared_state(script: Script) -> Script:
    add = '[{"op": "add", "path": "/cities/-", "value": "Basel"}]'
    return script.say(snapshot('{"cities": ["Bern"]}'), patch(add), custom("progress", '{"percent": 50}'))


def helper(script: Script) -> Script:
    """A child run that speaks beside its parent."""
    return script.say(
        text("I ask a colleague. "),
        call("call_helper", '{"task":"check"}', tool="helper", done=True),
        child("run_child", call_id="call_helper"),
        text("Checking", "run_child"),
        text(" …", "run_child"),
        child_done("run_child"),
        result("call_helper", '"checked"', tool="helper"),
    )


def approval(script: Script) -> Script:
    """Proposes a call and pauses for a human."""
    return script.say(
        text("May I book? "),
        call("call_book", '{"seats":2}', tool="book", done=True),
        ask("book#1", "Book two seats?", kind=APPROVAL, call_id="call_book"),
        wait(),
    )


def booked(script: Script) -> Script:
    script.answer('{"approved":true}')
    return script.say(result("call_book", '{"booking":"B7"}', tool="book"), text("Booked."))


def retried(script: Script) -> Script:
    """An attempt that is lost: what its completed step said stays, the rest is retracted, and the state goes back."""
    script.say(
        text("First. "),
        step("plan#1", name="plan"),
        text("A plan. "),
        step_done("plan#1", '{"ok":true}'),
        text("Lost "),
        call("call_again", '{"n":1}', tool="search", done=True),
        snapshot('{"lost":true}'),
    )
    script.retry().start()
    return script.say(
        call("call_again", '{"n":1}', tool="search", done=True),
        result("call_again", "1", tool="search"),
        text("Found."),
    )


def everything() -> Script:
    script = helper(shared_state(attachments(two_tools(weather(golden())))))
    script.receive("Please hurry.").say(message("critic"), text("Hurrying. "), message())
    retried(script)
    booked(approval(script))
    return script.say(usage(200, 50, model="model-2", cost_usd=0.25), usage(10, 5), end())


def failed() -> Script:
    script = weather(golden()).say(text("Now the "), call("call_cut", '{"ci', tool="weather"))
    return script.say(end(EndReason.END_REASON_AGENT_ERROR, error=BROKEN))


def rejected() -> Script:
    error = RunError(code="OFF_TOPIC", message="I only talk about the weather.")
    return golden().say(end(EndReason.END_REASON_REJECTED, error=error))


def cancelled() -> Script:
    """Cancelled in the middle of a child's sentence, with a call of the agent's own that has no result."""
    script = golden().say(turn(1), text("Wait. "), call("call_slow", "{}", tool="slow", done=True))
    script.say(child("run_child", call_id="call_slow"), text("Still ", "run_child"))
    return script.end(EndReason.END_REASON_USER)


def denied() -> Script:
    script = approval(golden())
    script.answer('{"approved":false}', InputOutcome.INPUT_OUTCOME_DECLINED)
    refusal = result("call_book", tool="book", error="not approved", outcome=ToolOutcome.TOOL_OUTCOME_DENIED)
    return script.say(refusal, text("Then not."), end())


def client_tools() -> Script:
    script = golden().say(text("Look: "), call("call_map", '{"zoom":', tool="show_map"))
    return script.say(call("call_map", "3}", tool="show_map", done=True), end())


def released() -> Script:
    """Answered when no worker held the run any more: another one starts the handler again."""
    script = approval(golden()).answer('{"approved":true}').resume().start()
    return script.say(result("call_book", '{"booking":"B7"}', tool="book"), text("Booked."), end())


_COURSES: dict[str, Callable[[], Script]] = {
    "everything": everything,
    "succeeded": lambda: hello(golden()).say(usage(7, 3), end()),
    "silent": lambda: golden().say(end(result_json='{"answer": 42}')),
    "tool": lambda: weather(golden()).say(text("Clear."), end()),
    "two_tools": lambda: two_tools(golden()).say(end()),
    "attachments": lambda: attachments(golden()).say(end()),
    "child": lambda: helper(golden()).say(text("Thanks."), end()),
    "length": lambda: hello(golden()).say(end(EndReason.END_REASON_LENGTH)),
    "content_filter": lambda: hello(golden()).say(end(EndReason.END_REASON_CONTENT_FILTER)),
    "client_tools": client_tools,
    "failed": failed,
    "rejected": rejected,
    "cancelled": cancelled,
    "timeout": lambda: hello(golden()).end(EndReason.END_REASON_TIMEOUT),
    "queue_timeout": lambda: Script().queue().end(EndReason.END_REASON_QUEUE_TIMEOUT),
    "worker_lost": lambda: weather(golden()).say(text("Cle")).end(EndReason.END_REASON_WORKER_LOST),
    "waiting": lambda: approval(golden()),
    "resumed": lambda: booked(approval(golden())).say(end()),
    "released": released,
    "denied": denied,
    "input_expired": lambda: approval(golden()).end(EndReason.END_REASON_INPUT_EXPIRED),
    "cancelled_while_waiting": lambda: approval(golden()).end(EndReason.END_REASON_USER),
    "retry": lambda: retried(golden()).say(end()),
}

VARIANTS: dict[str, list[Event]] = {name: course().events() for name, course in _COURSES.items()}
