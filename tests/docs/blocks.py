"""The fenced blocks of a page, and how to run them against a Penstock on other ports than the page says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import Path

from tests.cli.up import BOUND, ROOT, Up, environment

_FENCED = re.compile(r"^```(\S*) *([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)

BASE_URL, CORE = "http://127.0.0.1:8080", "127.0.0.1:50051"
"""Where the pages say that Penstock is."""

PATH = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
"""`penstock` is what is installed beside this Python."""


@dataclass(frozen=True)
class Block:
    """One fenced block."""

    place: str
    """`README.md:13`."""
    language: str
    marks: str
    """What stands behind the language: `runs` on pages that also have blocks for reading only, `serves` where it does
    not end by itself and has a test of its own."""
    text: str
    prints: str | None = None
    """What it prints, when the next block says so with the mark `prints`. `…` stands for anything."""

    def __str__(self) -> str:
        return self.place


def blocks(path: Path) -> list[Block]:
    """All fenced blocks of a page, in order."""
    page = path.read_text(encoding="utf-8")
    name = path.relative_to(ROOT)
    found = [
        Block(f"{name}:{page.count(chr(10), 0, fence.start()) + 1}", *fence.groups())
        for fence in _FENCED.finditer(page)
    ]
    return [
        replace(block, prints=after.text) if after is not None and after.marks == "prints" else block
        for block, after in zip_longest(found, found[1:])
    ]


def says(output: str, printed: str) -> bool:
    """Tell whether the output is what the page prints."""
    pattern = ".*?".join(re.escape(piece) for piece in printed.rstrip().split("…"))
    return re.fullmatch(pattern, output.rstrip(), re.DOTALL) is not None


def without_blocks(page: str) -> str:
    """The prose of a page."""
    return _FENCED.sub("", page)


def shell(text: str, up: Up, **variables: str) -> str:
    """What a shell writes to standard output that runs this in the folder of `up`. It must succeed."""
    return _run(["bash", "-euc", _here(text, up)], up, variables)


def python(text: str, up: Up) -> str:
    """The same of Python."""
    return _run([sys.executable, "-c", _here(text, up)], up, {})


def _here(text: str, up: Up) -> str:
    return text.replace(BASE_URL, up.base_url).replace(CORE, up.core)


def _run(command: list[str], up: Up, variables: dict[str, str]) -> str:
    done = subprocess.run(
        command,
        cwd=up.directory,
        env=environment(PATH=PATH, PENSTOCK_CORE=up.core, **variables),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=BOUND,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
