"""The two requests of the load client, as bytes that are made once."""

from __future__ import annotations

import json
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Edge:
    """Where the edge listens."""

    host: str
    port: int

    @classmethod
    def at(cls, address: str) -> Edge:
        """From `host:port`."""
        host, _, port = address.rpartition(":")
        return cls(host, int(port))

    @property
    def url(self) -> str:
        """Without a slash at its end."""
        return f"http://{self.host}:{self.port}"

    def create(self, agent: str, run_input: object) -> bytes:
        """Create a run and stream its events."""
        body = json.dumps({"agent_id": agent, "input": run_input}).encode()
        headers = f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        return self._request("POST /v1/runs", headers, body)

    def watch(self, run_id: str) -> bytes:
        """Stream the events of a run that exists, from the first."""
        return self._request(f"GET /v1/runs/{run_id}/events", "", b"")

    def _request(self, line: str, headers: str, body: bytes) -> bytes:
        head = f"{line} HTTP/1.1\r\nHost: {self.host}:{self.port}\r\nAccept: text/event-stream\r\n{headers}\r\n"
        return head.encode() + body
