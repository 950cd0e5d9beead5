"""What a worker does when its stream breaks: nothing is lost, nothing comes twice, and a lease ends."""

from penstock.v1.worker_service_pb2 import CoreMessage, Draining
from tests.sdk.agents import Gate, echo_app, has_text, soon
from tests.sdk.conftest import StartWorker
from tests.sdk.scripted_core import ScriptedCore, held, scripted_core


async def test_after_a_break_the_worker_goes_on_behind_what_the_core_has(
    core: ScriptedCore, start_worker: StartWorker
) -> None:
    gate = Gate()
    start_worker(gate.app)
    first = await core.session()
    first.acks = False
    await first.welcome()
    await first.assign("gate")
    await has_text(first, "one ")
    first.cut()
    gate.go.set()

    second = await core.session()
    assert [(one.run_id, one.attempt, one.last_output) for one in second.hello.held] == [("run_1", 1, 3)]
    await second.welcome(held(accepted=1))

    await second.end()
    assert second.numbers() == [2, 3]
    assert second.text() == "two "
    assert second.hello.worker_id == first.hello.worker_id
    assert gate.starts == 1


async def test_a_break_in_the_middle_of_a_burst_loses_and_repeats_nothing(
    core: ScriptedCore, start_worker: StartWorker
) -> None:
    start_worker(echo_app())
    text = " ".join(map(str, range(5_000)))
    session = await core.welcomed()
    session.acks = False
    await session.assign("echo", text)
    said = ""
    stored = 0
    while stored < 5_001:
        await session.until(lambda session: bool(session.outputs["run_1"]))
        part = session.outputs["run_1"][:700]
        assert part[0][0] == stored + 1
        said += "".join(output.text for _, output in part)
        stored = part[-1][0]
        if stored == 5_001:
            break
        session.cut()
        session = await core.session()
        session.acks = False
        await session.welcome(held(accepted=stored))

    assert said.split() == text.split()


async def test_a_run_that_a_welcome_revokes_or_does_not_name_is_stopped(
    core: ScriptedCore, start_worker: StartWorker
) -> None:
    gate = Gate()
    start_worker(gate.app, concurrency=2)
    first = await core.welcomed()
    await first.assign("gate", run_id="run_1")
    await first.assign("gate", run_id="run_2")
    await has_text(first, "one ", "run_1")
    await has_text(first, "one ", "run_2")
    first.cut()

    second = await core.session()
    await second.welcome(held("run_1", accepted=1, revoked=True))

    await second.until(lambda session: session.credit == 2)
    assert not second.outputs


async def test_an_end_that_was_not_acknowledged_is_kept_and_resent(
    core: ScriptedCore, start_worker: StartWorker
) -> None:
    start_worker(echo_app())
    first = await core.session()
    first.acks = False
    await first.welcome()
    await first.assign("echo", "hi")
    await first.end()
    first.cut()

    second = await core.session()
    assert [one.last_output for one in second.hello.held] == [2]
    await second.welcome(held(accepted=1))
    await second.end()
    assert second.kinds() == ["end"]
    second.cut()

    third = await core.session()
    assert not third.hello.held


async def test_a_count_that_cannot_be_gives_the_run_up(core: ScriptedCore, start_worker: StartWorker) -> None:
    gate = Gate()
    start_worker(gate.app)
    first = await core.welcomed()
    await first.assign("gate")
    await has_text(first, "one ")
    first.cut()

    second = await core.session()
    await second.welcome(held(accepted=7))

    await soon(gate.cancelled)


async def test_a_handler_goes_on_without_a_connection_until_the_lease_is_over(
    core: ScriptedCore, start_worker: StartWorker
) -> None:
    gate = Gate()
    start_worker(gate.app)
    first = await core.welcomed(lease=0.2)
    await first.assign("gate")
    await has_text(first, "one ")
    first.cut()
    second = await core.session()  # which is not answered: there is no contact

    await soon(gate.cancelled)
    await second.welcome(held(accepted=1))

    await second.until(lambda session: bool(session.declined))
    assert [(decline.run_id, decline.reason) for decline in second.declined] == [("run_1", "NOT_HELD")]
    assert not second.outputs


async def test_a_core_that_drains_gets_what_there_is_and_the_worker_finds_the_next(
    core: ScriptedCore, start_worker: StartWorker
) -> None:
    gate = Gate()
    async with scripted_core() as other:
        start_worker(gate.app, core=f"{core.address}, {other.address}")
        first = await core.welcomed()
        await first.assign("gate")
        await has_text(first, "one ")

        await first.say(CoreMessage(draining=Draining()))
        await soon(first.ended)
        second = await other.session()
        await second.welcome(held(accepted=1))
        gate.go.set()

        await second.end()
        assert second.numbers() == [2, 3]
        assert gate.starts == 1


async def test_a_core_that_drains_and_does_not_close_the_stream_is_left(
    core: ScriptedCore, start_worker: StartWorker
) -> None:
    start_worker(echo_app())
    first = await core.welcomed()
    first.stays = True

    await first.say(CoreMessage(draining=Draining()))
    second = await core.welcomed()

    await second.assign("echo", "hi")
    await second.end()
    first.cut()


async def test_a_core_that_is_gone_is_dialled_again_until_it_is_back(start_worker: StartWorker) -> None:
    gate = Gate()
    async with scripted_core() as core:
        start_worker(gate.app, core=core.address)
        first = await core.welcomed()
        await first.assign("gate")
        await has_text(first, "one ")
    gate.go.set()

    async with scripted_core(int(core.address.rpartition(":")[2])) as core:
        second = await core.session()
        await second.welcome(held(accepted=1))
        await second.end()
        assert second.numbers() == [2, 3]
