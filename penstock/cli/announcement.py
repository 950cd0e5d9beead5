"""What `penstock up` tells once everything serves: a banner for people, a file for programs."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from core_service.config import CoreSettings
from penstock.cli.listeners import reachable
from penstock.cli.supervisor import Ready

DEFAULT_CORE = "127.0.0.1:50051"

BANNER = """
  Penstock is up.

  HTTP    {base_url}
  gRPC    {grpc_address}
  Data    {store}

  Try it:

    curl -N {base_url}/v1/runs -H 'Accept: text/event-stream' -H 'Content-Type: application/json' \\
      -d '{{"agent_id": "{agent}", "input": "Hello from Penstock"}}'

    penstock run{core_flag} {agent} "Hello from Penstock"

  Ctrl-C stops everything. Runs are kept, and go on after the next start.
"""


def banner(ready: Mapping[str, Ready], core: CoreSettings) -> str:
    """The text that greets people, with addresses that they can use."""
    address = reachable(ready["core"].address)
    return BANNER.format(
        base_url=base_url(ready),
        grpc_address=address,
        store=_store(core),
        agent=_agent_to_try(ready["worker"]),
        core_flag="" if address == DEFAULT_CORE else f" --core {address}",
    )


def base_url(ready: Mapping[str, Ready]) -> str:
    """Where the edge is reached from this machine."""
    return f"http://{reachable(ready['edge'].address)}"


def write_ready_file(path: Path, ready: Mapping[str, Ready]) -> None:
    """Writes the addresses and process ids; a reader sees the old file or the new one, never half of it."""
    content = {
        "base_url": base_url(ready),
        "grpc_address": reachable(ready["core"].address),
        "pids": {"up": os.getpid(), **{name: program.pid for name, program in ready.items()}},
    }
    half = path.with_name(path.name + ".half")
    half.write_text(json.dumps(content) + "\n", encoding="utf-8")
    half.replace(path)


def _agent_to_try(worker: Ready) -> str:
    served = worker.record.get("agents")
    agents = [str(agent) for agent in served] if isinstance(served, list) else []
    return "echo" if "echo" in agents else next(iter(agents), "AGENT")


def _store(core: CoreSettings) -> str:
    if not core.database_url:
        return str(core.data.resolve())
    url = urlsplit(core.database_url)
    return f"{url.scheme}://{url.hostname or ''}{url.path}"  # without the password
