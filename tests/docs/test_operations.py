"""docs/operations.md, held against the code and a running Penstock: its tables are complete, its backups serve."""

from __future__ import annotations

import ast
import json
import re
import shutil
import sqlite3
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import grpc
import pytest
from google.rpc import code_pb2

import edge.errors
import edge.middleware
from core_service.rpc.errors import CODES
from penstock.grpc_options import CHANNEL_OPTIONS, SERVER_OPTIONS
from tests.cli.up import BOUND, PENSTOCK, ROOT, Up, environment, penstock
from tests.docs.blocks import blocks, shell
from tests.processes.alone import Alone

PAGE = ROOT / "docs" / "operations.md"
FOR_WORKERS = {"OUTPUT_GAP", "WORKER_REPLACED", "WORKER_PROTOCOL"}
"""Refusals of the worker's stream, which no edge ever sees."""


def table(*columns: str) -> list[tuple[str, ...]]:
    """The rows of the table that begins with these columns: those columns, without backticks."""
    head = "".join(f"| {column} " for column in columns)
    _, _, rest = PAGE.read_text(encoding="utf-8").partition(f"\n{head}")
    assert rest, f"no table begins with {head}"
    rows = rest.partition("\n\n")[0].splitlines()[2:]
    return [tuple(cell.strip().replace("`", "") for cell in row.split("|")[1 : len(columns) + 1]) for row in rows]


# ── metrics ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def exposed(url: str) -> list[tuple[str, ...]]:
    """Name and type of each of our metrics; those that prometheus_client adds to tell since when are not ours."""
    with urllib.request.urlopen(url, timeout=BOUND) as response:
        kinds = dict(re.findall(r"^# TYPE (penstock_\w+) (\w+)$", response.read().decode(), re.MULTILINE))
    bases = {name.removesuffix("_total") for name in kinds}
    return sorted(item for item in kinds.items() if item[0].removesuffix("_created") not in bases - {item[0]})


def test_the_table_of_the_cores_metrics_is_complete(penstock_up: Up) -> None:
    found = re.search(r"metrics ready address=(\S+)", str(penstock_up.log))
    assert found is not None

    assert sorted(table("core", "type")) == exposed(f"http://{found[1]}/metrics")


def test_the_table_of_the_edges_metrics_is_complete(penstock_up: Up) -> None:
    assert sorted(table("edge", "type")) == exposed(f"{penstock_up.base_url}/metrics")


# ── refusals ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_table_of_refusals_is_that_of_core_and_edge() -> None:
    refusals = {
        (kind.reason, code_pb2.Code.Name(code), str(edge.errors.refuse(code, kind.reason, "", {}).status))
        for kind, code in CODES.items()
    }
    written = table("reason", "gRPC code", "HTTP")

    assert len(written) == len(set(written))
    assert {row for row in written if row[0] not in FOR_WORKERS} == {
        row for row in refusals if row[0] not in FOR_WORKERS
    }
    assert {row for row in written if row[0] in FOR_WORKERS} == {
        (reason, code, "–") for reason, code, _ in refusals if reason in FOR_WORKERS
    }


def refusals_in(source: Path) -> Iterator[tuple[str, str]]:
    """Reason and status of each `Refusal(status, "REASON", …)` in a file."""
    for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
        match node:
            case ast.Call(func=ast.Name("Refusal"), args=[ast.Constant(int(status)), ast.Constant(str(reason)), *_]):
                yield reason, str(status)


def test_the_table_of_the_edges_own_refusals_is_complete() -> None:
    raised = {refusal for source in (ROOT / "edge").rglob("*.py") for refusal in refusals_in(source)}
    of_http = {(reason, str(status)) for status, reason in edge.middleware._HTTP_REASONS.items()}
    of_grpc = {(reason, str(edge.errors.STATUS_BY_CODE[code])) for code, (reason, _) in edge.errors._TRANSPORT.items()}
    by_name = {("METHOD_NOT_ALLOWED", "405")}  # of aiohttp, told by its name

    assert set(table("reason", "HTTP")) == raised | of_http | of_grpc | by_name


# ── gRPC settings ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_table_of_grpc_settings_is_complete() -> None:
    server, channel = set(SERVER_OPTIONS), set(CHANNEL_OPTIONS)

    def side(option: tuple[str, int]) -> str:
        return "both" if option in server & channel else "server" if option in server else "channel"

    assert sorted(table("option", "value", "side")) == sorted(
        (name, str(value), side((name, value))) for name, value in server | channel
    )


def test_grpc_itself_knows_the_codes_that_the_page_names() -> None:
    assert {code for _, code, _ in table("reason", "gRPC code", "HTTP")} <= {code.name for code in grpc.StatusCode}


# ── backup ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.skipif(not shutil.which("sqlite3"), reason="sqlite3 is not installed here")
def test_a_core_serves_the_backups_made_while_another_one_wrote(penstock_up: Up, tmp_path: Path) -> None:
    penstock_up.command("run", "echo", "before the backup")
    before = runs(penstock_up.core, penstock_up.directory)
    [backup] = [block for block in blocks(PAGE) if block.text.startswith("sqlite3 ")]
    writing = subprocess.Popen(
        [*PENSTOCK, "run", "count", "--input", '{"deltas": 100000, "rate": 100}'],
        env=environment(PENSTOCK_CORE=penstock_up.core),
        stdout=subprocess.PIPE,
        text=True,
    )
    assert writing.stdout is not None
    assert writing.stdout.read(2) == "1 "

    shell(backup.text, penstock_up)

    writing.terminate()
    writing.communicate(timeout=BOUND)
    copies = re.findall(r"\w+\.db(?=['\"]+$)", backup.text, re.MULTILINE)
    assert len(copies) == len(backup.text.splitlines())
    for copy in copies:
        assert before <= restored(penstock_up.directory / copy, tmp_path / copy)


def restored(copy: Path, folder: Path) -> set[str]:
    """The runs that a core tells of that starts on a copy."""
    with closing(sqlite3.connect(copy)) as database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    (folder / ".penstock").mkdir(parents=True)
    shutil.copy(copy, folder / ".penstock" / "penstock.db")
    with Alone(folder) as alone:
        return runs(alone.core(lease=10).address, folder)


def runs(core: str, folder: Path) -> set[str]:
    listed = penstock("runs", "list", "--limit=1000", "--json", cwd=folder, PENSTOCK_CORE=core)
    assert listed.returncode == 0, listed.stderr
    return {json.loads(line)["id"] for line in listed.stdout.splitlines()}
