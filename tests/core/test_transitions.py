"""Every cell of the transition table, by the events that make it: what is allowed happens, what is not is refused."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest

from core_service.domain.grammar import Grammar
from core_service.domain.runs import (
    CANCELLED,
    ENDED,
    FAILED,
    QUEUED,
    RUNNING,
    SUCCEEDED,
    TRANSITIONS,
    WAITING,
    end_state,
    may_become,
)
from penstock.v1.run_pb2 import EndReason, Run, RunError, RunState
from penstock.v1.worker_service_pb2 import AskOutput, EndOutput, Output, WaitOutput

NOW = 1_800_000_000_000_000
REASONS = {
    SUCCEEDED: EndReason.END_REASON_COMPLETED,
    FAILED: EndReason.END_REASON_TIMEOUT,
    CANCELLED: EndReason.END_REASON_USER,
}
STATES = tuple(TRANSITIONS)


def queued() -> Grammar:
    grammar = Grammar()
    grammar.queue(Run(id="run_1", agent_id="echo"), (), NOW)
    return grammar


def running() -> Grammar:
    grammar = queued()
    grammar.start(1, "1", "wrk_1", NOW)
    return grammar


def waiting() -> Grammar:
    grammar = running()
    grammar.apply(Output(ask=AskOutput(key="k", message="?")), NOW)
    grammar.apply(Output(wait=WaitOutput()), NOW)
    return grammar


def ended(state: RunState.ValueType) -> Callable[[], Grammar]:
    def make() -> Grammar:
        grammar = running()
        grammar.end(REASONS[state], NOW)
        return grammar

    return make


MAKE: dict[RunState.ValueType, Callable[[], Grammar]] = {
    QUEUED: queued,
    RUNNING: running,
    WAITING: waiting,
    SUCCEEDED: ended(SUCCEEDED),
    FAILED: ended(FAILED),
    CANCELLED: ended(CANCELLED),
}


def move(grammar: Grammar, target: RunState.ValueType) -> None:
    """Do what leads to a state; ValueError where there is no way."""
    if target == RUNNING:
        if grammar.state == WAITING:
            grammar.resume("", NOW)
        else:
            grammar.start(grammar.attempt + 1, "1", "wrk_2", NOW)
    elif target == QUEUED:
        if grammar.state == WAITING:  # an answer came, and no worker holds the run: its log says that it goes on
            grammar.resume("", NOW)
        grammar.retry(RunError(code="X"), NOW, NOW)
    elif target == WAITING:
        if grammar.state in ENDED:
            raise ValueError("outputs after an end are ignored")
        grammar.apply(Output(ask=AskOutput(key="again", message="?")), NOW)
        grammar.apply(Output(wait=WaitOutput()), NOW)
    elif target == SUCCEEDED and grammar.state in (RUNNING, WAITING):
        grammar.apply(Output(end=EndOutput()), NOW)
    elif target == SUCCEEDED:
        raise ValueError("only a handler succeeds")
    else:
        grammar.end(REASONS[target], NOW)


@pytest.mark.parametrize(
    ("state", "target"),
    [pair for pair in itertools.product(STATES, STATES) if pair[0] != pair[1]],
    ids=lambda state: RunState.Name(state).removeprefix("RUN_STATE_").lower(),
)
def test_cell(state: RunState.ValueType, target: RunState.ValueType) -> None:
    grammar = MAKE[state]()
    grammar.take()
    assert grammar.state == state
    if may_become(state, target) or (state, target) == (WAITING, SUCCEEDED):  # passes through RUNNING, in one commit
        move(grammar, target)
        assert grammar.state == target
    else:
        with pytest.raises(ValueError, match=r"run|only|outputs"):
            move(grammar, target)
        assert (grammar.state, grammar.take()) == (state, b"")


def test_nothing_leaves_an_end() -> None:
    assert all(not TRANSITIONS[state] for state in ENDED)


@pytest.mark.parametrize("reason", [reason for reason in EndReason.values() if reason])
def test_each_reason_belongs_to_one_end(reason: EndReason.ValueType) -> None:
    state = end_state(reason)
    assert state in ENDED
    grammar = running()
    grammar.end(reason, NOW)
    assert grammar.state == state
