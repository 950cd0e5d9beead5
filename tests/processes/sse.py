"""An SSE client for tests: frames as they come, and a log that holds them against the promises."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import aiohttp

PATIENCE = aiohttp.ClientTimeout(total=60)


@dataclass(frozen=True)
class Frame:
    """One frame of the native stream."""

    id: int
    event: str
    data: dict[str, Any]


async def frames(response: aiohttp.ClientResponse) -> AsyncIterator[Frame]:
    """Yield frames until the stream ends. Comments and retry lines are passed over."""
    fields: dict[str, str] = {}
    async for raw in response.content:
        line = raw.decode().rstrip("\n")
        if line:
            name, _, value = line.partition(": ")
            if name:
                fields[name] = value
        elif "data" in fields:
            yield Frame(int(fields["id"]), fields["event"], json.loads(fields["data"]))
            fields = {}


@dataclass
class Seen:
    """What a client has seen of one run, over all its connections."""

    run_id: str = ""
    frames: list[Frame] = field(default_factory=list)

    @property
    def last(self) -> int:
        return self.frames[-1].id if self.frames else 0

    @property
    def text(self) -> str:
        return "".join(
            frame.data["text"] for frame in self.frames if frame.event == "part.delta" and frame.data["kind"] == "text"
        )

    @property
    def end(self) -> dict[str, Any]:
        return self.frames[-1].data

    @property
    def attempts(self) -> list[int]:
        return [frame.data["attempt"] for frame in self.frames if frame.event == "run.started"]

    def check(self) -> None:
        """Ids are 1…n, and exactly the last frame is the end."""
        assert [frame.id for frame in self.frames] == list(range(1, len(self.frames) + 1))
        assert [frame.id for frame in self.frames if frame.event == "run.ended"] == [self.last]


class Client:
    """Talks to one edge."""

    def __init__(self, session: aiohttp.ClientSession, base_url: str) -> None:
        self._session = session
        self.base_url = base_url

    async def create(self, agent: str, text: object, **more: object) -> dict[str, Any]:
        body = {"agent_id": agent, "input": text, **more}
        async with self._session.post(f"{self.base_url}/v1/runs", json=body, timeout=PATIENCE) as response:
            run: dict[str, Any] = await response.json()
            assert response.status == 202, run
            return run

    async def get(self, run_id: str) -> dict[str, Any]:
        async with self._session.get(f"{self.base_url}/v1/runs/{run_id}", timeout=PATIENCE) as response:
            run: dict[str, Any] = await response.json()
            assert response.status == 200, run
            return run

    async def open_inputs(self, run_id: str) -> dict[str, str]:
        """The ids of a run's open questions, by what they ask."""
        url = f"{self.base_url}/v1/inputs?run_id={run_id}"
        async with self._session.get(url, timeout=PATIENCE) as response:
            found: dict[str, Any] = await response.json()
            assert response.status == 200, found
            return {one["request"]["message"]: one["request"]["id"] for one in found["inputs"]}

    async def answer(self, run_id: str, input_id: str, text: str) -> None:
        """Answer one question."""
        body = {"answers": [{"input_id": input_id, "answer": {"answer": text}}]}
        url = f"{self.base_url}/v1/runs/{run_id}/inputs"
        async with self._session.post(url, json=body, timeout=PATIENCE) as response:
            assert response.status == 200, await response.text()

    async def watch(self, seen: Seen, *, up_to: int | None = None) -> Seen:
        """Add what comes behind `seen`, to the end of the run or until `up_to` more frames have come; then cut."""
        headers = {"Accept": "text/event-stream"}
        if seen.last:
            headers["Last-Event-ID"] = str(seen.last)
        url = f"{self.base_url}/v1/runs/{seen.run_id}/events"
        async with self._session.get(url, headers=headers, timeout=PATIENCE) as response:
            assert response.status == 200, await response.text()
            count = 0
            async for frame in frames(response):
                seen.frames.append(frame)
                count += 1
                if count == up_to:
                    break
        return seen

    async def replay(self, run_id: str) -> Seen:
        """Read the whole log of an ended run."""
        return await self.watch(Seen(run_id))
