"""Runs from their creation to their end: what is stored, what is streamed, what a repeat does, what is refused."""

from __future__ import annotations

import asyncio

import grpc
from google.protobuf.duration_pb2 import Duration

from penstock.v1.message_pb2 import Message, Part, Role, TextPart
from penstock.v1.run_pb2 import BusyPolicy, ClientTool, RunOptions, RunState
from penstock.v1.run_service_pb2 import CreateRunRequest
from tests.core.refusals import refused
from tests.core.running_core import RunningCore, create_request, texts, user_message
from tests.core.scripted_worker import agent

INVALID = grpc.StatusCode.INVALID_ARGUMENT

MALFORMED: list[tuple[str, CreateRunRequest]] = [
    ("input", CreateRunRequest(agent_id="echo")),
    ("input", CreateRunRequest(agent_id="echo", input=[user_message("")] * 1_001)),
    ("input", create_request("x" * (1 << 20))),
    ("input[0].parts", CreateRunRequest(agent_id="echo", input=[Message(role=Role.ROLE_USER)])),
    (
        "input[0].role",
        CreateRunRequest(agent_id="echo", input=[Message(parts=[Part(text=TextPart(text="x"))])]),
    ),
    ("input[0].parts[0]", CreateRunRequest(agent_id="echo", input=[Message(role=Role.ROLE_USER, parts=[Part()])])),
    ("thread_id", create_request(thread_id="-bad")),
    ("thread_id", create_request(thread_id="x" * 129)),
    ("thread_id", create_request(thread_id="nul\0")),
    ("request_id", create_request(request_id="x" * 129)),
    ("request_id", create_request(request_id="a b")),
    ("metadata", create_request(metadata={"k": "x" * 1_025})),
    ("metadata", create_request(metadata={"": "x"})),
    ("metadata", create_request(metadata={str(number): "" for number in range(65)})),
    ("origin_json", create_request(origin_json='"' + "x" * (16 << 10) + '"')),
    ("options.priority", create_request(options=RunOptions(priority=101))),
    ("options.max_attempts", create_request(options=RunOptions(max_attempts=-1))),
    ("options.queue_timeout", create_request(options=RunOptions(queue_timeout=Duration(seconds=-1)))),
    ("options.agent_options_json", create_request(options=RunOptions(agent_options_json="{]"))),
    ("options.tools", create_request(options=RunOptions(tools=[ClientTool()]))),
    ("options.tools", create_request(options=RunOptions(tools=[ClientTool(name="a"), ClientTool(name="a")]))),
    ("options.tools[a].schema_json", create_request(options=RunOptions(tools=[ClientTool(name="a", schema_json="x")]))),
]


async def test_run_is_one_contiguous_log_from_its_creation_to_its_end(any_core: RunningCore) -> None:
    worker = await any_core.connected_worker()
    run = await any_core.create("hi there", metadata={"team": "a"}, origin_json='{"x":1}')
    assert (run.state, run.attempt, run.last_seq) == (RunState.RUN_STATE_RUNNING, 1, 2)
    watch = any_core.watch(run.id)
    job = await worker.take()
    assert texts(job.assignment.messages) == ["hi there"]
    assert job.assignment.new_messages == 1
    await job.say_all("hi ", "there")
    await watch.read_to_end()
    assert watch.seen.kinds == [
        "run_queued",
        "run_started",
        "message_started",
        "part_started",
        "part_delta",
        "part_delta",
        "part_ended",
        "message_ended",
        "run_ended",
    ]
    ended = await any_core.ended(run.id)
    assert (ended.state, ended.last_seq) == (RunState.RUN_STATE_SUCCEEDED, 9)
    assert (ended.metadata["team"], ended.origin_json) == ("a", '{"x":1}')
    assert await any_core.events(run.id) == watch.seen.events


async def test_run_without_a_free_worker_is_queued_and_claimed_later(any_core: RunningCore) -> None:
    worker = await any_core.connected_worker(credit=1)
    first = await any_core.started(worker)
    run = await any_core.create("second")
    assert (run.state, run.attempt, run.last_seq) == (RunState.RUN_STATE_QUEUED, 0, 1)
    await first.say_all("one")
    await worker.give_credit(1)
    second = await worker.take()
    assert (second.run_id, second.attempt) == (run.id, 1)
    await second.say_all("two")
    watch = await any_core.watch(run.id).read_to_end()
    assert watch.seen.text == "two"


async def test_stream_run_says_first_what_it_made_and_then_everything(core: RunningCore) -> None:
    worker = await core.connected_worker()
    stream = core.stream("hello")
    first = await stream.read()
    assert first is not None
    assert first.run_id
    assert (list(first.events), first.caught_up) == ([], False)
    await (await worker.take()).say_all("hello")
    await stream.read_to_end()
    assert stream.seen.kinds[-1] == "run_ended"
    assert [message.caught_up for message in stream.messages].count(True) == 1


async def test_history_of_a_thread_comes_with_the_next_assignment(core: RunningCore) -> None:
    worker = await core.connected_worker(credit=2)
    first = await core.started(worker, "one", thread_id="t")
    await first.say_all("1")
    second = await core.started(worker, "two", thread_id="t")
    assert texts(second.assignment.messages) == ["one", "1", "two"]
    assert second.assignment.new_messages == 1
    await second.say_all("2")


# ── repeats ──────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_repeated_create_is_one_run(any_core: RunningCore) -> None:
    worker = await any_core.connected_worker(credit=5)
    first = await any_core.create(request_id="key")
    assert (await any_core.create(request_id="key")).id == first.id
    job = await worker.take()
    await job.say_all("done")
    again = await any_core.create(request_id="key")
    assert (again.id, again.state) == (first.id, RunState.RUN_STATE_SUCCEEDED)
    with refused(grpc.StatusCode.ALREADY_EXISTS, "IDEMPOTENCY_MISMATCH"):
        await any_core.create("something else", request_id="key")
    assert len(any_core.place.runs()) == 1


async def test_hundred_repeats_at_once_are_one_run(any_core: RunningCore) -> None:
    worker = await any_core.connected_worker(credit=5)
    runs = await asyncio.gather(*(any_core.create(request_id="key") for _ in range(100)))
    assert len({run.id for run in runs}) == 1
    await (await worker.take()).say_all("once")
    status = await any_core.status()
    assert status.workers[0].credit == 4, "the others gave their credit back"
    assert not worker.now.has_heard("assignment")


async def test_key_is_known_after_a_restart_and_to_stream_run(core: RunningCore) -> None:
    worker = await core.connected_worker()
    run = await core.create(request_id="key")
    await (await worker.take()).say_all("all of ", "it")
    await worker.cut()
    await core.restart()
    assert (await core.create(request_id="key")).id == run.id
    stream = await core.stream(request_id="key").read_to_end()
    assert (stream.seen.run_id, stream.seen.text) == (run.id, "all of it")
    with refused(grpc.StatusCode.ALREADY_EXISTS, "IDEMPOTENCY_MISMATCH"):
        await core.stream("another", request_id="key").read()


async def test_refused_create_leaves_its_key_free(core: RunningCore) -> None:
    worker = await core.connected_worker()
    job = await core.started(worker, thread_id="t")
    reject = RunOptions(busy_policy=BusyPolicy.BUSY_POLICY_REJECT)
    with refused(grpc.StatusCode.FAILED_PRECONDITION, "THREAD_BUSY", run_id=job.run_id):
        await core.create(thread_id="t", options=reject, request_id="key")
    await job.say_all()
    await worker.give_credit(1)
    await core.create(thread_id="t", options=reject, request_id="key")
    await (await worker.take()).say_all()


# ── refusals ─────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_unknown_agent_is_refused(core: RunningCore) -> None:
    for agent_id in ("nobody", "", "NOT AN ID", "\0"):
        with refused(grpc.StatusCode.NOT_FOUND, "AGENT_NOT_FOUND"):
            await core.create(agent_id=agent_id)
    assert core.place.runs() == {}


async def test_malformed_create_is_refused_and_names_the_field(core: RunningCore) -> None:
    await core.connected_worker()
    for field, request in MALFORMED:
        with refused(INVALID, "INVALID_ARGUMENT", field=field):
            await core.runs.CreateRun(request)
    assert core.place.runs() == {}
    assert (await core.status()).workers[0].credit == 1


async def test_client_that_goes_away_in_the_middle_of_a_create_leaves_a_run_that_runs(any_core: RunningCore) -> None:
    worker = await any_core.connected_worker()
    gate = any_core.store.hold("create_run", after=True)
    call = any_core.runs.CreateRun(create_request(request_id="key"))
    await gate.reached()
    call.cancel()
    await any_core.status()  # on the same connection: the core has heard of the cancel before it answers this
    gate.open()
    job = await worker.take()
    await job.say_all("done")
    assert (await any_core.create(request_id="key")).id == job.run_id
    assert (await any_core.ended(job.run_id)).state == RunState.RUN_STATE_SUCCEEDED


async def test_create_whose_answer_was_lost_runs_once(any_core: RunningCore) -> None:
    worker = await any_core.connected_worker(credit=2)
    any_core.store.fail("create_run", after=True)
    with refused(grpc.StatusCode.UNAVAILABLE, "STORE_UNAVAILABLE"):
        await any_core.create(request_id="key")
    run = await any_core.create(request_id="key")
    job = await worker.take()
    assert (job.run_id, job.attempt) == (run.id, 1)
    await job.say_all("done")
    assert (await any_core.ended(run.id)).state == RunState.RUN_STATE_SUCCEEDED


async def test_agents_limit_of_runs_is_kept_over_a_reconnect(core: RunningCore) -> None:
    worker = await core.connected_worker(agent(concurrency=1), credit=5)
    job = await core.started(worker)
    second = await core.create("second")
    await worker.cut()
    await worker.connect(job, credit=5)
    await job.say("still one at a time")
    await job.acked()
    assert (await core.get(second.id)).state == RunState.RUN_STATE_QUEUED
    await job.end()
    assert (await worker.take()).run_id == second.id
