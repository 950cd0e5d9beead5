"""The socket through a real edge: exact frames, requests, refusals, slow readers, restarts."""

from __future__ import annotations

import asyncio
import base64
import gc
import json
import os
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import grpc
import pytest
from aiohttp import WSMsgType

from edge.app import Edge
from edge.event_json import event_object
from edge.protocols.websocket.frames import SocketEncoder, text
from edge.watch import Watch, WatchBatch
from penstock.v1.run_pb2 import EndReason
from penstock.v1.run_service_pb2 import (
    CancelRunRequest,
    CreateRunRequest,
    GetRunRequest,
    SteerRunRequest,
    SubmitInputRequest,
)
from tests.edge.conftest import StartEdge
from tests.edge.hello_log import HEAD, beginning, delta, ending, whole
from tests.edge.scripted_calls import Refuse
from tests.edge.scripted_core import ScriptedCore
from tests.edge.slow_connection import connect_slowly
from tests.golden.golden import VARIANTS

PATH = "/v1/ws"
CREATE = {"type": "create", "agent_id": "echo", "input": "Hi"}
RUN = {"id": "run_1", "agent_id": "echo", "thread_id": "thr_1", "state": "running"}


class Talk:
    """The client's side of a socket."""

    def __init__(self, ws: aiohttp.ClientWebSocketResponse) -> None:
        self.ws = ws

    async def hear(self) -> dict[str, Any]:
        """The next message."""
        async with asyncio.timeout(10):
            said: dict[str, Any] = json.loads(await self.ws.receive_str())
            return said

    async def ask(self, **request: object) -> dict[str, Any]:
        """Send a request and return the next message."""
        await self.ws.send_str(json.dumps(request))
        return await self.hear()

    async def refusal(self, **request: object) -> tuple[int, str]:
        """Send a request that is refused; return status and reason."""
        answer = await self.ask(**request)
        assert answer["type"] == "error", answer
        assert answer["message"]
        return answer["status"], answer["reason"]

    async def events(self, *, until: int) -> list[dict[str, Any]]:
        """The next events, up to a seq."""
        heard = [await self.hear()]
        while heard[-1]["seq"] < until:
            heard.append(await self.hear())
        return heard


@pytest.fixture
async def talk(http: aiohttp.ClientSession) -> AsyncIterator[Talk]:
    async with http.ws_connect(PATH) as ws:
        yield Talk(ws)


def seqs(events: list[dict[str, Any]]) -> list[int]:
    return [event["seq"] for event in events]


@pytest.mark.parametrize("name", VARIANTS)
def test_a_frame_is_the_native_object_with_the_runs_id(name: str) -> None:
    encoder = SocketEncoder("run_1")

    for event in VARIANTS[name]:
        native = json.loads(event_object(event))
        kind, seq, rest = native.pop("type"), native.pop("seq"), native
        whole = json.dumps({"type": kind, "seq": seq, "run_id": "run_1", **rest}, separators=(",", ":"))
        frame = encoder.feed(event)
        payload = frame[2 if frame[1] < 126 else 4 if frame[1] == 126 else 10 :]
        assert json.dumps(json.loads(payload), separators=(",", ":")) == whole
        assert frame == text(payload)
    assert encoder.ended == (name != "waiting")


@pytest.mark.parametrize("size", [0, 125, 126, 65_535, 65_536, 200_000])
async def test_messages_of_any_length_are_read_by_clients(
    core: ScriptedCore, http: aiohttp.ClientSession, size: int
) -> None:
    core.append(*beginning(), delta(5, "x" * size))
    async with http.ws_connect(PATH, max_msg_size=0) as ws:
        talk = Talk(ws)
        await talk.ask(type="watch", run_id="run_1", after=4)
        said = await talk.hear() if size else {"text": ""}
    assert len(said.get("text", "")) == size


async def test_a_run_is_created_and_watched_in_one_message(core: ScriptedCore, talk: Talk) -> None:
    core.append(*whole(deltas=2))

    result = await talk.ask(**CREATE, id="a", metadata={"user": "u1"}, idempotency_key="k1")
    events = await talk.events(until=9)

    assert result == {
        "type": "result",
        "id": "a",
        "of": "create",
        "run": RUN | {"state": "succeeded", "reason": "completed", "last_seq": 9},
        "watching": True,
    }
    assert seqs(events) == list(range(1, 10))
    assert events[4] == {
        "type": "part.delta", "seq": 5, "run_id": "run_1", "part": 1, "kind": "text", "text": "piece ",
    }  # fmt: skip
    [create] = [asked for asked in core.requests if isinstance(asked, CreateRunRequest)]
    assert (create.agent_id, create.request_id, dict(create.metadata)) == ("echo", "k1", {"user": "u1"})


async def test_a_create_that_is_repeated_makes_no_second_run_and_no_second_watch(
    core: ScriptedCore, talk: Talk
) -> None:
    first = await talk.ask(**CREATE, idempotency_key="k")
    again = await talk.ask(**CREATE, idempotency_key="k")
    core.append(*whole(deltas=0))

    assert first["run"]["id"] == again["run"]["id"] == "run_1"
    assert seqs(await talk.events(until=7)) == list(range(1, 8))
    assert (await talk.ask(type="ping", id=1))["id"] == 1  # and nothing came twice
    assert len(core.created) == 1


async def test_a_run_may_be_created_and_not_watched(core: ScriptedCore, talk: Talk) -> None:
    result = await talk.ask(**CREATE, watch=False)

    assert (result["run"]["id"], result["watching"]) == ("run_1", False)
    core.append(*whole(deltas=0))
    assert (await talk.ask(type="ping"))["of"] == "ping"


async def test_several_runs_are_watched_each_behind_its_cursor(core: ScriptedCore, talk: Talk) -> None:
    for number in (1, 2, 3):
        core.append(*beginning(), run_id=f"run_{number}")
    for number in (1, 2, 3):
        result = await talk.ask(type="watch", run_id=f"run_{number}", after=HEAD, id=number)
        assert (result["id"], result["watching"], result["after"]) == (number, True, HEAD)

    for seq in range(5, 55):
        for number in (1, 2, 3):
            core.append(delta(seq, f"{number} "), run_id=f"run_{number}")
    heard = [await talk.hear() for _ in range(150)]

    for number in (1, 2, 3):
        mine = [event for event in heard if event["run_id"] == f"run_{number}"]
        assert seqs(mine) == list(range(5, 55))
        assert {event["text"] for event in mine} == {f"{number} "}
    assert core.watch_streams == 1


async def test_an_ended_run_is_told_to_its_end_and_then_forgotten(core: ScriptedCore, talk: Talk) -> None:
    core.append(*whole(deltas=1))

    await talk.ask(type="watch", run_id="run_1")
    assert (await talk.events(until=8))[-1]["type"] == "run.ended"
    await talk.ask(type="watch", run_id="run_1", after=6)
    assert seqs(await talk.events(until=8)) == [7, 8]
    nothing_left = await talk.ask(type="watch", run_id="run_1", after=8)

    assert nothing_left["watching"] is False
    assert (await talk.ask(type="ping"))["type"] == "result"


async def test_what_is_unwatched_is_silent_and_goes_on_where_it_stopped(core: ScriptedCore, talk: Talk) -> None:
    core.append(*beginning(), delta(5))
    await talk.ask(type="watch", run_id="run_1")
    await talk.events(until=5)

    stopped = await talk.ask(type="unwatch", run_id="run_1", id="u")
    core.append(delta(6))

    assert stopped == {"type": "result", "id": "u", "of": "unwatch", "run_id": "run_1", "after": 5}
    assert (await talk.ask(type="ping"))["of"] == "ping"
    async with asyncio.timeout(5):
        await core.until_watched(stops=1)
    await talk.ask(type="watch", run_id="run_1", after=stopped["after"])
    assert seqs(await talk.events(until=6)) == [6]


async def test_runs_are_steered_answered_and_cancelled(core: ScriptedCore, talk: Talk) -> None:
    core.append(*beginning())

    answered = await talk.ask(
        type="answer", run_id="run_1", answers=[{"input_id": "i1", "outcome": "answered", "answer": {"ok": True}}]
    )
    cancelled = await talk.ask(type="cancel", run_id="run_1", reason="user", id=7)

    assert answered["run"] == RUN | {"last_seq": 4, "leg": 1}
    assert (cancelled["id"], cancelled["of"], cancelled["run"]["cancel_requested"]) == (7, "cancel", True)
    asked = {type(request): request for request in core.requests}
    submit, cancel = asked[SubmitInputRequest], asked[CancelRunRequest]
    assert isinstance(submit, SubmitInputRequest)
    assert isinstance(cancel, CancelRunRequest)
    assert submit.answers[0].answer_json == '{"ok":true}'
    assert cancel.reason == EndReason.END_REASON_USER


async def test_a_steering_message_reaches_the_core(core: ScriptedCore, talk: Talk) -> None:
    core.append(*beginning())

    steered = await talk.ask(type="steer", run_id="run_1", input="Hurry", id="s")

    assert (steered["id"], steered["of"], steered["message"]["id"]) == ("s", "steer", "msg_7")
    assert await talk.refusal(type="steer", run_id="run_1", input=[]) == (400, "INVALID_ARGUMENT")
    [steer] = [request for request in core.requests if isinstance(request, SteerRunRequest)]
    assert steer.message.parts[0].text.text == "Hurry"


BAD: list[tuple[str, int, str]] = [
    ("{", 400, "INVALID_JSON"),
    ("[]", 400, "INVALID_ARGUMENT"),
    ("{}", 400, "UNKNOWN_TYPE"),
    ('{"type":"dance"}', 400, "UNKNOWN_TYPE"),
    ('{"type":7}', 400, "INVALID_ARGUMENT"),
    ('{"type":"ping","id":true}', 400, "INVALID_ARGUMENT"),
    ('{"type":"ping","id":"' + "x" * 129 + '"}', 400, "INVALID_ARGUMENT"),
    ('{"type":"ping","more":1}', 400, "INVALID_ARGUMENT"),
    ('{"type":"create"}', 400, "INVALID_ARGUMENT"),
    ('{"type":"create","agent_id":"echo","watch":"yes"}', 400, "INVALID_ARGUMENT"),
    ('{"type":"create","agent_id":"echo","wacth":true}', 400, "INVALID_ARGUMENT"),
    ('{"type":"create","agent_id":"echo","idempotency_key":"a b"}', 400, "INVALID_IDEMPOTENCY_KEY"),
    ('{"type":"create","agent_id":"nobody"}', 404, "AGENT_NOT_FOUND"),
    ('{"type":"watch"}', 400, "INVALID_ARGUMENT"),
    ('{"type":"watch","run_id":"run_9"}', 404, "RUN_NOT_FOUND"),
    ('{"type":"watch","run_id":"run_1","after":-1}', 400, "INVALID_CURSOR"),
    ('{"type":"watch","run_id":"run_1","after":4294967296}', 400, "INVALID_CURSOR"),
    ('{"type":"watch","run_id":"run_1","after":99}', 416, "CURSOR_AHEAD"),
    ('{"type":"unwatch","run_id":"run_1"}', 404, "NOT_WATCHED"),
    ('{"type":"cancel","run_id":"run_9"}', 404, "RUN_NOT_FOUND"),
    ("[" * 100, 400, "JSON_TOO_DEEP"),
    ('{"type":"ping","id":"' + "x" * (1 << 20) + '"}', 413, "BODY_TOO_LARGE"),
]


@pytest.mark.parametrize(("message", "status", "reason"), BAD, ids=[f"{row[2]}-{row[0][:60]}" for row in BAD])
async def test_what_cannot_be_done_is_refused_and_the_socket_lives_on(
    core: ScriptedCore, talk: Talk, message: str, status: int, reason: str
) -> None:
    core.append(*beginning())

    await talk.ws.send_str(message)
    refusal = await talk.hear()

    assert (refusal["type"], refusal["status"], refusal["reason"]) == ("error", status, reason)
    assert (await talk.ask(type="ping", id="alive"))["id"] == "alive"


async def test_a_refusal_repeats_the_id_and_brings_what_the_core_added(core: ScriptedCore, talk: Talk) -> None:
    core.append(*beginning())
    core.script["WatchMany"] = [Refuse(grpc.StatusCode.OUT_OF_RANGE, "EVENTS_EXPIRED", {"oldest_seq": "40"})]

    refusal = await talk.ask(type="watch", run_id="run_1", id="w")

    assert refusal == {
        "oldest_seq": 40, "type": "error", "id": "w", "of": "watch",
        "status": 410, "reason": "EVENTS_EXPIRED", "message": "scripted",
    }  # fmt: skip


async def test_a_binary_message_is_refused(talk: Talk) -> None:
    await talk.ws.send_bytes(b"{}")

    assert (await talk.hear())["reason"] == "INVALID_FRAME"
    assert (await talk.ask(type="ping"))["type"] == "result"


async def test_a_message_far_over_the_limit_ends_the_socket_with_its_code(start_edge: StartEdge) -> None:
    edge = await start_edge(max_body=1024)
    async with aiohttp.ClientSession() as http, http.ws_connect(f"http://{edge.address}{PATH}") as ws:
        await ws.send_str("x" * 4096)
        async with asyncio.timeout(5):
            message = await ws.receive()
        assert (message.type, ws.close_code) == (WSMsgType.CLOSE, aiohttp.WSCloseCode.MESSAGE_TOO_BIG)


async def test_a_socket_watches_so_many_runs_and_no_more(core: ScriptedCore, start_edge: StartEdge) -> None:
    edge = await start_edge(socket_watches=2)
    for number in (1, 2, 3):
        core.append(*beginning(), run_id=f"run_{number}")
    async with aiohttp.ClientSession() as http, http.ws_connect(f"http://{edge.address}{PATH}") as ws:
        talk = Talk(ws)
        for number in (1, 2):
            assert (await talk.ask(type="watch", run_id=f"run_{number}", after=HEAD))["watching"]
        assert await talk.refusal(type="watch", run_id="run_1") == (409, "ALREADY_WATCHED")
        assert await talk.refusal(type="watch", run_id="run_3") == (429, "TOO_MANY_WATCHES")
        assert await talk.refusal(**CREATE) == (429, "TOO_MANY_WATCHES")
        assert core.created == {}, "what cannot be watched was not created either"
        await talk.ask(type="unwatch", run_id="run_1")
        assert (await talk.ask(type="watch", run_id="run_3", after=HEAD))["watching"]


async def test_a_core_that_stays_away_ends_the_watch_with_its_cursor(core: ScriptedCore, start_edge: StartEdge) -> None:
    edge = await start_edge(reattach_for=0.2)
    core.append(*beginning())
    async with aiohttp.ClientSession() as http, http.ws_connect(f"http://{edge.address}{PATH}") as ws:
        talk = Talk(ws)
        await talk.ask(type="watch", run_id="run_1")
        await talk.events(until=HEAD)
        await core.stop()
        broken = await talk.hear()
        await core.start()
        assert (broken["type"], broken["reason"]) == ("error", "CORE_UNAVAILABLE")
        assert (broken["run_id"], broken["after"]) == ("run_1", HEAD)
        assert "id" not in broken
        core.append(*ending(5))
        await talk.ask(type="watch", run_id="run_1", after=HEAD)
        assert seqs(await talk.events(until=7)) == [5, 6, 7]


async def test_a_restart_of_the_core_is_a_pause_and_nothing_else(core: ScriptedCore, talk: Talk) -> None:
    core.append(*beginning())
    await talk.ask(type="watch", run_id="run_1")
    heard = await talk.events(until=HEAD)
    await core.stop()
    core.append(delta(5))
    await core.start()
    heard += await talk.events(until=5)
    core.append(*ending(6))
    heard += await talk.events(until=8)

    assert seqs(heard) == list(range(1, 9))


async def test_each_call_is_made_on_behalf_of_who_opened_the_socket(
    core: ScriptedCore, http: aiohttp.ClientSession
) -> None:
    core.append(*beginning())
    headers = {"Authorization": "Bearer t", "X-Request-Id": "req-1"}
    async with http.ws_connect(PATH, headers=headers) as ws:
        talk = Talk(ws)
        await talk.ask(**CREATE, watch=False)
        await talk.ask(type="watch", run_id="run_1", after=HEAD)
        await talk.ask(type="cancel", run_id="run_1")

    assert [type(request) for request in core.requests] == [CreateRunRequest, GetRunRequest, CancelRunRequest]
    for metadata in core.metadata:
        assert (metadata["authorization"], metadata["x-request-id"]) == ("Bearer t", "req-1")


async def test_silence_is_filled_with_pings(core: ScriptedCore, start_edge: StartEdge) -> None:
    edge = await start_edge(heartbeat=0.05)
    url = f"http://{edge.address}{PATH}"
    async with aiohttp.ClientSession() as http, http.ws_connect(url, autoping=False) as ws, asyncio.timeout(5):
        assert (await ws.receive()).type is WSMsgType.PING
        assert (await ws.receive()).type is WSMsgType.PING


async def test_an_edge_that_leaves_closes_its_sockets_and_says_to_come_back(
    core: ScriptedCore, start_edge: StartEdge
) -> None:
    edge = await start_edge()
    core.append(*beginning())
    async with aiohttp.ClientSession() as http, http.ws_connect(f"http://{edge.address}{PATH}") as ws:
        talk = Talk(ws)
        await talk.ask(type="watch", run_id="run_1")
        await talk.events(until=HEAD)
        leaving = asyncio.create_task(edge.leave())
        async with asyncio.timeout(5):
            message = await ws.receive()
        assert (message.type, message.data) == (WSMsgType.CLOSE, aiohttp.WSCloseCode.SERVICE_RESTART)
        assert message.extra == "The server restarts: connect again, and watch from your cursors."
        await leaving


async def test_a_client_that_leaves_takes_its_watches_along_and_not_its_runs(
    core: ScriptedCore, http: aiohttp.ClientSession
) -> None:
    for number in (1, 2):
        core.append(*beginning(), run_id=f"run_{number}")
    async with http.ws_connect(PATH) as ws:
        for number in (1, 2):
            await Talk(ws).ask(type="watch", run_id=f"run_{number}", after=HEAD)

    async with asyncio.timeout(5):
        await core.until_watched(stops=2)
    assert not [request for request in core.requests if isinstance(request, CancelRunRequest)]


@pytest.mark.parametrize(
    ("origin", "allowed", "status"),
    [
        ("https://evil.example", "", 403),
        ("https://app.example", "https://app.example, http://localhost:3000", 101),
        ("http://localhost:3000", "https://app.example, http://localhost:3000", 101),
        ("https://evil.example", "https://app.example", 403),
        ("https://any.example", "*", 101),
        ("null", "", 403),
    ],
)
async def test_foreign_pages_may_open_a_socket_only_when_they_are_named(
    start_edge: StartEdge, origin: str, allowed: str, status: int
) -> None:
    edge = await start_edge(cors_origins=allowed)
    async with aiohttp.ClientSession() as http:
        if status == 101:
            async with http.ws_connect(f"http://{edge.address}{PATH}", origin=origin) as ws:
                assert (await Talk(ws).ask(type="ping"))["type"] == "result"
        else:
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                await http.ws_connect(f"http://{edge.address}{PATH}", origin=origin)
            assert refused.value.status == status


async def test_the_edges_own_pages_may_open_a_socket(edge: Edge, http: aiohttp.ClientSession) -> None:
    async with http.ws_connect(PATH, origin=f"http://{edge.address}") as ws:
        assert (await Talk(ws).ask(type="ping"))["type"] == "result"


async def test_a_plain_request_is_told_to_upgrade(http: aiohttp.ClientSession) -> None:
    async with http.get(PATH) as response:
        assert (response.status, response.headers["Upgrade"]) == (426, "websocket")
        assert (await response.json(content_type=None))["reason"] == "UPGRADE_REQUIRED"


async def figure(edge: Edge, name: str) -> float:
    async with aiohttp.request("GET", f"http://{edge.address}/metrics") as response:
        lines = (await response.text()).splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith(name + " "))


class SlowClient:
    """A WebSocket client by hand, on a connection with small buffers: it reads when it is told to."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def connect(cls, edge: Edge) -> SlowClient:
        reader, writer = await connect_slowly(edge)
        key = base64.b64encode(os.urandom(16)).decode()
        head = f"GET {PATH} HTTP/1.1\r\nHost: e\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        writer.write(f"{head}Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n".encode())
        await reader.readuntil(b"\r\n\r\n")
        return cls(reader, writer)

    def ask(self, **request: object) -> None:
        payload = json.dumps(request).encode()
        assert len(payload) < 126
        self._writer.write(bytes((0x81, 0x80 | len(payload))) + b"\0\0\0\0" + payload)  # a mask that changes nothing

    async def hear(self) -> dict[str, Any]:
        while True:
            opcode, length = await self._reader.readexactly(2)
            if length >= 126:
                length = int.from_bytes(await self._reader.readexactly(2 if length == 126 else 8))
            payload = await self._reader.readexactly(length)
            if opcode == 0x81:
                heard: dict[str, Any] = json.loads(payload)
                return heard

    def close(self) -> None:
        self._writer.close()


async def test_a_client_that_stalls_is_told_to_watch_again_and_misses_nothing(
    core: ScriptedCore, start_edge: StartEdge
) -> None:
    runs, deltas, size = ("run_1", "run_2"), 20_000, 400
    last = HEAD + deltas + 3
    for run_id in runs:
        core.append(
            *beginning(),
            *(delta(HEAD + n, "x" * size) for n in range(1, deltas + 1)),
            *ending(last - 2),
            run_id=run_id,
        )
    edge = await start_edge(stall=0.1)
    client = await SlowClient.connect(edge)
    for run_id in runs:
        client.ask(type="watch", run_id=run_id, id=run_id)
    async with asyncio.timeout(20):
        while await figure(edge, "penstock_edge_dropped_buffers_total") < 1 or await figure(
            edge, "penstock_edge_watches"
        ):
            pass  # the client does not read: its kernel buffers fill, then the edge's, which are given up
    held_back = sum(core.sent.values())
    at_bound = (await figure(edge, "penstock_edge_bytes_sent_total"), core.sent.copy())

    seen: dict[str, list[int]] = {run_id: [] for run_id in runs}
    rewatched = 0
    async with asyncio.timeout(60):
        while any(events[-1:] != [last] for events in seen.values()):
            said = await client.hear()
            match said["type"]:
                case "result":
                    pass
                case "rewatch":
                    rewatched += 1
                    assert said["after"] == (seen[said["run_id"]] or [0])[-1], "the cursor is what was written"
                    client.ask(type="watch", run_id=said["run_id"], after=said["after"])
                case _:
                    seen[said["run_id"]].append(said["seq"])
    client.close()

    assert rewatched >= 1
    assert held_back < len(runs) * deltas * size * 0.4, f"the edge swallowed what nobody read: {at_bound}"
    assert seen == {run_id: list(range(1, last + 1)) for run_id in runs}


async def test_a_slow_socket_holds_no_more_than_its_bound(core: ScriptedCore, start_edge: StartEdge) -> None:
    bound, watches, part = 1024, 8, 64 << 10
    for number in range(watches):
        core.append(*beginning(), *(delta(HEAD + n, "x" * 400) for n in range(1, 5_001)), run_id=f"run_{number}")
    edge = await start_edge(stall=60, watch_buffer=bound, socket_watches=watches)
    client = await SlowClient.connect(edge)
    for number in range(watches):
        client.ask(type="watch", run_id=f"run_{number}")
        while (await client.hear())["type"] != "result":
            pass
    written, unchanged = 0.0, 0
    async with asyncio.timeout(20):
        while unchanged < 50:  # all of them were stopped at their bound, and nothing moves any more
            overflows = await figure(edge, "penstock_edge_watch_overflows_total")
            before, written = written, await figure(edge, "penstock_edge_events_sent_total")
            is_still = overflows >= watches and before == written and not await figure(edge, "penstock_edge_watches")
            unchanged = unchanged + 1 if is_still else 0
    waiting = [held._size for held in gc.get_objects() if isinstance(held, Watch)]
    in_hand = [len(held.events) for held in gc.get_objects() if isinstance(held, WatchBatch)]
    client.close()

    assert len(waiting) == watches
    assert 0 < sum(waiting) <= watches * (bound + part)
    assert sum(in_hand) <= part + bound, (
        "one batch is being written, and the others were left where they can be dropped"
    )
