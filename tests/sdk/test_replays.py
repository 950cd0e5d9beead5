"""Durable steps, whole: whoever is killed when, a run says each thing once, in order, and repeats no recorded effect.

Random programs are handlers of the real SDK, and the real grammar is their core (ENGINE.md E7).
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core_service.domain import runs
from core_service.domain.grammar.steps import Steps
from penstock import App, Run, Step
from penstock.replay import Replay
from penstock.scopes import Scope
from tests.grammar.checker import violations
from tests.sdk.faithful_core import FaithfulCore, Life, heard

EXAMPLES = int(os.environ.get("PENSTOCK_EXAMPLES", "150"))


@dataclass(frozen=True)
class Text:
    """Something is said; then others have so many turns of the loop."""

    turns: int = 0


@dataclass(frozen=True)
class Ask:
    """A question."""


@dataclass(frozen=True)
class Do:
    """A step."""

    body: tuple[Node, ...]


@dataclass(frozen=True)
class Gather:
    """Steps and questions side by side."""

    parts: tuple[Do | Ask, ...]


Node = Text | Ask | Do | Gather
Program = tuple[Node, ...]


def bodies(nodes: st.SearchStrategy[Node]) -> st.SearchStrategy[Program]:
    return st.lists(nodes, min_size=1, max_size=4).map(tuple)


def nested(inner: st.SearchStrategy[Node]) -> st.SearchStrategy[Node]:
    steps = bodies(inner).map(Do)
    return steps | st.lists(steps | st.just(Ask()), min_size=2, max_size=3).map(lambda parts: Gather(tuple(parts)))


flat: st.SearchStrategy[Node] = st.sampled_from([Text(), Text(3), Text(9), Ask()])
programs = bodies(st.recursive(flat | nested(flat), nested, max_leaves=6))


@dataclass
class Performance:
    """A program as a handler, and what its steps did to the world."""

    program: Program
    effects: Counter[str] = field(default_factory=Counter)
    at_record: dict[str, int] = field(default_factory=dict)

    def app(self) -> App:
        app = App("test")

        @app.agent("agent")
        async def agent(run: Run) -> AsyncIterator[str]:
            for number, node in enumerate(self.program):
                if isinstance(node, Text):
                    yield f"{number} "
                    await let_others(node.turns)
                else:
                    await self._do(run, node, f"{number}")

        return app

    def recorded(self, key: str) -> None:
        self.at_record[key] = self.effects[key]

    def _do(self, caller: Run | Step, node: Ask | Do | Gather, path: str) -> Coroutine[object, object, object]:
        match node:
            case Ask():
                return caller.ask(path)
            case Do(body):
                return caller.step(f"s{path.replace('/', '.')}", self._step, body, path)
            case Gather(parts):
                begun = [self._do(caller, part, f"{path}.{number}") for number, part in enumerate(parts)]
                return self._gather(begun)

    async def _gather(self, begun: list[Coroutine[object, object, object]]) -> None:
        await asyncio.gather(*begun)

    async def _step(self, step: Step, body: Program, path: str) -> str:
        for number, node in enumerate(body):
            inner = f"{path}/{number}"
            if isinstance(node, Text):
                await step.say(f"{inner} ")
                await let_others(node.turns)
            else:
                await self._do(step, node, inner)
        self.effects[step.key.partition("/")[2]] += 1
        return path


async def let_others(turns: int) -> None:
    for _ in range(turns):
        await asyncio.sleep(0)


def scopes(program: Program, path: str = "") -> Iterator[tuple[str, list[str]]]:
    """What each scope says itself, in order."""
    yield path, [f"{path}{number}" for number, node in enumerate(program) if isinstance(node, Text)]
    for number, node in enumerate(program):
        parts = {f"{path}{number}": node} if isinstance(node, Do) else {}
        if isinstance(node, Gather):
            parts = {f"{path}{number}.{index}": part for index, part in enumerate(node.parts) if isinstance(part, Do)}
        for inner, part in parts.items():
            assert isinstance(part, Do)
            yield from scopes(part.body, f"{inner}/")


def in_order(program: Program, path: str = "") -> list[str]:
    """What a program without gather says."""
    said: list[str] = []
    for number, node in enumerate(program):
        if isinstance(node, Text):
            said.append(f"{path}{number}")
        elif isinstance(node, Do):
            said.extend(in_order(node.body, f"{path}{number}/"))
    return said


def has_gather(program: Program) -> bool:
    return any(isinstance(node, Gather) or (isinstance(node, Do) and has_gather(node.body)) for node in program)


def perform(program: Program, kills: list[int], *, parks: bool = True) -> None:
    """Run a program, kill its worker after so many outputs of each attempt, and check everything."""
    performance = Performance(program)
    core = FaithfulCore()
    core.recorded = performance.recorded
    left = iter(kills)
    while not asyncio.run(Life(core, performance.app(), outputs=next(left, None), parks=parks).run()):
        core.start_again()

    words = [word for part in heard(core) for word in part.split()]
    by_scope: defaultdict[str, list[str]] = defaultdict(list)
    for word in words:
        by_scope[word[: word.rfind("/") + 1]].append(word)
    assert by_scope == {path: said for path, said in scopes(program) if said}
    if not has_gather(program):
        assert words == in_order(program)
    assert core.script.grammar.state == runs.SUCCEEDED
    assert violations(core.script.events()) == []
    assert dict(performance.effects) == performance.at_record, "a recorded step ran again"
    if not kills:
        assert set(performance.effects.values()) <= {1}


@settings(max_examples=EXAMPLES, deadline=None)
@given(programs, st.lists(st.integers(0, 25), max_size=7), st.booleans())
def test_a_program_that_is_killed_says_each_thing_once_and_repeats_no_recorded_effect(
    program: Program,
    kills: list[int],
    parks: bool,  # noqa: FBT001
) -> None:
    perform(program, kills, parks=parks)


SIDE_BY_SIDE: Program = (Text(), Gather((Do((Text(),)), Do((Text(),)))), Text(), Text(9), Text())
ONE_IS_LATER: Program = (Gather((Do((Text(),)), Do((Text(3),)), Do((Do((Text(),)),)))),)
NESTED: Program = (Text(), Do((Text(), Do((Text(),)), Text(9), Text())), Text())


def single_checkpoint(steps: Steps) -> list[int]:
    """Take back everything behind the newest recorded step or question: what ENGINE.md says is wrong."""
    recorded = [step.ended_seq for step in steps._by_key.values() if step.is_completed]
    border = max([*recorded, *(seq for seq, _ in steps._questions)], default=0)
    return [part.ordinal for part in steps._parts if part.seq > border]


def no_borders(scope: Scope, *, own: bool) -> None:
    """Leave parts open when a step begins beside them."""


def nothing_is_dropped(replay: Replay, scope: str) -> str:
    """Say everything again."""
    return ""


PLANTED: list[tuple[type, str, Callable[..., object], Program]] = [
    (Steps, "retracted", single_checkpoint, ONE_IS_LATER),
    (Scope, "end_parts", no_borders, SIDE_BY_SIDE),
    (Replay, "to_come", nothing_is_dropped, NESTED),
]


@pytest.mark.parametrize(
    ("where", "rule", "fault", "program"), PLANTED, ids=[planted.__name__ for _, _, planted, _ in PLANTED]
)
def test_a_planted_fault_is_found(
    monkeypatch: pytest.MonkeyPatch, where: type, rule: str, fault: object, program: Program
) -> None:
    kill_everywhere(program)
    monkeypatch.setattr(where, rule, fault)

    with pytest.raises(AssertionError):
        kill_everywhere(program)


def kill_everywhere(program: Program) -> None:
    for outputs in range(15):
        perform(program, [outputs])
