"""Logs that can be followed: one request from the edge into the core, and on to its run."""

from __future__ import annotations

from pathlib import Path

import aiohttp
import pytest

from tests.cli.up import penstock_up
from tests.processes.sse import PATIENCE


@pytest.mark.parametrize("accept", ["application/json", "text/event-stream"])
async def test_the_core_logs_the_request_id_of_the_edge_beside_the_run(
    tmp_path: Path, session: aiohttp.ClientSession, accept: str
) -> None:
    with penstock_up(tmp_path, "--log-level=debug") as up:
        headers = {"X-Request-Id": "follow-me", "Accept": accept}
        body = {"agent_id": "echo", "input": "hello"}
        async with session.post(f"{up.base_url}/v1/runs", json=body, headers=headers, timeout=PATIENCE) as response:
            run_id = response.headers["X-Run-Id"]
        up.log.shows(rf"^core (?=.*run created)(?=.*request_id=follow-me)(?=.*run_id={run_id})")
