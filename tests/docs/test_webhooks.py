"""docs/webhooks.md, done as it says: its settings, its receiver, its run."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from core_service.config import CoreSettings
from core_service.domain.webhooks import GROWTH, MAX_URL, SECRET_BYTES
from penstock.cli.flags import as_text, default_of
from tests.cli.up import BOUND, PENSTOCK, ROOT, environment, up_process
from tests.docs.blocks import blocks, shell

PAGE = ROOT / "docs" / "webhooks.md"
PORT = "9000"
"""Where the page says that the receiver is."""


def the(start: str) -> str:
    """The one block that begins so."""
    [block] = [block for block in blocks(PAGE) if block.text.startswith(start)]
    return block.text


def exported(block: str) -> dict[str, str]:
    """The variables that a block sets, as a shell understands it."""
    lines = "\n".join(line for line in block.splitlines() if line.startswith("export "))
    done = subprocess.run(["bash", "-euc", f"{lines}\nenv"], capture_output=True, text=True, timeout=BOUND, check=True)
    return dict(re.findall(r"^(PENSTOCK_WEBHOOK_\w+)=(.*)$", done.stdout, re.MULTILINE))


@contextmanager
def receiver(directory: Path, port: str, **variables: str) -> Iterator[subprocess.Popen[str]]:
    """The page's receiver, listening."""
    (directory / "receiver.py").write_text(the("import os").replace(PORT, port), encoding="utf-8")
    process = subprocess.Popen(
        [sys.executable, "receiver.py"],
        cwd=directory,
        env=environment(**variables),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        yield process
    finally:
        process.terminate()
        process.communicate(timeout=BOUND)


@pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed here")
def test_the_receiver_prints_what_the_page_says(tmp_path: Path) -> None:
    variables = exported(the("export "))
    assert len(variables) == 3
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = str(unused.getsockname()[1])
    command = [*PENSTOCK, "up", "--port=0", "--grpc-port=0", "--metrics-port=0", "--ready-file=ready.json"]
    with receiver(tmp_path, port, **variables) as process, up_process(command, tmp_path, **variables) as up:
        up.wait_ready()
        shell(the("curl ").replace(PORT, port), up)
        assert process.stdout is not None
        printed = process.stdout.readline().strip()

    assert printed == "run.ended echo succeeded completed"
    assert f"prints `{printed}`" in PAGE.read_text(encoding="utf-8")


def test_the_numbers_of_the_page_are_those_of_the_settings() -> None:
    text = " ".join(PAGE.read_text(encoding="utf-8").split())
    fields = CoreSettings.model_fields
    shown = {"webhook_timeout": "15 s", "webhook_backoff": "5 s", "webhook_max_backoff": "12 h"}
    shown |= {name: as_text(default_of(fields[name])) for name in ("webhook_attempts", "webhook_concurrency")}

    assert [name for name, value in shown.items() if f"`{name}` ({value})" not in text] == []
    defaults = {
        name: default_of(fields[name]) for name in ("webhook_timeout", "webhook_backoff", "webhook_max_backoff")
    }
    assert defaults == {"webhook_timeout": 15.0, "webhook_backoff": 5.0, "webhook_max_backoff": 12 * 3600.0}
    assert f"{MAX_URL:,} characters" in text
    assert f"{SECRET_BYTES.start} to {SECRET_BYTES.stop - 1} random bytes" in text
    assert GROWTH == 4
    assert "four times the pause before" in text
    assert set(re.findall(r"`(webhook_\w+)`", text)) <= fields.keys()
