"""`penstock inputs` and `penstock runs steer`, as processes of their own, against a real `penstock up`."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.cli.up import BOUND, Up, penstock, penstock_up

AGENTS = str(Path(__file__).with_name("agents.py"))


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    with penstock_up(tmp_path_factory.mktemp("up"), AGENTS) as running:
        yield running


@dataclass(frozen=True)
class Asked:
    """A `penstock run` that waits for an answer."""

    process: subprocess.Popen[str]
    run_id: str
    input_id: str

    def said(self) -> str:
        """What the run printed, once it has ended."""
        printed, told = self.process.communicate(timeout=BOUND)
        assert self.process.returncode == 0, told
        return printed


def ask(up: Up, agent: str, thread: str) -> Asked:
    """Start an agent on a thread and return once it waits for an answer."""
    process = up.start("run", agent, "x", "--thread", thread)
    assert process.stdout is not None
    assert process.stderr is not None
    assert "waits for an answer" in process.stderr.readline()
    [question] = objects(up.command("inputs", "list", "--thread", thread, "--json").stdout)
    return Asked(process, question["run_id"], question["request"]["id"])


def asks(up: Up, thread: str) -> str:
    """Return the run of a thread that waits for an answer, once there is one."""
    until = time.monotonic() + BOUND
    while time.monotonic() < until:
        if found := objects(up.command("inputs", "list", "--thread", thread, "--json").stdout):
            return str(found[0]["run_id"])
    raise TimeoutError(f"nobody asks on {thread}")


def objects(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def settled(up: Up, asked: Asked) -> dict[str, Any]:
    """How the question of a run was settled, as the list tells it."""
    [question] = objects(up.command("inputs", "list", "--run", asked.run_id, "--state", "settled", "--json").stdout)
    return question


# ── the list ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_open_questions_are_listed_oldest_first_until_they_are_answered(up: Up) -> None:
    older, newer = ask(up, "size", "older"), ask(up, "refund", "newer")

    lines = [line.split("\t") for line in up.command("inputs", "list").stdout.splitlines()]
    assert lines[0] == ["INPUT", "KIND", "ASKS", "TOOL", "ARGUMENTS", "RUN", "UNTIL", "OUTCOME"]
    assert [line[:6] for line in lines[1:]] == [
        [older.input_id, "question", "Which size?", "", "", older.run_id],
        [newer.input_id, "approval", "Refund it?", "", "", newer.run_id],
    ]
    first = up.command("inputs", "list", "--limit", "1", "--json").stdout
    assert [question["request"]["id"] for question in objects(first)] == [older.input_id]
    by_agent = up.command("inputs", "list", "--agent", "refund", "--json").stdout
    assert [question["request"]["id"] for question in objects(by_agent)] == [newer.input_id]

    up.command("inputs", "answer", older.input_id, "M")
    up.command("inputs", "answer", newer.input_id, "--approve")

    assert (older.said(), newer.said()) == ("answered: M\n", "answered: {'approved': True}\n")
    assert up.command("inputs", "list", "--json").stdout == ""


# ── answers ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("agent", "arguments", "said", "answer"),
    [
        ("size", ["M"], "answered: M\n", {"answer": "M"}),
        ("size", ["--json-answer", '{"answer": "L"}'], "answered: L\n", {"answer": "L"}),
        ("size", ["--decline"], "declined: \n", None),
        ("refund", ["--approve"], "answered: {'approved': True}\n", {"approved": True}),
        (
            "refund",
            ["--deny", "--comment", "Too late."],
            "answered: {'approved': False, 'comment': 'Too late.'}\n",
            {"approved": False, "comment": "Too late."},
        ),
        ("refund", ["--decline"], "declined: None\n", None),
        ("seat", ["--json-answer", '{"row": 7}'], "answered: {'row': 7}\n", {"row": 7}),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else str(value).strip(),
)
def test_the_run_goes_on_with_the_answer(up: Up, agent: str, arguments: list[str], said: str, answer: object) -> None:
    asked = ask(up, agent, "answered")

    done = up.command("inputs", "answer", asked.input_id, *arguments, "--by", "ada")

    told = f"{asked.run_id} goes on; see `penstock runs watch {asked.run_id}`\n"
    assert (done.returncode, done.stdout, done.stderr) == (0, told, "")
    assert asked.said() == said
    question = settled(up, asked)
    assert (question.get("answer"), question["answered_by"]) == (answer, "ada")


def test_an_answer_as_json_prints_the_run(up: Up) -> None:
    asked = ask(up, "size", "as-json")

    [run] = objects(up.command("inputs", "answer", asked.input_id, "M", "--json").stdout)

    assert (run["id"], run["leg"]) == (asked.run_id, 1)
    asked.said()


@pytest.mark.parametrize("answer", [["M"], ["--json-answer", '{"row": 0}'], ["--json-answer", "7"], ["--approve"]])
def test_an_answer_that_does_not_fit_leaves_the_question_open(up: Up, answer: list[str]) -> None:
    asked = ask(up, "seat", "misfits")

    refused = up.command("inputs", "answer", asked.input_id, *answer)

    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr.startswith("Error: The answer does not fit: ")
    assert refused.stderr.endswith("(INVALID_ANSWER).\n")
    up.command("inputs", "answer", asked.input_id, "--json-answer", '{"row": 1}')
    assert asked.said() == "answered: {'row': 1}\n"


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["M", "--approve"],
        ["--approve", "--deny"],
        ["--decline", "--json-answer", "{}"],
        ["--json-answer", "{"],
    ],
    ids=" ".join,
)
def test_an_answer_is_given_in_exactly_one_way(arguments: list[str], tmp_path: Path) -> None:
    assert penstock("inputs", "answer", "inp_x", *arguments, cwd=tmp_path).returncode == 2


def test_a_question_that_nobody_asked_cannot_be_answered(up: Up) -> None:
    refused = up.command("inputs", "answer", "inp_nowhere", "--approve")

    assert (refused.returncode, refused.stderr) == (1, "Error: There is no question inp_nowhere.\n")


def test_a_second_answer_changes_nothing(up: Up) -> None:
    asked = ask(up, "refund", "twice")
    up.command("inputs", "answer", asked.input_id, "--approve")
    asked.said()

    refused = up.command("inputs", "answer", asked.input_id, "--deny")

    assert (refused.returncode, refused.stderr[-18:]) == (1, "(INPUT_ANSWERED).\n")
    assert settled(up, asked)["answer"] == {"approved": True}


def test_the_question_of_a_cancelled_run_is_withdrawn(up: Up) -> None:
    asked = ask(up, "refund", "withdrawn")

    up.command("runs", "cancel", asked.run_id)

    assert asked.process.wait(BOUND) == 130
    asked.process.communicate(timeout=BOUND)
    assert settled(up, asked)["outcome"] == "withdrawn"


# ── steering ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_run_reads_what_it_is_told(up: Up) -> None:
    process = up.start("run", "walk", "x", "--thread", "walk")
    assert process.stdout is not None
    assert process.stdout.read(7) == "walking"
    [run] = objects(up.command("runs", "list", "--thread", "walk", "--json").stdout)

    told = up.command("runs", "steer", run["id"], "left")
    [message] = objects(up.command("runs", "steer", run["id"], "stop", "--json").stdout)

    assert told.stdout.startswith("msg_")
    assert told.stdout.endswith(f" is in the inbox of {run['id']}\n")
    assert (message["role"], message["parts"]) == ("user", [{"kind": "text", "text": "stop"}])
    assert process.communicate(timeout=BOUND)[0] == ", left, stop\n"


def test_what_a_run_did_not_read_starts_another_one(up: Up) -> None:
    asked = ask(up, "size", "unread")
    up.command("runs", "steer", asked.run_id, "And then?")

    up.command("inputs", "answer", asked.input_id, "M")
    asked.said()

    follow_up = asks(up, "unread")
    up.command("runs", "cancel", follow_up)
    queued = objects(up.command("runs", "watch", follow_up, "--json").stdout)[0]
    assert [message["parts"] for message in queued["input"]] == [[{"kind": "text", "text": "And then?"}]]


def test_a_run_that_has_ended_is_not_steered(up: Up) -> None:
    up.command("run", "echo", "x", "--thread", "over")
    [run] = objects(up.command("runs", "list", "--thread", "over", "--json").stdout)

    refused = up.command("runs", "steer", run["id"], "stop")

    assert (refused.returncode, refused.stdout, refused.stderr[-13:]) == (1, "", "(RUN_ENDED).\n")
