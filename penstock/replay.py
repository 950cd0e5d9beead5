"""What earlier attempts of a run left for this one, and how much of it is still to come (ENGINE.md E5, E6, E8).

A *scope* is the handler ("") or a durable step, by its key. A child of a scope is *anchored* when it was recorded: a
finished step, a question that was asked, and every step around one of these. What a scope said before its last anchored
child was kept by the log, so it is not said again before that child has been asked for. Nothing here runs or sends.

Keys are paths: `charge#1/ask#2` is the second question inside the first step `charge`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from penstock.v1.message_pb2 import Message
from penstock.v1.worker_service_pb2 import AnswerRecord, InboxRecord, Record, StepRecord

HANDLER = ""


def parent_of(key: str) -> str:
    """The scope that a step or a question belongs to."""
    return key.rpartition("/")[0]


class Replay:
    """The records of a run, ticked off as the handler asks for them."""

    def __init__(self, records: Iterable[Record] = ()) -> None:
        self.answers: dict[str, AnswerRecord] = {}
        """By key: questions of earlier attempts, open or settled."""
        self._steps: dict[str, StepRecord] = {}
        self._reads: dict[int, InboxRecord] = {}
        for record in records:
            match record.WhichOneof("record"):
                case "step" if record.step.completed:
                    self._steps[record.key] = record.step
                case "answer":
                    self.answers[record.key] = record.answer
                case "inbox":
                    self._reads[record.inbox.read] = record.inbox
                case _:
                    pass  # a step that did not complete is known by what is anchored inside it
        self._to_come: dict[str, dict[str, None]] = {}
        for key in (*self._steps, *self.answers):
            if not any(around in self._steps for around in _around(key)):
                self._expect(key)

    @property
    def is_over(self) -> bool:
        """The handler has passed everything that was recorded."""
        return not self._to_come and not self._reads

    @property
    def result_bytes(self) -> int:
        """Of the results of all finished steps."""
        return sum(len(step.result_json.encode()) for step in self._steps.values())

    def completed(self, key: str) -> StepRecord | None:
        """The record of a finished step."""
        return self._steps.get(key)

    def to_come(self, scope: str) -> str:
        """An anchored child of this scope that has not been asked for; empty when all have been."""
        return next(iter(self._to_come.get(scope, ())), "")

    def ask_for(self, key: str) -> None:
        """A step or a question is asked for."""
        scope = parent_of(key)
        children = self._to_come.get(scope)
        if children is not None:
            children.pop(key, None)
            if not children:
                del self._to_come[scope]

    def leave(self, scope: str) -> None:
        """A step is over: nothing inside it will be asked for any more."""
        for key in [key for key in self._to_come if key == scope or key.startswith(f"{scope}/")]:
            del self._to_come[key]

    def read(self, number: int) -> tuple[Message, ...]:
        """What this read of the inbox returned before; nothing when it was not recorded."""
        record = self._reads.pop(number, None)
        return tuple(record.messages) if record is not None else ()

    def _expect(self, key: str) -> None:
        for inner in (key, *_around(key)):
            self._to_come.setdefault(parent_of(inner), {})[inner] = None


def _around(key: str) -> Iterator[str]:
    """The steps around a step or a question, innermost first."""
    while key := parent_of(key):
        yield key
