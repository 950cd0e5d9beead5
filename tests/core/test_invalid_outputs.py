"""Outputs that the log cannot hold, and outputs that nobody expects: a stated end or an exact log (scenario 25)."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest

from core_service.domain.runs import FAILED, RUNNING, SUCCEEDED
from penstock.v1.message_pb2 import DataPart, FilePart, Part
from penstock.v1.run_pb2 import ClientTool, EndReason, RunOptions, Usage
from penstock.v1.worker_service_pb2 import (
    AskOutput,
    ConnectRequest,
    CustomOutput,
    EndOutput,
    Output,
    Outputs,
    StateOutput,
    StepStartedOutput,
    ToolCallOutput,
    ToolResultOutput,
    WaitOutput,
    WorkerMessage,
)
from tests.core.refusals import refused
from tests.core.running_core import RunningCore

INVALID_OUTPUT = EndReason.END_REASON_INVALID_OUTPUT

INVALID = {
    "5 MiB of a file": Output(part=Part(file=FilePart(name="f", data=b"x" * (5 << 20)))),
    "a file of nothing": Output(part=Part(file=FilePart(name="f"))),
    "half a surrogate pair in JSON": Output(part=Part(data=DataPart(name="d", value_json='"\\ud800"'))),
    "data that is not JSON": Output(part=Part(data=DataPart(name="d", value_json="{"))),
    "a custom event that is not JSON": Output(custom=CustomOutput(name="c", value_json="NaN")),
    "a call without an id": Output(tool_call=ToolCallOutput(tool_name="t")),
    "a call id with a NUL": Output(tool_call=ToolCallOutput(call_id="a\0b", tool_name="t")),
    "a call without a tool": Output(tool_call=ToolCallOutput(call_id="c")),
    "endless arguments": Output(tool_call=ToolCallOutput(call_id="c", tool_name="t", arguments_delta="x" * 300_000)),
    "a result that is not JSON": Output(
        tool_result=ToolResultOutput(call_id="c", tool_name="t", done=True, output_json="{")
    ),
    "a negative usage": Output(usage=Usage(input_tokens=-1)),
    "a patch of nothing": Output(state=StateOutput(patch_json='[{"op":"remove","path":"/x"}]')),
    "an end that is none": Output(end=EndOutput(reason=EndReason.END_REASON_USER)),
    "a question without a key": Output(ask=AskOutput(message="Why?")),
    "a question whose schema is none": Output(ask=AskOutput(key="k", schema_json='{"type":"object","required":1}')),
    "a lane that is too long": Output(lane="x" * 300, text="a"),
}


@pytest.mark.parametrize("output", list(INVALID.values()), ids=list(INVALID))
async def test_output_that_the_log_cannot_hold_ends_its_run_and_no_other(core: RunningCore, output: Output) -> None:
    worker = await core.connected_worker(credit=2)
    sound = await core.started(worker)
    job = await core.started(worker)
    await job.say("before ")
    await job.send(output)
    run = await core.ended(job.run_id)
    assert (run.state, run.reason) == (FAILED, INVALID_OUTPUT)
    assert run.error.message
    await worker.now.hears("revoked", lambda message: message.revoked.run_id == job.run_id)
    watch = await core.watch(job.run_id).read_to_end()
    assert watch.seen.text == "before "
    await sound.say_all("unharmed")
    assert (await core.ended(sound.run_id)).state == SUCCEEDED


async def test_strange_but_valid_text_comes_out_as_it_went_in(any_core: RunningCore) -> None:
    strange = ["NUL \0 inside", "😀", "\u200b", "\x1b[31m", "e\u0301", '"\\', "\r\n", "￿"]
    worker = await any_core.connected_worker()
    job = await any_core.started(worker, "\0 in \0 too", thread_id="t")
    await job.send(
        *(Output(text=text) for text in strange),
        Output(reasoning="\0"),
        Output(custom=CustomOutput(name="\0", value_json='"\\u0000"')),
        Output(part=Part(data=DataPart(name="n", value_json='"\\ud83d\\ude00"'))),
    )
    await job.say_all("done")
    watch = await any_core.watch(job.run_id).read_to_end()
    assert watch.seen.text == "".join(strange) + "\0" + "done"
    again = await any_core.create(thread_id="t")
    await worker.give_credit(1)
    following = await worker.take()
    assert following.run_id == again.id
    await following.say_all()


async def test_text_of_five_mebibytes_is_cut_and_comes_out_whole(core: RunningCore) -> None:
    worker = await core.connected_worker()
    job = await core.started(worker)
    watch = await core.watch(job.run_id).read_to(2)
    text = "0123456789abcdef" * (5 << 16)
    await job.say_all(text)
    await watch.read_to_end()
    assert watch.seen.text == text
    assert max(message.ByteSize() for message in watch.messages) < 1 << 20


async def test_state_with_a_nul_is_stored_or_refused_alike(any_core: RunningCore) -> None:
    worker = await any_core.connected_worker()
    job = await any_core.started(worker)
    await job.send(Output(state=StateOutput(snapshot_json='{"a":"\\u0000"}')))
    await job.end()
    run = await any_core.ended(job.run_id)
    assert run.state in (SUCCEEDED, FAILED)


async def test_half_a_surrogate_on_the_wire_ends_the_stream_and_not_the_core(core: RunningCore) -> None:
    """protobuf refuses it when it reads the request; the worker may come back with what is well-formed."""
    worker = await core.connected_worker()
    job = await core.started(worker)
    await job.say("fine ")
    await job.acked()
    raw = Outputs(run_id=job.run_id, attempt=1, first=2, outputs=[Output(text="??")]).SerializeToString()
    broken = raw.replace(b"??", b"\xed\xa0")
    message = _field(WorkerMessage.DESCRIPTOR.fields_by_name["outputs"].number, broken)
    request = _field(ConnectRequest.DESCRIPTOR.fields_by_name["messages"].number, message)
    hello = WorkerMessage()
    hello.hello.worker_id = worker.worker_id
    hello.hello.agents.extend(worker.agents)
    hello.hello.held.add(run_id=job.run_id, attempt=1)
    connect: Any = core.channel.stream_stream("/penstock.v1.WorkerService/Connect", request_serializer=bytes)
    call = connect()
    await call.write(ConnectRequest(messages=[hello]).SerializeToString())
    await call.read()
    await call.write(request)
    with refused(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_ARGUMENT"):
        while await call.read() is not grpc.aio.EOF:
            pass
    assert (await core.get(job.run_id)).state == RUNNING
    await worker.connect(job)
    await job.say_all("still")
    assert (await core.ended(job.run_id)).state == SUCCEEDED


async def test_million_empty_strings_add_nothing_and_block_nobody(core: RunningCore) -> None:
    worker = await core.connected_worker(credit=2)
    other = await core.started(worker)
    job = await core.started(worker)
    batch = [Output(text="") for _ in range(20_000)]
    for _ in range(50):
        await job.send(*batch)
    await other.say_all("goes on meanwhile")
    await job.say_all("the millionth and first")
    run = await core.ended(job.run_id)
    assert (run.last_seq, run.state) == (8, SUCCEEDED)


async def test_message_over_the_limit_of_grpc_ends_the_stream_and_not_the_core(core: RunningCore) -> None:
    worker = await core.connected_worker()
    job = await core.started(worker)
    await asyncio.gather(job.say("x" * (9 << 20)), return_exceptions=True)
    assert await worker.now.over() != "OK"
    job.last = 0
    await worker.connect(job)
    await job.say_all("smaller")
    assert (await core.ended(job.run_id)).state == SUCCEEDED


async def test_log_that_is_full_ends_its_run(core: RunningCore) -> None:
    await core.restart(max_run_events=100)
    worker = await core.connected_worker()
    job = await core.started(worker)
    for _ in range(20):
        await job.say(*("x" for _ in range(10)))
    run = await core.ended(job.run_id)
    assert (run.state, run.reason) == (FAILED, EndReason.END_REASON_LOG_LIMIT)


async def test_what_comes_after_the_end_is_dropped(core: RunningCore) -> None:
    worker = await core.connected_worker()
    job = await core.started(worker)
    gate = core.store.hold("append")
    await job.say("a")
    await gate.reached()
    await job.end()
    await job.say("too late")
    await job.end()
    await core.status()
    gate.open()
    await job.acked(2)
    watch = await core.watch(job.run_id).read_to_end()
    assert watch.seen.text == "a"


async def test_every_kind_of_output_becomes_a_well_formed_log(core: RunningCore) -> None:
    """The grammar has its own tests; here the whole way through the core is gone once with everything."""
    worker = await core.connected_worker()
    options = RunOptions(tools=[ClientTool(name="mine", schema_json='{"type":"object"}')])
    job = await core.started(worker, options=options)
    await job.send(
        Output(reasoning="hm"),
        Output(text="let me look"),
        Output(step_started=StepStartedOutput(name="look", number=1)),
        Output(tool_call=ToolCallOutput(call_id="c1", tool_name="look", arguments_delta='{"a":', done=False)),
        Output(tool_call=ToolCallOutput(call_id="c1", arguments_delta="1}", done=True)),
        Output(tool_result=ToolResultOutput(call_id="c1", done=True, output_json='{"b": 2}')),
        Output(usage=Usage(model="m", input_tokens=3, output_tokens=4)),
        Output(state=StateOutput(snapshot_json='{"x": 1}')),
        Output(custom=CustomOutput(name="note", value_json="1")),
        Output(wait=WaitOutput()),
        Output(tool_call=ToolCallOutput(call_id="c2", tool_name="mine", done=True)),
        Output(end=EndOutput(result_json='{"done": true}')),
    )
    run = await core.ended(job.run_id)
    assert (run.reason, list(run.pending_call_ids)) == (EndReason.END_REASON_CLIENT_TOOLS, ["c2"])
    assert (run.result_json, run.usage[0].input_tokens) == ('{"done":true}', 3)
    watch = await core.watch(job.run_id).read_to_end()
    assert set(watch.seen.kinds) >= {"step_started", "step_ended", "usage_reported", "state_patched", "custom"}


def _field(number: int, body: bytes) -> bytes:
    """A length-delimited field of protobuf, by hand."""
    assert len(body) < 128 * 128
    length = bytes([len(body)]) if len(body) < 128 else bytes([len(body) & 0x7F | 0x80, len(body) >> 7])
    return bytes([number << 3 | 2]) + length + body
