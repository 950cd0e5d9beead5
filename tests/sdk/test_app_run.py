"""`app.run()`: a file that starts everything by itself."""

import subprocess
import sys
from pathlib import Path

from penstock import Client
from tests.cli.up import BOUND, Log, Up, environment

FILE = """
from collections.abc import AsyncIterator

import penstock

app = penstock.App("support")


@app.agent("shout", description="Repeats what you say, louder.")
async def shout(run: penstock.Run) -> AsyncIterator[str]:
    yield run.text.upper()


if __name__ == "__main__":
    app.run(port=0, grpc_port=0, metrics_port=0, ready_file="ready.json")
"""


async def test_a_file_that_calls_run_serves_its_agents(tmp_path: Path) -> None:
    (tmp_path / "support.py").write_text(FILE, encoding="utf-8")
    process = subprocess.Popen(
        [sys.executable, "support.py"],
        cwd=tmp_path,
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    up = Up(process, tmp_path, Log(process.stderr))
    try:
        up.wait_ready()
        async with Client(up.core) as client:
            assert await client.text("shout", "hear me") == "HEAR ME"
    finally:
        process.terminate()
        assert process.wait(BOUND) == 0, str(up.log)
