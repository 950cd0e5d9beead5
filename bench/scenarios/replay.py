"""One long run read back from the log, by one reader: over SSE, and over gRPC as raw bytes; as written, and folded."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

import grpc

from bench.events import WrongStream
from bench.measurement import Measurement
from bench.stage import FOLD_AT_ONCE, FOLD_LATER, Stage
from bench.stream import read_run
from bench.system import System
from bench.verification import verify
from penstock.grpc_options import CHANNEL_OPTIONS
from penstock.v1.run_service_pb2 import ListRunsRequest, ListRunsResponse, WatchRunRequest, WatchRunResponse

SERVICE = "/penstock.v1.RunService"


async def replay(stage: Stage) -> Measurement:
    """Measure it."""
    deltas = stage.sizes.replay_deltas
    async with stage.system(FOLD_LATER) as system:
        await read_run(system.edge, system.edge.create("count", {"deltas": deltas}))
        as_written = await _readings(system, stage)
    async with stage.system(FOLD_AT_ONCE) as system:
        await stage.folded()
        as_folded = await _readings(system, stage)
    return Measurement(
        figures={
            "sse_per_second": as_written["sse"],
            "grpc_per_second": as_written["grpc"],
            "sse_folded_per_second": as_folded["sse"],
            "grpc_folded_per_second": as_folded["grpc"],
        },
        detail={"deltas": deltas},
    )


async def _readings(system: System, stage: Stage) -> dict[str, float]:
    """Read again and again by both protocols, and return events per second."""
    async with grpc.aio.insecure_channel(system.core, options=CHANNEL_OPTIONS) as channel:
        run_id = await _only_run(channel)
        events = await _verified(system, run_id, deltas=stage.sizes.replay_deltas)
        over_grpc = _GrpcReader(channel, run_id)
        _expect(await over_grpc.verified(), events)

        async def over_sse() -> None:
            stream = await read_run(system.edge, system.edge.watch(run_id))
            _expect(stream.events.last_seq, events)

        return {
            "sse": events * await _repeated(over_sse, stage.sizes.replay_seconds),
            "grpc": events * await _repeated(over_grpc.read, stage.sizes.replay_seconds),
        }


async def _repeated(read: Callable[[], Awaitable[None]], seconds: float) -> float:
    """Return readings per second."""
    begin, count = time.monotonic(), 0
    while (elapsed := time.monotonic() - begin) < seconds:
        await read()
        count += 1
    return count / elapsed


async def _only_run(channel: grpc.aio.Channel) -> str:
    list_runs = channel.unary_unary(
        f"{SERVICE}/ListRuns", ListRunsRequest.SerializeToString, ListRunsResponse.FromString
    )
    response: ListRunsResponse = await list_runs(ListRunsRequest(page_size=1))
    return response.runs[0].id


async def _verified(system: System, run_id: str, *, deltas: int) -> int:
    kept: list[bytes] = []
    await read_run(system.edge, system.edge.watch(run_id), kept.append)
    return verify(b"".join(kept), deltas=deltas)


class _GrpcReader:
    """Reads the run over WatchRun without decoding it; that it is the run is known by its length in bytes."""

    def __init__(self, channel: grpc.aio.Channel, run_id: str) -> None:
        self._watch: grpc.aio.UnaryStreamMultiCallable[WatchRunRequest, bytes] = channel.unary_stream(
            f"{SERVICE}/WatchRun", WatchRunRequest.SerializeToString
        )
        self._request = WatchRunRequest(run_id=run_id)
        self._size = 0

    async def verified(self) -> int:
        """Read once and decode; return the number of events."""
        messages = [message async for message in self._watch(self._request)]
        self._size = sum(map(len, messages))
        seqs = [event.seq for message in messages for event in WatchRunResponse.FromString(message).events]
        if seqs != list(range(1, len(seqs) + 1)):
            raise WrongStream("WatchRun: the seqs are not 1, 2, 3 …")
        return len(seqs)

    async def read(self) -> None:
        """Read once."""
        size = 0
        async for message in self._watch(self._request):
            size += len(message)
        _expect(size, self._size)


def _expect(found: int, expected: int) -> None:
    if found != expected:
        raise WrongStream(f"a replay gave {found}, another {expected}")
