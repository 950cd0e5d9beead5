"""What a response was given, as items: the input of its run, or the answers that began its leg."""

from __future__ import annotations

import msgspec

from edge.core import CoreClient
from edge.fold import Fold
from edge.protocols.openai_responses import ids, items
from edge.protocols.openai_responses.history import items_of
from edge.protocols.openai_responses.items import Item
from penstock.v1.event_pb2 import Event, InputResolved
from penstock.v1.run_pb2 import InputKind, InputRequest
from penstock.v1.run_service_pb2 import WatchRunResponse


class InputFold:
    """Folds a run up to the beginning of a leg."""

    def __init__(self, leg: int) -> None:
        self.items: list[Item] = []
        self.ended = False
        self._leg = leg
        self._fold = Fold()

    def feed(self, event: Event) -> None:
        """Add the next event."""
        match event.WhichOneof("payload"):
            case "run_queued" if not self._leg:
                self.items = items_of(event.run_queued.input)
                self.ended = True
            case "run_waiting":
                self.items = []
            case "input_resolved":
                question = self._fold.open_inputs[event.input_resolved.input_id]
                self.items.append(_answer(self._fold.run.id, question, event.input_resolved))
            case "run_resumed":
                self.ended = event.run_resumed.leg == self._leg
            case _:
                pass
        self._fold.feed(event)


async def input_items(core: CoreClient, ref: ids.ResponseRef) -> list[Item]:
    """Return what a response was given, in the order in which it was said; as far as its run has come."""
    fold = InputFold(ref.leg)
    with core.open_watch(ref.run_id, after=0) as watch:
        async for batch in watch:
            for event in WatchRunResponse.FromString(batch.events).events:
                if not fold.ended:
                    fold.feed(event)
            if fold.ended or batch.caught_up:
                break
    return fold.items


class _Verdict(msgspec.Struct):
    approved: bool = False
    comment: str | None = None


def _answer(run_id: str, question: InputRequest, resolved: InputResolved) -> Item:
    rest = question.id.removeprefix("inp_")
    match question.kind:
        case InputKind.INPUT_KIND_APPROVAL:
            verdict = _verdict(resolved.answer_json)
            return {
                "id": f"mcpa_{rest}",
                "type": "mcp_approval_response",
                "approval_request_id": ids.approval_id(run_id, question.id),
                "approve": verdict.approved,
                "reason": verdict.comment,
            }
        case InputKind.INPUT_KIND_CLIENT_TOOL:
            output = {"call_id": question.call_id, "output": resolved.answer_json, "status": items.COMPLETED}
            return {"id": f"fco_{rest}", "type": "function_call_output", **output}
        case _:
            content: Item = {"type": "input_text", "text": resolved.answer_json}
            return {**items.message(f"msg_{rest}", [content], items.COMPLETED), "role": "user"}


def _verdict(answer_json: str) -> _Verdict:
    try:
        return msgspec.json.decode(answer_json, type=_Verdict)
    except msgspec.MsgspecError:  # answered over another protocol, or not answered at all
        return _Verdict()
