"""The commands that talk to a core, as processes of their own, against a real `penstock up`."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import signal
import subprocess
import urllib.request
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import psutil
import pytest

from tests.cli.up import BOUND, PENSTOCK, Up, environment, penstock, penstock_up

AGENTS = str(Path(__file__).with_name("agents.py"))


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    with penstock_up(tmp_path_factory.mktemp("up"), AGENTS) as running:
        yield running


def objects(text: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in text.splitlines()]


def newest_run(up: Up) -> dict[str, object]:
    return objects(up.command("runs", "list", "--limit=1", "--json").stdout)[0]


def read(process: subprocess.Popen[str], text: str) -> None:
    """Reads the answer up to `text`, which must come while the run goes on."""
    assert process.stdout is not None
    assert process.stdout.read(len(text)) == text


def test_run_prints_the_answer_and_nothing_else(up: Up) -> None:
    done = up.command("run", "echo", "one two")

    assert (done.returncode, done.stdout, done.stderr) == (0, "one two \n", "")


def test_run_reads_standard_input(up: Up) -> None:
    assert up.command("run", "echo", "-", stdin="from a\npipe\n").stdout == "from a pipe \n"


def test_run_takes_a_json_value_and_prints_the_result(up: Up) -> None:
    done = up.command("run", "double", "--input", '{"number": 21}')

    assert (done.returncode, done.stdout) == (0, '{"doubled":42}\n')


def test_run_goes_on_with_a_thread(up: Up) -> None:
    for text in ("one", "two"):
        up.command("run", "echo", text, "--thread", "thr_cli")

    runs = objects(up.command("runs", "list", "--thread", "thr_cli", "--json").stdout)
    assert [run["state"] for run in runs] == ["succeeded", "succeeded"]


def test_run_as_json_prints_every_event(up: Up) -> None:
    done = up.command("run", "echo", "one two", "--json")

    events = objects(done.stdout)
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    assert (events[0]["type"], events[-1]["type"]) == ("run.queued", "run.ended")
    assert "".join(str(event["text"]) for event in events if event["type"] == "part.delta") == "one two "


def test_a_failed_run_has_exit_code_1_and_says_why(up: Up) -> None:
    done = up.command("run", "fail", "x")

    assert (done.returncode, done.stdout) == (1, "So far\n")
    assert done.stderr == "failed: agent_error: It broke.\n"


def test_ctrl_c_cancels_the_run_and_has_exit_code_130(up: Up) -> None:
    process = up.start("run", "endless", "x")
    read(process, "working")

    process.send_signal(signal.SIGINT)
    rest, told = process.communicate(timeout=BOUND)

    assert (process.returncode, rest, told) == (130, "\n", "cancelled: user\n")
    run = newest_run(up)
    assert (run["agent_id"], run["state"], run["reason"]) == ("endless", "cancelled", "user")


async def test_ctrl_c_before_the_first_event_cancels_the_run_that_is_being_made(up: Up) -> None:
    os.kill(up.pids["core"], signal.SIGSTOP)  # takes connections, and answers nothing
    try:
        process = up.start("run", "endless", "before anything")
        await is_connected(process, up.core)
        process.send_signal(signal.SIGINT)
    finally:
        os.kill(up.pids["core"], signal.SIGCONT)
    process.communicate(timeout=BOUND)

    assert process.returncode == 130
    run = newest_run(up)
    assert (run["agent_id"], run["state"], run["reason"]) == ("endless", "cancelled", "user")


async def is_connected(process: subprocess.Popen[str], address: str) -> None:
    """Waits until the process has a connection to the address."""
    port, client = int(address.rpartition(":")[2]), psutil.Process(process.pid)
    async with asyncio.timeout(BOUND):
        while port not in [end.raddr.port for end in client.net_connections() if end.status == psutil.CONN_ESTABLISHED]:
            await asyncio.sleep(0.01)


def test_a_second_ctrl_c_does_not_wait_for_the_end(up: Up) -> None:
    process = up.start("run", "stubborn", "x", "--json")
    assert process.stdout is not None
    while '"part.delta"' not in process.stdout.readline():
        pass

    process.send_signal(signal.SIGINT)
    while '"part.delta"' not in process.stdout.readline():  # what it says when it is cancelled
        pass
    process.send_signal(signal.SIGINT)

    process.communicate(timeout=BOUND)
    assert process.returncode == 130
    assert newest_run(up)["state"] == "running"


def test_watch_prints_what_was_said_and_what_follows_until_somebody_cancels(up: Up) -> None:
    first = up.start("run", "endless", "x")
    read(first, "working")
    run_id = str(newest_run(up)["id"])
    watcher = up.start("runs", "watch", run_id)
    read(watcher, "working")

    assert up.command("runs", "cancel", run_id).returncode == 0

    for process in (first, watcher):
        process.communicate(timeout=BOUND)
        assert process.returncode == 130


def test_ctrl_c_at_a_watch_does_not_stop_the_run(up: Up) -> None:
    first = up.start("run", "endless", "x")
    read(first, "working")
    run_id = str(newest_run(up)["id"])
    watcher = up.start("runs", "watch", run_id)
    read(watcher, "working")

    watcher.send_signal(signal.SIGINT)
    watcher.communicate(timeout=BOUND)

    assert watcher.returncode == 130
    assert newest_run(up)["state"] == "running"
    up.command("runs", "cancel", run_id)
    first.communicate(timeout=BOUND)


def test_watch_begins_behind_a_seq(up: Up) -> None:
    events = objects(up.command("run", "echo", "one two", "--json").stdout)
    run_id = str(newest_run(up)["id"])

    watched = up.command("runs", "watch", run_id, "--after", "3", "--json")

    assert objects(watched.stdout) == events[3:]
    assert watched.returncode == 0


def test_watch_behind_the_last_event_still_tells_how_the_run_ended(up: Up) -> None:
    up.command("run", "fail", "x")
    run = newest_run(up)

    watched = up.command("runs", "watch", str(run["id"]), "--after", str(run["last_seq"]))

    assert (watched.returncode, watched.stdout, watched.stderr) == (1, "", "")


def test_show_and_list_agree_with_the_rest_api(up: Up) -> None:
    up.command("run", "echo", "x")
    run = newest_run(up)

    shown = objects(up.command("runs", "show", str(run["id"]), "--json").stdout)
    with urllib.request.urlopen(f"{up.base_url}/v1/runs/{run['id']}?view=full", timeout=BOUND) as response:
        assert shown == [json.load(response)]
    assert shown[0] == {**run, "messages": shown[0]["messages"]}


def test_show_tells_the_facts_of_a_run_and_what_was_said(up: Up) -> None:
    up.command("run", "weather", "Bern")
    run_id = str(newest_run(up)["id"])

    facts, *said = up.command("runs", "show", run_id).stdout.split("\n\n")

    fields = dict(line.split("\t") for line in facts.splitlines())
    assert (fields["id"], fields["state"], fields["agent_id"]) == (run_id, "succeeded", "weather")
    assert said == [
        'ASSISTANT\nI look.\nWeather in Bern {"place":"Bern"}',
        'TOOL\nget_weather succeeded: {"sky":"clear"}',
        "ASSISTANT\nIt is clear.\n",
    ]


def test_list_chooses_by_agent_and_state(up: Up) -> None:
    up.command("run", "fail", "x")
    up.command("run", "echo", "x")

    failed = objects(up.command("runs", "list", "--state", "failed", "--json").stdout)
    echoed = up.command("runs", "list", "--agent", "echo", "--state", "succeeded", "--limit", "1").stdout.splitlines()

    assert {run["agent_id"] for run in failed} == {"fail"}
    assert echoed[0].split("\t")[:4] == ["RUN", "AGENT", "STATE", "REASON"]
    assert [line.split("\t")[1:4] for line in echoed[1:]] == [["echo", "succeeded", "completed"]]


def test_agents_are_listed(up: Up) -> None:
    lines = up.command("agents").stdout.splitlines()

    names = ["double", "echo", "endless", "fail", "refund", "seat", "size", "stubborn", "walk", "weather"]
    assert [line.split("\t")[0] for line in lines] == ["AGENT", *names]
    assert objects(up.command("agents", "--json").stdout)[1]["description"] == "Repeats what you say."


def test_on_a_terminal_rows_are_a_table(up: Up) -> None:
    ours, theirs = pty.openpty()
    command = [*PENSTOCK, "agents"]
    done = subprocess.run(
        command, env=environment(PENSTOCK_CORE=up.core, TERM="dumb", COLUMNS="80"), stdout=theirs, timeout=BOUND
    )
    os.close(theirs)
    with os.fdopen(ours, "rb") as terminal:
        first_line = terminal.readline().decode().split()

    assert done.returncode == 0
    assert first_line == ["AGENT", "ONLINE", "VERSION", "DESCRIPTION"]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["run", "nobody", "x"], "(AGENT_NOT_FOUND)."),
        (["runs", "show", "run_nowhere"], "(RUN_NOT_FOUND)."),
        (["runs", "watch", "run_nowhere"], "(RUN_NOT_FOUND)."),
        (["runs", "cancel", "run_nowhere"], "(RUN_NOT_FOUND)."),
    ],
)
def test_a_refusal_is_told_with_its_reason(up: Up, arguments: list[str], complaint: str) -> None:
    refused = up.command(*arguments)

    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr.startswith("Error: ")
    assert refused.stderr.endswith(f"{complaint}\n")


def test_flags_of_run_say_how_it_is_run(up: Up) -> None:
    flags = ["--when-busy=interrupt", "--timeout=90s", "--queue-timeout=5m", "--priority=7", "--retry=always"]
    flags += ["--max-attempts=4", "--max-steps=9", "--token-budget=1000", "--watched-only"]

    assert up.command("run", "echo", "one", *flags).returncode == 0

    assert newest_run(up)["options"] == {
        "busy_policy": "interrupt",
        "run_timeout": 90.0,
        "queue_timeout": 300.0,
        "priority": 7,
        "retry_policy": "always",
        "max_attempts": 4,
        "max_steps": 9,
        "token_budget": 1000,
        "on_disconnect": "cancel",
    }


def test_a_run_is_ended_by_its_timeout_and_starts_after_its_delay(up: Up) -> None:
    done = up.command("run", "endless", "x", "--timeout=0.2s", "--delay=0.3s")
    run = newest_run(up)

    assert done.returncode == 1
    assert "timeout" in done.stderr
    assert run["reason"] == "timeout"
    began, created = (datetime.fromisoformat(str(run[name])) for name in ("start_time", "create_time"))
    assert began - created > timedelta(seconds=0.2)


@pytest.mark.parametrize(
    "arguments",
    [
        ["run", "echo"],
        ["run", "echo", "x", "--input=1"],
        ["run", "echo", "--input={"],
        ["run", "echo", "x", "--delay=forever"],
        ["run", "echo", "x", "--timeout=90"],
    ],
)
def test_a_command_line_that_makes_no_run(arguments: list[str], tmp_path: Path) -> None:
    assert penstock(*arguments, cwd=tmp_path).returncode == 2


def test_without_a_core_the_command_says_how_to_get_one(tmp_path: Path) -> None:
    refused = penstock("agents", cwd=tmp_path, PENSTOCK_CORE="127.0.0.1:1", PENSTOCK_PATIENCE="0.1")

    assert refused.returncode == 1
    assert refused.stderr == (
        "Error: No core answers at 127.0.0.1:1. "
        "Start one with `penstock up`, or name another with --core or PENSTOCK_CORE.\n"
    )


def test_version(tmp_path: Path) -> None:
    assert penstock("--version", cwd=tmp_path).stdout.startswith("penstock, version ")
