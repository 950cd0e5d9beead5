"""The outbox alone: numbers, bounds and bytes; and any sequence of sends, acknowledgements and breaks."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock import wire
from penstock.outbox import Outbox
from penstock.outboxes import MAX_BYTES, MAX_BYTES_IN_ALL, MAX_OUTPUTS, Outboxes
from penstock.v1.worker_service_pb2 import (
    Accepted,
    ConnectRequest,
    Credit,
    Output,
    Outputs,
    WorkerMessage,
)


def text(content: str) -> bytes:
    return wire.text_record(content.encode())


def sent(boxes: Outboxes) -> list[Outputs]:
    """What a flush sends."""
    messages: list[Outputs] = []
    while request := boxes.take():
        assert len(request) <= wire.MAX_REQUEST
        parsed = ConnectRequest.FromString(request)
        assert parsed.SerializeToString() == request, "not as protobuf writes it"
        messages.extend(message.outputs for message in parsed.messages)
    return messages


def test_bytes_written_by_hand_are_those_that_protobuf_writes() -> None:
    for length in (1, 125, 126, 127, 128, 16_383, 16_384, 240_000):
        output = Output(text="x" * length)
        expected = Outputs(outputs=[output]).SerializeToString()
        assert wire.text_record(b"x" * length) == expected
        assert wire.record(output.SerializeToString()) == expected


async def test_who_waits_until_something_is_stored_hastens_it_and_goes_on_with_its_acknowledgement() -> None:
    boxes = Outboxes()
    box = boxes.open("run_1", 1)
    box.add(text("a"))
    box.add(text("b"))
    box.add(text("c"))
    first, second = (asyncio.ensure_future(box.stored(number)) for number in (2, 3))
    await asyncio.sleep(0)
    assert boxes.urgent.is_set()
    sent(boxes)

    box.accept(2)
    await first
    await box.stored(1)
    assert not second.done()
    box.close()

    with pytest.raises(asyncio.CancelledError):
        await second


async def test_several_that_wait_for_room_all_go_on() -> None:
    boxes = Outboxes()
    boxes.limit(outputs=1, size=0)
    box = boxes.open("run_1", 1)
    box.add(text("a"))
    waiting = [asyncio.ensure_future(box.room()) for _ in range(3)]
    await asyncio.sleep(0)
    sent(boxes)

    box.accept(1)

    await asyncio.gather(*waiting)


async def test_a_request_holds_what_was_said_then_the_outputs_of_all_runs() -> None:
    boxes = Outboxes()
    one, two = boxes.open("run_1", 1), boxes.open("run_2", 3)
    one.add(text("a"))
    two.add(text("b"))
    one.add(text("c"))
    boxes.credit(1)
    boxes.credit(2)
    boxes.say(WorkerMessage(accepted=Accepted(run_id="run_1", attempt=1)))

    request = boxes.take()

    assert request is not None
    assert ConnectRequest.FromString(request) == ConnectRequest(
        messages=[
            WorkerMessage(accepted=Accepted(run_id="run_1", attempt=1)),
            WorkerMessage(credit=Credit(runs=3)),
            WorkerMessage(
                outputs=Outputs(run_id="run_1", attempt=1, first=1, outputs=[Output(text="a"), Output(text="c")])
            ),
            WorkerMessage(outputs=Outputs(run_id="run_2", attempt=3, first=1, outputs=[Output(text="b")])),
        ]
    )
    assert boxes.take() is None
    assert not boxes.stirred.is_set()


async def test_what_does_not_fit_into_one_request_goes_into_the_next() -> None:
    boxes = Outboxes()
    for run in range(3):
        box = boxes.open(f"run_{run}", 1)
        for _ in range(3):
            box.add(text("x" * 200_000))

    messages = sent(boxes)

    assert sum(len(message.outputs) for message in messages) == 9
    for run in range(3):
        firsts = [(message.first, len(message.outputs)) for message in messages if message.run_id == f"run_{run}"]
        assert [first for first, _ in firsts] == [1 + sum(count for _, count in firsts[:i]) for i in range(len(firsts))]


async def waits(box: Outbox) -> bool:
    """Whether whoever adds to this box must wait."""
    waiting = asyncio.ensure_future(box.room())
    await asyncio.sleep(0)
    done = waiting.done()
    waiting.cancel()
    return not done


async def test_the_4001st_output_waits_for_an_acknowledgement() -> None:
    boxes = Outboxes()
    box = boxes.open("run_1", 1)
    room = [box.add(text("x")) for _ in range(MAX_OUTPUTS)]

    assert room == [True] * (MAX_OUTPUTS - 1) + [False]
    assert await waits(box)
    assert boxes.urgent.is_set()
    sent(boxes)
    waiting = asyncio.ensure_future(box.room())
    await asyncio.sleep(0)
    box.accept(1)
    await asyncio.wait_for(waiting, 1)


async def test_a_run_holds_at_most_a_mebibyte() -> None:
    boxes = Outboxes()
    box = boxes.open("run_1", 1)
    record = wire.record(Output(reasoning="x" * (wire.MAX_OUTPUT - 8)).SerializeToString())
    while box.add(record):
        pass

    assert MAX_BYTES - 2 * wire.MAX_OUTPUT < boxes.bytes <= MAX_BYTES
    assert await waits(box)


async def test_all_runs_together_hold_at_most_64_mebibytes() -> None:
    boxes = Outboxes()
    full: list[Outbox] = []
    while boxes.bytes <= boxes.max_bytes_in_all:
        box = boxes.open(f"run_{len(full)}", 1)
        full.append(box)
        while boxes.bytes <= boxes.max_bytes_in_all and box.add(text("x" * 200_000)):
            pass
    late = boxes.open("run_late", 1)

    assert MAX_BYTES_IN_ALL - 2 * wire.MAX_OUTPUT < boxes.bytes <= MAX_BYTES_IN_ALL
    waiting = asyncio.ensure_future(late.room())
    await asyncio.sleep(0)
    assert not waiting.done()
    full[0].close()
    await asyncio.wait_for(waiting, 1)


async def test_the_bounds_of_the_core_count_when_they_are_lower() -> None:
    boxes = Outboxes()
    boxes.limit(outputs=2, size=0)
    box = boxes.open("run_1", 1)

    assert [box.add(text("x")) for _ in range(2)] == [True, False]
    boxes.limit(outputs=1_000_000, size=1 << 30)
    assert (boxes.max_outputs, boxes.max_bytes) == (MAX_OUTPUTS, Outboxes().max_bytes)


async def test_a_closed_box_forgets_everything_and_refuses_to_wait() -> None:
    boxes = Outboxes()
    box = boxes.open("run_1", 1)
    box.add(text("x"))
    sent(boxes)
    box.add(text("y"))

    box.close()

    assert (boxes.bytes, boxes.in_flight, sent(boxes)) == (0, 0, [])
    assert not box.add(text("z"))
    with pytest.raises(asyncio.CancelledError):
        await box.room()


async def test_nothing_under_way_is_urgent() -> None:
    boxes = Outboxes()
    one, two = boxes.open("run_1", 1), boxes.open("run_2", 1)
    one.add(text("x"))
    two.add(text("x"))
    sent(boxes)
    assert (boxes.in_flight, boxes.urgent.is_set()) == (2, False)
    one.accept(1)
    assert not boxes.urgent.is_set()
    two.accept(1)
    assert (boxes.in_flight, boxes.urgent.is_set()) == (0, True)


class Peer:
    """What a core has stored of a run; it refuses gaps and drops repeats, as ENGINE.md C1 says."""

    def __init__(self) -> None:
        self.stored: list[str] = []

    def receive(self, message: Outputs) -> None:
        assert message.first <= len(self.stored) + 1, "a gap"
        for number, output in enumerate(message.outputs, message.first):
            if number == len(self.stored) + 1:
                self.stored.append(output.text)


ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.integers(1, 400)),
        st.tuples(st.just("send"), st.integers(200, 5_000)),
        st.tuples(st.just("ack"), st.integers(0, 20)),
        st.tuples(st.just("break"), st.integers(0, 20)),
    ),
    max_size=60,
)


@given(ACTIONS)
def test_no_sequence_of_sends_acknowledgements_and_breaks_loses_or_repeats_anything(
    actions: list[tuple[str, int]],
) -> None:
    asyncio.run(_play(actions))


async def _play(actions: list[tuple[str, int]]) -> None:
    boxes, peer, said = Outboxes(), Peer(), list[str]()
    box = boxes.open("run_1", 1)
    on_the_way: list[Outputs] = []
    for action, number in actions:
        match action:
            case "add":
                said.extend(f"{len(said)}" for _ in range(number))
                for content in said[-number:]:
                    box.add(text(content))
            case "send":
                piece = box.take(number)
                assert piece is None or len(piece) <= number
                if piece:
                    on_the_way.append(ConnectRequest.FromString(piece).messages[0].outputs)
            case "ack":  # the core may be behind, and it may acknowledge a part of what came together
                for message in on_the_way[:number]:
                    peer.receive(message)
                del on_the_way[:number]
                box.accept(max(len(peer.stored) - number, 0))
            case "break":  # some of what was under way arrived, its acknowledgement did not
                for message in on_the_way[:number]:
                    peer.receive(message)
                on_the_way.clear()
                box.rewind()
                box.resume(max(box.acked, len(peer.stored) - number))
                del peer.stored[box.acked :]
        assert boxes.bytes >= sum(len(text(content)) for content in said[box.acked :])
    box.rewind()
    box.resume(len(peer.stored))
    for message in sent(boxes):
        peer.receive(message)
    box.accept(box.last)
    assert peer.stored == said
    assert (boxes.bytes, boxes.in_flight) == (0, 0)
