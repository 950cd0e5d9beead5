"""What a client may ask of a socket, one method for each `type`.

Owns which calls of the core each of them needs, on behalf of whoever opened the socket. What they return goes back as
the result.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import ExitStack

import msgspec

from edge.core import CoreClient
from edge.errors import Refusal
from edge.json_body import INT32, Members, read, refused, take
from edge.protocols.websocket.frames import Request
from edge.protocols.websocket.socket import Socket
from edge.run_requests import read_answers, read_cancel, read_create, read_steer
from edge.run_states import ENDED
from edge.sse import first_answer
from penstock.flat_json import flat
from penstock.v1.run_service_pb2 import CreateRunRequest, GetRunRequest

Result = dict[str, object]
_TRUE, _NONE, _ZERO = msgspec.Raw(b"true"), msgspec.Raw(b'""'), msgspec.Raw(b"0")


class Requests:
    """The requests of one socket, carried out one after the other."""

    def __init__(self, core: CoreClient, socket: Socket) -> None:
        self._core = core
        self._socket = socket

    async def carry_out(self, request: Request, members: Members) -> Result:
        """Do what is asked. Raises Refusal or AioRpcError."""
        method = TYPES.get(request.type)
        if method is None:
            message = f"There is no request of the type {request.type!r}; there are: {', '.join(TYPES)}."
            raise Refusal(400, "UNKNOWN_TYPE", message, field="type")
        return await method(self, request, dict(members))

    async def create(self, request: Request, members: dict[str, msgspec.Raw]) -> Result:
        """Create a run, and watch it from its first event on unless `watch` is false."""
        wants_watch = read(members.pop("watch", _TRUE), "watch", bool, "true or false")
        create = read_create(members, request.key)
        if wants_watch:
            self._socket.check_room()
            return await self._create_watched(create)
        run = (await self._core.call(self._core.runs.CreateRun, create)).run
        return {"run": flat(run), "watching": run.id in self._socket}

    async def watch(self, _request: Request, members: dict[str, msgspec.Raw]) -> Result:
        """Watch a run behind a cursor. The shared watch stream knows no callers: a call asks whether this one may."""
        run_id, rest = _run_id(members)
        after = _cursor(take(rest, "after").get("after", _ZERO))
        if run_id in self._socket:
            raise Refusal(409, "ALREADY_WATCHED", "This socket watches that run already.", run_id=run_id)
        self._socket.check_room()
        run = (await self._core.call(self._core.runs.GetRun, GetRunRequest(run_id=run_id))).run
        result: Result = {"run": flat(run), "after": after}
        if run.state in ENDED and after == run.last_seq:
            return result | {"watching": False}  # there is nothing more to come
        with ExitStack() as unless_kept:
            watch = unless_kept.enter_context(self._core.open_watch(run_id, after=after))
            await first_answer(watch)
            unless_kept.pop_all()
        self._socket.watch(watch, after)
        return result | {"watching": True}

    async def unwatch(self, _request: Request, members: dict[str, msgspec.Raw]) -> Result:
        """Watch a run no more."""
        run_id, rest = _run_id(members)
        take(rest)
        return {"run_id": run_id, "after": self._socket.unwatch(run_id)}

    async def steer(self, request: Request, members: dict[str, msgspec.Raw]) -> Result:
        """Say something to a run that is under way."""
        run_id, rest = _run_id(members)
        answer = await self._core.call(self._core.runs.SteerRun, read_steer(rest, request.key, run_id))
        return {"run": flat(answer.run), "message": flat(answer.message)}

    async def answer(self, request: Request, members: dict[str, msgspec.Raw]) -> Result:
        """Answer the questions of a run that waits."""
        run_id, rest = _run_id(members)
        answer = await self._core.call(self._core.runs.SubmitInput, read_answers(rest, request.key, run_id))
        return {"run": flat(answer.run)}

    async def cancel(self, request: Request, members: dict[str, msgspec.Raw]) -> Result:
        """Ask for the end of a run."""
        run_id, rest = _run_id(members)
        answer = await self._core.call(self._core.runs.CancelRun, read_cancel(rest, request.key, run_id))
        return {"run": flat(answer.run)}

    async def ping(self, _request: Request, members: dict[str, msgspec.Raw]) -> Result:
        """Answer, and nothing else: browsers cannot send pings of the protocol's own."""
        take(members)
        return {}

    async def _create_watched(self, create: CreateRunRequest) -> Result:
        with ExitStack() as unless_kept:
            watch = unless_kept.enter_context(self._core.watch_new_run(create))
            run = await watch.created()
            if run.id not in self._socket:  # else this create was said before
                unless_kept.pop_all()
                self._socket.watch(watch, 0)
        return {"run": flat(run), "watching": True}


Method = Callable[[Requests, Request, dict[str, msgspec.Raw]], Awaitable[Result]]

TYPES: Mapping[str, Method] = {
    "create": Requests.create,
    "watch": Requests.watch,
    "unwatch": Requests.unwatch,
    "steer": Requests.steer,
    "answer": Requests.answer,
    "cancel": Requests.cancel,
    "ping": Requests.ping,
}


def _run_id(members: Mapping[str, msgspec.Raw]) -> tuple[str, Members]:
    run_id = read(members.get("run_id", _NONE), "run_id", str, "a string")
    if not run_id:
        raise refused("run_id", "run_id is missing: which run?")
    return run_id, {key: raw for key, raw in members.items() if key != "run_id"}


def _cursor(raw: msgspec.Raw) -> int:
    seq = read(raw, "after", int, "a whole number")
    if seq < 0 or seq not in INT32:
        raise Refusal(400, "INVALID_CURSOR", "after must be the seq of an event.", field="after")
    return seq
