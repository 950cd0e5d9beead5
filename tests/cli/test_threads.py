"""`penstock threads`, and `penstock runs` where it deletes and cancels in bulk, against a real `penstock up`."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.test_clients import AGENTS, newest_run, objects, read
from tests.cli.up import BOUND, Up, penstock, penstock_up


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    with penstock_up(tmp_path_factory.mktemp("up"), AGENTS) as running:
        yield running


def said(up: Up, thread_id: str, *words: str) -> None:
    for word in words:
        assert up.command("run", "echo", word, "--thread", thread_id).returncode == 0


def shown(up: Up, thread_id: str) -> dict[str, Any]:
    [thread] = objects(up.command("threads", "show", thread_id, "--json").stdout)
    return thread


def endless(up: Up, thread_id: str) -> subprocess.Popen[str]:
    process = up.start("run", "endless", "x", "--thread", thread_id)
    read(process, "working")
    return process


def test_threads_are_listed_newest_first(up: Up) -> None:
    said(up, "thr_first", "a")
    said(up, "thr_second", "a")

    lines = [line.split("\t") for line in up.command("threads", "list", "--limit=2").stdout.splitlines()]

    assert lines[0] == ["THREAD", "MESSAGES", "ACTIVE RUN", "CREATED", "NEWEST RUN", "FORKED FROM"]
    assert [line[:3] for line in lines[1:]] == [["thr_second", "2", ""], ["thr_first", "2", ""]]
    assert [one["id"] for one in objects(up.command("threads", "list", "--json").stdout)][:2] == [
        "thr_second",
        "thr_first",
    ]


def test_show_tells_what_was_said_and_what_it_takes(up: Up) -> None:
    said(up, "thr_show", "water")

    facts, *messages = up.command("threads", "show", "thr_show").stdout.split("\n\n")

    fields = dict(line.split("\t") for line in facts.splitlines())
    assert (fields["id"], fields["message_count"]) == ("thr_show", "2")
    assert json.loads(fields["storage"])["runs"] == 1
    assert messages == ["USER\nwater", "ASSISTANT\nwater \n"]
    assert [message["role"] for message in shown(up, "thr_show")["messages"]] == ["user", "assistant"]


def test_a_state_is_printed_set_and_patched(up: Up) -> None:
    said(up, "thr_state", "a")

    assert up.command("threads", "state", "thr_state").stdout == "{}\n"
    assert up.command("threads", "state", "thr_state", "--set", '{"n": 1}').stdout == '{"n":1}\n'
    patch = '[{"op": "add", "path": "/m", "value": [2]}]'
    assert up.command("threads", "state", "thr_state", "--patch", patch, "--if-version=1").stdout == '{"n":1,"m":[2]}\n'
    [thread] = objects(up.command("threads", "state", "thr_state", "--json").stdout)
    assert (thread["state"], thread["state_version"]) == ({"n": 1, "m": [2]}, 2)
    refused = up.command("threads", "state", "thr_state", "--set", "3", "--if-version=1")
    assert refused.returncode == 1
    assert refused.stderr.endswith("(STATE_CHANGED).\n")


def test_a_fork_prints_the_id_of_the_new_thread(up: Up) -> None:
    said(up, "thr_fork", "one", "two")
    whole = shown(up, "thr_fork")

    forked = up.command("threads", "fork", "thr_fork").stdout.strip()
    at_message = whole["messages"][1]["id"]
    run_id = whole["messages"][0]["run_id"]

    assert len(shown(up, forked)["messages"]) == 4
    assert shown(up, forked)["forked_from_thread_id"] == "thr_fork"
    up.command("threads", "fork", "thr_fork", "--at-message", at_message, "--id", "thr_half")
    assert len(shown(up, "thr_half")["messages"]) == 2
    up.command("threads", "fork", "thr_fork", "--at-event", f"{run_id}:1", "--id", "thr_start")
    assert len(shown(up, "thr_start")["messages"]) == 1


def test_a_thread_is_deleted_with_its_runs(up: Up) -> None:
    said(up, "thr_gone", "a")
    run_id = str(newest_run(up)["id"])

    assert up.command("threads", "delete", "thr_gone").stdout == "thr_gone is deleted\n"

    assert up.command("runs", "show", run_id).stderr.endswith("(RUN_NOT_FOUND).\n")
    refused = up.command("threads", "show", "thr_gone")
    assert (refused.returncode, refused.stderr[:7]) == (1, "Error: ")
    assert refused.stderr.endswith("(THREAD_NOT_FOUND).\n")


def test_a_busy_thread_is_deleted_once_its_runs_are_cancelled(up: Up) -> None:
    process = endless(up, "thr_busy")

    assert up.command("threads", "delete", "thr_busy").stderr.endswith("(THREAD_BUSY).\n")
    assert up.command("threads", "delete", "thr_busy", "--cancel").returncode == 0

    process.communicate(timeout=BOUND)
    assert up.command("threads", "show", "thr_busy").stderr.endswith("(THREAD_NOT_FOUND).\n")


def test_a_run_is_deleted_and_what_it_said_stays(up: Up) -> None:
    said(up, "thr_kept", "a")
    run_id = str(newest_run(up)["id"])

    assert up.command("runs", "delete", run_id).stdout == f"{run_id} is deleted\n"

    assert up.command("runs", "delete", run_id).stderr.endswith("(RUN_NOT_FOUND).\n")
    assert len(shown(up, "thr_kept")["messages"]) == 2


def test_an_active_run_is_deleted_once_it_is_cancelled(up: Up) -> None:
    process = endless(up, "thr_active")
    run_id = str(newest_run(up)["id"])

    assert up.command("runs", "delete", run_id).stderr.endswith("(RUN_ACTIVE).\n")
    assert up.command("runs", "delete", run_id, "--cancel").returncode == 0

    process.communicate(timeout=BOUND)


@pytest.mark.parametrize("chosen", [["--thread", "thr_bulk"], ["--agent", "endless"], ["--state=running"], ["--all"]])
def test_runs_are_cancelled_by_what_they_share(up: Up, chosen: list[str]) -> None:
    process = endless(up, "thr_bulk")
    run_id = str(newest_run(up)["id"])

    done = up.command("runs", "cancel", *chosen)

    process.communicate(timeout=BOUND)
    assert (process.returncode, done.returncode) == (130, 0)
    assert [line.split()[0] for line in done.stdout.splitlines()] == [run_id]


@pytest.mark.parametrize(
    "arguments",
    [
        ["runs", "cancel"],
        ["runs", "cancel", "run_1", "--all"],
        ["runs", "cancel", "--state=succeeded"],
        ["runs", "delete"],
        ["threads", "delete"],
        ["threads", "state", "t", "--set=1", "--patch=[]"],
        ["threads", "state", "t", "--set={"],
        ["threads", "state", "t", "--patch={}"],
        ["threads", "state", "t", "--if-version=1"],
        ["threads", "fork", "t", "--at-message=m", "--at-event=r:1"],
        ["threads", "fork", "t", "--at-event=run_1"],
    ],
)
def test_a_command_line_that_makes_no_sense_is_refused(arguments: list[str], tmp_path: Path) -> None:
    refused = penstock(*arguments, cwd=tmp_path)

    assert (refused.returncode, refused.stdout) == (2, "")
