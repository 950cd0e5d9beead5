"""Outputs and their numbers: stored, acknowledged, repeated, missing."""

from __future__ import annotations

import pytest

from penstock.v1.run_pb2 import EndReason, RunError, RunState
from penstock.v1.worker_service_pb2 import MessageOutput, Output
from tests.core.running_core import RunningCore
from tests.core.scripted_worker import end_output


async def test_outputs_are_acknowledged_once_they_are_stored(core: RunningCore) -> None:
    worker = await core.connected_worker()
    job = await core.started(worker)
    await job.say("a", "b", "c")
    await job.acked(3)
    assert (await core.get(job.run_id)).last_seq == 7
    await job.end()
    await job.acked(4)
    assert (await core.get(job.run_id)).state == RunState.RUN_STATE_SUCCEEDED


async def test_repeated_outputs_add_nothing(core: RunningCore) -> None:
    worker = await core.connected_worker()
    job = await core.started(worker)
    watch = core.watch(job.run_id)
    await job.say("a ", "b ")
    await job.send(*_texts("a ", "b ", "c "), first=1)
    await job.send(*_texts("b "), first=2)
    await job.acked(3)
    await job.send(*_texts("a ", "b ", "c ", "d"), end_output(), first=1)
    await job.acked(5)
    await watch.read_to_end()
    assert watch.seen.text == "a b c d"


async def test_gap_in_the_numbers_closes_the_stream_and_changes_nothing(core: RunningCore) -> None:
    worker = await core.connected_worker()
    job = await core.started(worker)
    await job.say("a ")
    await job.acked()
    await job.send(*_texts("c"), first=3)
    assert await worker.now.over() == "OUTPUT_GAP"
    job.last = 1
    welcome = await worker.connect(job)
    assert [(held.accepted, held.revoked) for held in welcome.held] == [(1, False)]
    await job.say_all("b")
    watch = await core.watch(job.run_id).read_to_end()
    assert watch.seen.text == "a b"


async def test_outputs_that_become_no_event_are_acknowledged_for_good(any_core: RunningCore) -> None:
    """Else a handler that says a million empty strings would wait for ever at its bound."""
    worker = await any_core.connected_worker()
    job = await any_core.started(worker)
    await job.send(*_texts("", "", ""), Output(message=MessageOutput()))
    await job.acked(4)
    assert (await any_core.get(job.run_id)).last_seq == 2
    await worker.cut()
    welcome = await worker.connect(job)
    assert [held.accepted for held in welcome.held] == [4]
    await job.say_all("said")


async def test_resend_after_a_lost_acknowledgement_adds_nothing(any_core: RunningCore) -> None:
    """Scenario 3: the append is committed, and the core dies before anybody hears of it."""
    worker = await any_core.connected_worker()
    job = await any_core.started(worker)
    gate = any_core.store.hold("append", after=True)
    await job.say("once ", "only ")
    await gate.reached()
    await any_core.crash()
    assert worker.now.accepted(job.run_id) == 0
    await any_core.start()
    again = any_core.worker(worker_id=worker.worker_id)
    welcome = await again.connect(job)
    assert [(held.accepted, held.revoked) for held in welcome.held] == [(2, False)]
    await job.send(*_texts("once ", "only ", "and done"), end_output(), first=1)
    await job.acked()
    watch = await any_core.watch(job.run_id).read_to_end()
    assert watch.seen.text == "once only and done"
    assert (await any_core.get(job.run_id)).attempt == 1


async def test_agents_that_fail_or_reject_end_the_run_with_their_error(core: RunningCore) -> None:
    worker = await core.connected_worker(credit=2)
    for reason in (EndReason.END_REASON_AGENT_ERROR, EndReason.END_REASON_REJECTED):
        job = await core.started(worker)
        await job.end(reason, RunError(code="NO_LUCK", message="It failed."))
        run = await core.ended(job.run_id)
        assert (run.state, run.reason, run.error.code) == (RunState.RUN_STATE_FAILED, reason, "NO_LUCK")


async def test_grammar_that_fails_ends_its_run_and_no_other(core: RunningCore, monkeypatch: pytest.MonkeyPatch) -> None:
    from core_service.domain.grammar.outputs import Outputs

    apply = Outputs.apply

    def failing(self: Outputs, output: Output) -> bool:
        if output.text == "trap":
            raise RuntimeError("a fault of the grammar")
        return apply(self, output)

    monkeypatch.setattr(Outputs, "apply", failing)
    worker = await core.connected_worker(credit=2)
    sound = await core.started(worker)
    faulty = await core.started(worker)
    await faulty.say("trap")
    run = await core.ended(faulty.run_id)
    assert (run.reason, run.error.code) == (EndReason.END_REASON_INTERNAL, "INTERNAL")
    await worker.now.hears("revoked", lambda message: message.revoked.run_id == faulty.run_id)
    await sound.say_all("the stream lives")


def _texts(*pieces: str) -> list[Output]:
    return [Output(text=piece) for piece in pieces]
