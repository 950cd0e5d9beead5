"""Every block of the README does what the README says. A block that no test here knows fails the first of them."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.up import ROOT, Up, penstock_up
from tests.docs.blocks import Block, blocks, python, shell

README = blocks(ROOT / "README.md")
WORDS = "water finds its way "

Claim = Callable[[Block], bool]

CLAIMS: dict[str, Claim] = {
    "make": lambda block: block.language == "sh" and block.text.startswith("make "),
    "stream": lambda block: block.language == "sh" and "/v1/runs " in block.text,
    "frames": lambda block: block.language == "text" and block.text.startswith("id: "),
    "resume": lambda block: block.language == "sh" and "Last-Event-ID" in block.text,
    "grpc": lambda block: block.language == "python" and "penstock.Client" in block.text,
    "openai": lambda block: block.language == "python" and "from openai" in block.text,
    "agent": lambda block: block.language == "python" and "penstock.App" in block.text,
    "call": lambda block: block.language == "sh" and block.text.startswith("penstock up "),
}
"""Which block is whose."""

needs_curl = pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed here")


def the(name: str) -> str:
    """The one block that this test is about."""
    [block] = [block for block in README if CLAIMS[name](block)]
    return block.text


@pytest.fixture(scope="module")
def stream(penstock_up: Up) -> str:
    """What the first curl prints."""
    return shell(the("stream"), penstock_up)


def test_every_block_is_run_by_exactly_one_test() -> None:
    takers = {block.place: [name for name, claim in CLAIMS.items() if claim(block)] for block in README}

    assert [place for place, names in takers.items() if len(names) != 1] == [], takers
    assert sorted(name for names in takers.values() for name in names) == sorted(CLAIMS)


def test_the_make_targets_exist() -> None:
    wanted = re.findall(r"^make (\S+)", the("make"), re.MULTILINE)
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")

    assert wanted == ["run", "test"]
    assert set(wanted) <= set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))


@needs_curl
def test_curl_streams_the_words(stream: str) -> None:
    ids = [int(number) for number in re.findall(r"^id: (\d+)$", stream, re.MULTILINE)]
    events = [json.loads(line) for line in re.findall(r"^data: (.*)$", stream, re.MULTILINE)]

    assert ids == list(range(1, len(events) + 1))
    assert "".join(event["text"] for event in events if event["type"] == "part.delta") == WORDS
    assert (events[-1]["type"], events[-1]["state"]) == ("run.ended", "succeeded")


@needs_curl
def test_the_frames_are_those_that_curl_prints(stream: str) -> None:
    assert the("frames") in stream


@needs_curl
def test_a_cut_stream_goes_on_behind_the_last_event(stream: str, penstock_up: Up) -> None:
    first = json.loads(re.findall(r"^data: (.*)$", stream, re.MULTILINE)[0])

    rest = shell(the("resume"), penstock_up, RUN_ID=first["run"]["id"])

    assert rest[rest.index("id: ") :] == stream[stream.index("id: 7\n") :]


@pytest.mark.parametrize("client", ["grpc", "openai"])
def test_python_prints_the_same_words(client: str, penstock_up: Up) -> None:
    assert python(the(client), penstock_up) == WORDS


def test_the_agent_serves_and_answers(tmp_path: Path) -> None:
    (tmp_path / "support.py").write_text(the("agent"), encoding="utf-8")
    serve, call = (shlex.split(line)[1:] for line in the("call").splitlines())
    assert serve[0] == "up"

    with penstock_up(tmp_path, *serve[1:]) as up:
        assert up.command(*call).stdout == "You said: hello there \n"
