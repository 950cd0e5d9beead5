"""Clients set and patch the state of a thread; a run owns it while it is active."""

from __future__ import annotations

import asyncio

import grpc
import pytest

from core_service.domain.grammar.limits import MAX_STATE_BYTES
from penstock.v1.thread_service_pb2 import SetStateRequest
from tests.core.refusals import refused
from tests.core.running_core import RunningCore
from tests.core.threads import THREAD, create_thread, get_thread, patch_state, set_state

NOT_NOW = grpc.StatusCode.FAILED_PRECONDITION
INVALID = grpc.StatusCode.INVALID_ARGUMENT


async def test_a_state_is_set_and_patched_and_the_next_run_finds_it(any_core: RunningCore) -> None:
    worker = await any_core.connected_worker()
    await create_thread(any_core)
    first = await set_state(any_core, ' { "list": [1.0] } ')
    assert (first.state_json, first.state_version) == ('{"list":[1.0]}', 1)
    second = await patch_state(any_core, '[{"op":"add","path":"/list/-","value":2}]', expected_version=1)
    assert (second.state_json, second.state_version) == ('{"list":[1.0,2]}', 2)
    assert second == await get_thread(any_core)
    job = await any_core.started(worker, thread_id=THREAD)
    assert job.assignment.state_json == '{"list":[1.0,2]}'
    await job.say_all()


async def test_a_patch_of_a_state_that_was_never_set_begins_with_an_empty_object(core: RunningCore) -> None:
    await create_thread(core)
    assert (await patch_state(core, '[{"op":"add","path":"/a","value":1}]')).state_json == '{"a":1}'


async def test_an_active_run_owns_the_state(core: RunningCore) -> None:
    worker = await core.connected_worker()
    job = await core.started(worker, thread_id=THREAD)
    with refused(NOT_NOW, "THREAD_BUSY", run_id=job.run_id):
        await set_state(core, "1")
    with refused(NOT_NOW, "THREAD_BUSY", run_id=job.run_id):
        await patch_state(core, "[]")
    await job.say_all()
    await core.ended(job.run_id)
    assert (await set_state(core, "1")).state_version == 1


async def test_another_version_than_expected_is_told(core: RunningCore) -> None:
    await create_thread(core)
    await set_state(core, "{}", expected_version=0)
    with refused(NOT_NOW, "STATE_CHANGED", version="1"):
        await set_state(core, "2", expected_version=0)
    with refused(NOT_NOW, "STATE_CHANGED", version="1"):
        await patch_state(core, "[]", expected_version=2)
    assert (await get_thread(core)).state_json == "{}"


async def test_what_is_no_state_is_refused(core: RunningCore) -> None:
    await create_thread(core)
    await set_state(core, "{}")
    too_large = '"' + "x" * MAX_STATE_BYTES + '"'
    for state_json in ("", "{", "1 2", "NaN", '"\\ud800"', "[" * 70 + "]" * 70, too_large):
        with refused(INVALID, "INVALID_ARGUMENT", field="state_json"):
            await set_state(core, state_json)
    growing = f'[{{"op":"add","path":"/a","value":{too_large}}}]'
    for patch_json in ("", "{}", '[{"op":"remove","path":"/a"}]', '[{"op":"test","path":"","value":1}]', growing):
        with refused(INVALID, "INVALID_ARGUMENT", field="patch_json"):
            await patch_state(core, patch_json)
    with refused(INVALID, "INVALID_ARGUMENT", field="expected_version"):
        await set_state(core, "1", expected_version=-1)
    assert (await get_thread(core)).state_version == 1


async def test_a_thread_that_is_not_there_has_no_state(core: RunningCore) -> None:
    for change in (set_state(core, "1"), patch_state(core, "[]")):
        with refused(grpc.StatusCode.NOT_FOUND, "THREAD_NOT_FOUND", thread_id=THREAD):
            await change


async def test_a_patch_that_meets_another_change_is_applied_to_the_newest(core: RunningCore) -> None:
    await create_thread(core)
    await set_state(core, '{"a":1}')
    gate = core.store.hold("set_state")
    patching = asyncio.create_task(patch_state(core, '[{"op":"add","path":"/b","value":2}]'))
    await gate.reached()
    await set_state(core, '{"a":9}')
    gate.open()
    assert (await patching).state_json == '{"a":9,"b":2}'


async def test_a_patch_that_expects_a_version_loses_against_another_change(core: RunningCore) -> None:
    await create_thread(core)
    await set_state(core, '{"a":1}')
    gate = core.store.hold("set_state")
    patching = asyncio.create_task(patch_state(core, '[{"op":"add","path":"/b","value":2}]', expected_version=1))
    await gate.reached()
    await set_state(core, '{"a":9}')
    gate.open()
    with refused(NOT_NOW, "STATE_CHANGED", version="2"):
        await patching
    assert (await get_thread(core)).state_json == '{"a":9}'


async def test_a_repeated_patch_is_applied_once(any_core: RunningCore) -> None:
    await create_thread(any_core)
    await set_state(any_core, '{"list":[],"once":true}')
    patch = '[{"op":"remove","path":"/once"},{"op":"add","path":"/list/-","value":1}]'
    any_core.store.fail("set_state", after=True)
    with refused(grpc.StatusCode.UNAVAILABLE, "STORE_UNAVAILABLE"):
        await patch_state(any_core, patch, request_id="p1")
    again = await patch_state(any_core, patch, request_id="p1")
    assert (again.state_json, again.state_version) == ('{"list":[1]}', 2)
    with refused(grpc.StatusCode.ALREADY_EXISTS, "IDEMPOTENCY_MISMATCH"):
        await patch_state(any_core, "[]", request_id="p1")
    with refused(INVALID, "INVALID_ARGUMENT", field="request_id"):
        await patch_state(any_core, patch, request_id="with blanks")


async def test_a_long_patch_does_not_hold_up_the_core(core: RunningCore) -> None:
    """Thousands of operations on a large state take a while, and others are served meanwhile."""
    await create_thread(core)
    await set_state(core, '{"large":"' + "x" * (MAX_STATE_BYTES - 100) + '","n":0}')
    patch = "[" + ",".join('{"op":"replace","path":"/n","value":1}' for _ in range(3_000)) + "]"
    patching = asyncio.create_task(patch_state(core, patch))
    others = 0
    while not patching.done():
        await core.status()
        others += 1
    assert (await patching).state_json.endswith('"n":1}')
    assert others > 10


# ── set state × create ───────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_create_that_comes_first_keeps_the_state_from_being_set(any_core: RunningCore) -> None:
    worker = await any_core.connected_worker()
    await create_thread(any_core)
    gate = any_core.store.hold("set_state")
    setting = asyncio.create_task(set_state(any_core, "1"))
    await gate.reached()
    job = await any_core.started(worker, thread_id=THREAD)
    gate.open()
    with refused(NOT_NOW, "THREAD_BUSY", run_id=job.run_id):
        await setting
    await job.say_all()
    assert (await get_thread(any_core)).state_version == 0


async def test_a_state_that_comes_first_is_what_the_created_run_finds(any_core: RunningCore) -> None:
    worker = await any_core.connected_worker()
    await create_thread(any_core)
    gate = any_core.store.hold("create_run")
    creating = asyncio.create_task(any_core.create(thread_id=THREAD))
    await gate.reached()
    await set_state(any_core, "1")
    gate.open()
    await creating
    job = await worker.take()
    assert job.assignment.state_json == "1"
    await job.say_all()


async def test_a_state_and_an_end_at_once_lose_nothing(any_core: RunningCore) -> None:
    """The end is under way, uncommitted: until it is, the run owns the state."""
    worker = await any_core.connected_worker()
    job = await any_core.started(worker, thread_id=THREAD)
    gate = any_core.store.hold("append")
    await job.end()
    await gate.reached()
    with refused(NOT_NOW, "THREAD_BUSY", run_id=job.run_id):
        await set_state(any_core, "1")
    gate.open()
    await any_core.ended(job.run_id)
    assert (await set_state(any_core, "1")).state_json == "1"


@pytest.mark.parametrize("request_id", ["", "k1"])
async def test_a_client_that_goes_away_has_set_the_state_or_has_not(core: RunningCore, request_id: str) -> None:
    await create_thread(core)
    gate = core.store.hold("set_state", after=True)
    call = core.threads.SetState(SetStateRequest(thread_id=THREAD, state_json="1", request_id=request_id))
    await gate.reached()
    call.cancel()
    gate.open()
    assert (await get_thread(core)).state_json == "1"
