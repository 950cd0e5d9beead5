"""Durable steps: whatever crashes, a run in the end has said each thing once and in order (ENGINE.md E5 to E7).

A model of the SDK's replay runs random programs of text, nested steps and questions, is killed at random outputs, and
starts again with what the log recorded. It is the worker's half of rule 17; the grammar is the other.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st

from core_service.domain import runs
from penstock.v1.worker_service_pb2 import Output
from tests.grammar import outputs
from tests.grammar.checker import violations
from tests.grammar.script import Script

EXAMPLES = int(os.environ.get("PENSTOCK_EXAMPLES", "250"))

Node = str | tuple["Node", ...]
"""Text; a step; an empty one is a question."""

programs = st.recursive(
    st.sampled_from(["text", "text", ()]),
    lambda inner: st.lists(inner, min_size=1, max_size=4).map(tuple),
    max_leaves=16,
).map(lambda node: node if isinstance(node, tuple) else (node,))


class Killed(BaseException):
    """The worker is gone."""


@dataclass
class Worker:
    """One attempt of a program: sends outputs until it is killed."""

    script: Script
    outputs_left: int
    completed: frozenset[str]
    anchored: frozenset[str]

    def run(self, program: tuple[Node, ...]) -> None:
        self._scope(program, "")
        self._send(outputs.end())

    def _scope(self, nodes: tuple[Node, ...], path: str) -> None:
        """Run the handler or a step; what it says itself while a recorded child is to come was said before (E6)."""
        children = {f"{path}{number}" for number, node in enumerate(nodes) if isinstance(node, tuple)}
        to_come = children & self.anchored
        for number, node in enumerate(nodes):
            key = f"{path}{number}"
            if isinstance(node, str):
                if not to_come:
                    self._send(outputs.text(f"{key} "))
            elif key not in self.completed:
                to_come.discard(key)
                self._child(node, key, path.removesuffix("/"))
            to_come.discard(key)

    def _child(self, nodes: tuple[Node, ...], key: str, parent: str) -> None:
        if nodes:
            self._send(outputs.step(key, parent=parent))
            self._scope(nodes, f"{key}/")
            self._send(outputs.step_done(key))
        else:
            self._send(outputs.ask(key))
            self._live()
            if self.script.grammar.open_inputs():
                self.script.answer()

    def _send(self, output: Output) -> None:
        self._live()
        self.script.say(output)

    def _live(self) -> None:
        if not self.outputs_left:
            raise Killed
        self.outputs_left -= 1


def records(script: Script, program: tuple[Node, ...]) -> tuple[frozenset[str], frozenset[str]]:
    """Return what the store knows: the keys that completed, and those that the next attempt will ask for again."""
    grammar = script.grammar
    asked = set(grammar.ask_keys)
    settled = {key for key in asked if grammar.ask_keys[key] not in {request.id for request in grammar.open_inputs()}}
    steps = {key for key in keys(program) if (step := grammar.step(key)) is not None and step.is_completed}
    leaves = steps | asked
    around = {key for key in keys(program) if any(leaf.startswith(f"{key}/") for leaf in leaves)}
    return frozenset(steps | settled), frozenset(leaves | around)


def keys(nodes: tuple[Node, ...], path: str = "") -> Iterator[str]:
    for number, node in enumerate(nodes):
        if isinstance(node, tuple):
            yield f"{path}{number}"
            yield from keys(node, f"{path}{number}/")


def said(nodes: tuple[Node, ...], path: str = "") -> str:
    """Return what a program says when nothing goes wrong."""
    return "".join(
        f"{path}{number} " if isinstance(node, str) else said(node, f"{path}{number}/")
        for number, node in enumerate(nodes)
    )


def heard(script: Script) -> str:
    return "".join(part.text.text for message in script.grammar.history() for part in message.parts)


def attempt(script: Script, program: tuple[Node, ...], outputs_left: int) -> bool:
    """Run one attempt; False when it was killed."""
    completed, anchored = records(script, program)
    try:
        Worker(script, outputs_left, completed, anchored).run(program)
    except Killed:
        script.retry()
        return False
    return True


@settings(max_examples=EXAMPLES, deadline=None)
@given(programs, st.lists(st.tuples(st.integers(1, 15), st.booleans()), min_size=1, max_size=6))
def test_a_program_that_is_killed_says_each_thing_once_and_in_order(
    program: tuple[Node, ...], kills: list[tuple[int, bool]]
) -> None:
    script = Script().begin()
    for outputs_left, is_answered_meanwhile in kills:
        if attempt(script, program, outputs_left):
            break
        script = script.twin()
        if is_answered_meanwhile and script.grammar.open_inputs():
            script.answer()
        script.start()
    if script.grammar.ended is None:
        assert attempt(script, program, 1000)

    assert heard(script) == said(program)
    assert script.grammar.state == runs.SUCCEEDED
    assert violations(script.events()) == []


def test_a_question_answered_between_two_attempts_keeps_what_was_said_before_it() -> None:
    script = Script().begin().say(outputs.text("Hello. "), outputs.ask("1"))
    script.retry().answer().start()
    script.say(outputs.text("Bye."), outputs.end())  # the replay drops "Hello. ": its question is on record

    assert heard(script) == "Hello. Bye."
