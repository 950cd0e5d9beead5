"""The log, as a process of its own writes it."""

from __future__ import annotations

import json
import subprocess
import sys

SCRIPT = """
import logging, sys, warnings
import structlog
from penstock import logs

logs.configure("core", level=sys.argv[1], json=sys.argv[2] == "json")
log = structlog.get_logger("penstock.test")
with structlog.contextvars.bound_contextvars(run_id="run_1", request_id="req_1"):
    log.info("ready", address="127.0.0.1:1")
    logging.getLogger("grpc").warning("from %s", "grpc")
log.debug("not shown at info")
logging.getLogger("alembic.runtime").info("not shown at info")
try:
    1 / 0
except ZeroDivisionError:
    log.exception("failed", text="two words")
    logging.getLogger("aiohttp.server").exception("failed too")
"""


def log_of(level: str, form: str) -> str:
    done = subprocess.run([sys.executable, "-c", SCRIPT, level, form], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    return done.stderr


def test_json_lines_have_level_time_process_ids_and_traceback() -> None:
    ready, grpc, failed, failed_too = [json.loads(line) for line in log_of("info", "json").splitlines()]

    times = [line.pop("timestamp") for line in (ready, grpc, failed, failed_too)]
    assert times == sorted(times)
    ids = {"run_id": "run_1", "request_id": "req_1"}
    assert ready == {"event": "ready", "level": "info", "process": "core", "address": "127.0.0.1:1", **ids}
    assert grpc == {"event": "from grpc", "level": "warning", "process": "core", "logger": "grpc", **ids}
    assert failed.pop("exception").endswith("ZeroDivisionError: division by zero")
    assert failed == {"event": "failed", "level": "error", "process": "core", "text": "two words"}
    assert failed_too.pop("exception").startswith("Traceback")
    assert failed_too == {"event": "failed too", "level": "error", "process": "core", "logger": "aiohttp.server"}


def test_without_a_terminal_the_text_has_no_colours_and_one_line_per_event() -> None:
    first, second, *rest = log_of("info", "text").splitlines()

    assert "[info     ] ready address=127.0.0.1:1" in first
    assert "run_id=run_1" in first
    assert "[warning  ] from grpc" in second
    failed, failed_too = [line for line in rest if "[error" in line]
    assert failed.endswith("failed text='two words' process=core")
    assert failed_too.endswith("failed too [aiohttp.server] process=core")
    assert rest.count("ZeroDivisionError: division by zero") == 2
    assert "\x1b" not in "".join(rest)


def test_the_level_holds_for_libraries_as_well() -> None:
    assert [json.loads(line)["event"] for line in log_of("error", "json").splitlines()] == ["failed", "failed too"]
    assert "not shown at info" in log_of("debug", "json")
