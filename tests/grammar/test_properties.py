"""Any sequence of outputs and acts, cut at any point and rebuilt from its own log, gives the same log, and a good one.

`PENSTOCK_EXAMPLES=20000 pytest tests/grammar/test_properties.py` searches longer.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core_service.domain import runs
from core_service.domain.errors import InvalidOutput
from penstock.v1.message_pb2 import ToolRunner
from penstock.v1.run_pb2 import EndReason, InputOutcome, RunState
from penstock.v1.worker_service_pb2 import Output
from tests.grammar import outputs
from tests.grammar.checker import violations
from tests.grammar.script import Script

EXAMPLES = int(os.environ.get("PENSTOCK_EXAMPLES", "250"))
searching = settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow])

Act = Callable[[Script], object]

lanes = st.sampled_from(["", "", "", "run_child", "side"])
pieces = st.text(alphabet="ab é😀\n", max_size=6)
call_ids = st.sampled_from(["c1", "c2", "c3", "c1-2", "not an id", "L" * 64])
arguments = st.sampled_from(["", "{}", '{"a": 1}', '{"a":', "1}", "[1]", "nonsense"])
tools = st.sampled_from(["search", "search", "click", ""])
json_texts = st.sampled_from(["", "null", "{}", '{"n": 1.0}', "[1, 2", '"x"'])
runners = st.sampled_from([ToolRunner.TOOL_RUNNER_UNSPECIFIED] * 3 + [ToolRunner.TOOL_RUNNER_CLIENT])
step_keys = st.sampled_from([("a#1", "", ""), ("a#1/b#1", "a#1", ""), ("c#1", "", "side"), ("d#1", "", "")])
reasons = st.sampled_from(sorted(set(EndReason.values()) - {EndReason.END_REASON_UNSPECIFIED}))
patches = st.sampled_from(
    [
        '[{"op": "add", "path": "/a", "value": 1}]',
        '[{"op": "replace", "path": "/a", "value": [1.0]}]',
        '[{"op": "copy", "from": "", "path": "/a"}]',
        '[{"op": "remove", "path": "/a"}]',
    ]
)


def said() -> st.SearchStrategy[Output]:
    return st.one_of(
        st.builds(outputs.text, pieces, lanes),
        st.builds(outputs.reasoning, pieces, lanes),
        st.builds(outputs.message, lane=lanes),
        st.builds(outputs.file, st.just("https://files/1"), lane=lanes),
        st.builds(outputs.data, st.sampled_from(["chart", ""]), json_texts, lane=lanes),
        st.builds(outputs.source, st.just("https://pages/1"), lane=lanes),
        st.builds(outputs.signature, json_texts, lanes),
    )


def done_with_tools() -> st.SearchStrategy[Output]:
    return st.one_of(
        st.builds(outputs.call, call_ids, arguments, tool=tools, done=st.booleans(), lane=lanes, runner=runners),
        st.builds(outputs.result, call_ids, json_texts, tool=tools, lane=lanes, error=st.sampled_from(["", "broken"])),
        st.builds(outputs.result_piece, call_ids, json_texts, tool=tools, lane=lanes, done=st.booleans()),
    )


def reported() -> st.SearchStrategy[Output]:
    return st.one_of(
        step_keys.map(lambda key: outputs.step(key[0], parent=key[1], lane=key[2])),
        step_keys.map(lambda key: outputs.step_done(key[0], lane=key[2])),
        step_keys.map(lambda key: outputs.step_failed(key[0], lane=key[2])),
        st.builds(outputs.turn, st.integers(1, 3), lane=lanes),
        st.builds(outputs.turn_done, lane=lanes),
        st.builds(outputs.snapshot, json_texts),
        st.builds(outputs.patch, patches),
        st.builds(outputs.usage, st.integers(-1, 2**31 - 1), st.integers(0, 9), model=st.sampled_from(["m1", "m2"])),
        st.builds(outputs.custom, st.sampled_from(["mood", ""]), json_texts),
        st.builds(outputs.child, st.sampled_from(["run_child", ""]), call_id=st.sampled_from(["", "c1"])),
        st.builds(
            outputs.child_done,
            st.just("run_child"),
            st.sampled_from([RunState.RUN_STATE_SUCCEEDED, RunState.RUN_STATE_FAILED, RunState.RUN_STATE_RUNNING]),
        ),
    )


def asked() -> st.SearchStrategy[Output]:
    keys = st.sampled_from(["q#1", "q#2", "a#1/q#1"])
    return st.one_of(
        st.builds(outputs.ask, keys, call_id=st.sampled_from(["", "", "c1", "c2"]), lane=lanes),
        st.builds(outputs.wait),
        st.builds(outputs.wait),
    )


def spoken_by(name: str) -> Act:
    """A name is not in the log before it is used, so these two are never cut apart (CONTRACT.md 2.7)."""

    def act(script: Script) -> None:
        apply(script, outputs.message(name))
        apply(script, outputs.text("as " + name))

    return act


def apply(script: Script, output: Output) -> None:
    """Hand over an output, to a worker's handler that was started first if need be."""
    if script.grammar.state == runs.QUEUED:
        script.start()
    before = script.grammar.seq
    try:
        script.say(output)
    except InvalidOutput:
        assert (script.grammar.seq, script.grammar.take()) == (before, b""), "a refused output changed something"


def answered(outcome: InputOutcome.ValueType) -> Act:
    def act(script: Script) -> None:
        if script.grammar.open_inputs() and script.grammar.ended is None:
            script.answer('{"answer": "yes"}', outcome)

    return act


def resumed_elsewhere(script: Script) -> None:
    if script.grammar.state == runs.WAITING:
        script.resume().start()


def steered(script: Script) -> None:
    if script.grammar.state in (runs.QUEUED, runs.RUNNING):
        script.receive("faster")


def lost(script: Script) -> None:
    if script.grammar.state == runs.RUNNING:
        expected = script.grammar.retracts()
        script.retry()
        assert list(last_retrying(script)) == expected


def last_retrying(script: Script) -> list[int]:
    return next(
        list(e.run_retrying.retracted_ordinals) for e in reversed(script.events()) if e.HasField("run_retrying")
    )


def ended(reason: EndReason.ValueType) -> Act:
    def act(script: Script) -> None:
        if script.grammar.ended is None:
            script.end(reason)

    return act


def over(reason: EndReason.ValueType) -> Act:
    return lambda script: apply(script, outputs.end(reason, result_json='{"ok": true}'))


def doing(output: Output) -> Act:
    return lambda script: apply(script, output)


any_act: st.SearchStrategy[Act] = st.one_of(
    st.one_of(said(), done_with_tools(), reported(), asked()).map(doing),
    st.one_of(said(), done_with_tools()).map(doing),
    st.sampled_from(["critic", ""]).map(spoken_by),
    st.sampled_from([InputOutcome.INPUT_OUTCOME_ANSWERED, InputOutcome.INPUT_OUTCOME_DECLINED]).map(answered),
    st.sampled_from([resumed_elsewhere, steered, lost]),
)


def scene(*acts: Output | Act) -> st.SearchStrategy[list[Act]]:
    """Acts that belong together, each followed by anything or nothing."""
    return st.tuples(*(followed(doing(act) if isinstance(act, Output) else act) for act in acts)).map(joined)


def followed(act: Act) -> st.SearchStrategy[list[Act]]:
    return st.lists(any_act, max_size=1).map(lambda more: [act, *more])


def joined(groups: Iterable[list[Act]]) -> list[Act]:
    return [act for group in groups for act in group]


settled = answered(InputOutcome.INPUT_OUTCOME_ANSWERED)
scenes: st.SearchStrategy[list[Act]] = st.one_of(
    st.lists(any_act, min_size=1, max_size=8),
    st.lists(said().map(doing), min_size=1, max_size=8),
    st.lists(done_with_tools().map(doing), min_size=1, max_size=8),
    scene(outputs.ask("q#1"), outputs.wait(), settled, outputs.text("on")),
    scene(outputs.ask("q#2"), outputs.wait(), settled, resumed_elsewhere),
    scene(outputs.step("a#1"), outputs.text("in a"), outputs.step_done("a#1"), outputs.text("out of a"), lost),
    scene(
        outputs.step("a#1"),
        outputs.step("a#1/b#1", parent="a#1"),
        outputs.text("b"),
        outputs.step_done("a#1/b#1"),
        lost,
    ),
    scene(outputs.step("a#1"), outputs.ask("a#1/q#1"), settled, outputs.text("in a"), lost),
    scene(outputs.step("c#1", lane="side"), outputs.text("in c", "side"), outputs.step_done("c#1", lane="side"), lost),
    scene(outputs.call("c1", "{}", done=True), lost, outputs.call("c1", "{}"), outputs.result("c1", "1"), lost),
    scene(
        outputs.result_piece("c2", "[1"), outputs.ask("q#1"), outputs.wait(), outputs.result_piece("c2", "]", done=True)
    ),
)


@searching
@given(st.lists(scenes, max_size=8), st.one_of(reasons.map(ended), reasons.map(over)), st.floats(0, 1))
def test_a_grammar_rebuilt_at_any_cut_goes_on_to_the_byte(run: list[list[Act]], ending: Act, cut_at: float) -> None:
    script = Script(client_tools=["click"], state_json='{"before":true}', state_version=7).queue()
    every_act = [*joined(run), ending, ended(EndReason.END_REASON_USER)]
    cut = round(cut_at * (len(every_act) - 1))

    for act in every_act[:cut]:
        act(script)
    twin = script.twin()
    for act in every_act[cut:]:
        act(script)
        act(twin)

    assert twin.log == script.log
    assert violations(script.events()) == []
    assert script.grammar.size_bytes == twin.grammar.size_bytes == len(script.log)
    assert twin.grammar.messages() == script.grammar.messages()
    assert twin.grammar.history() == script.grammar.history()
