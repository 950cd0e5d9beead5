"""All pages of the repository: links lead somewhere, settings exist, and blocks that claim to run do."""

from __future__ import annotations

import re
import shutil
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from penstock.cli.settings import PROCESSES
from penstock.cli.variables import unknown
from tests.cli.up import ROOT, Up
from tests.docs.blocks import PATH, Block, blocks, python, says, shell, without_blocks

FOLDERS = ("", "docs", "protos", "bench", "core_service", "edge", "edge/protocols/*", "penstock", "penstock/cli")
PAGES = sorted(page for folder in FOLDERS for page in ROOT.glob(f"{folder}/*.md".lstrip("/")))
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
RUNNABLE = [block for page in PAGES for block in blocks(page) if block.marks == "runs"]
PYTHON = [block for page in PAGES for block in blocks(page) if block.language == "python" and block.marks != "serves"]
PROGRAMS = re.compile(r"\b(?:curl|sqlite3)\b")
"""What blocks use and a machine may lack."""
TOML = [block for page in PAGES for block in blocks(page) if block.language == "toml"]


def prose(page: Path) -> str:
    return without_blocks(page.read_text(encoding="utf-8"))


def anchors(page: Path) -> set[str]:
    """What a `#…` may name there: its headings as GitHub spells them."""
    headings = re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


def broken_links(page: Path) -> Iterator[str]:
    for link in LINK.findall(prose(page)):
        place, _, anchor = link.partition("#")
        target = page.parent / place if place else page
        if "://" in link:
            continue
        if not target.exists() or (anchor and anchor not in anchors(target)):
            yield link


def test_the_pages_are_found() -> None:
    names = {str(page.relative_to(ROOT)) for page in PAGES}

    assert names >= {"README.md", "CHANGELOG.md", "docs/operations.md", "protos/README.md", "edge/README.md"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    assert list(broken_links(page)) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_variable_that_a_page_names_is_a_setting(page: Path) -> None:
    assert unknown(re.findall(r"PENSTOCK_[A-Z][A-Z_]+[A-Z]", page.read_text(encoding="utf-8"))) == set()


@pytest.mark.parametrize("block", TOML, ids=str)
def test_a_penstock_toml_can_be_loaded(block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "penstock.toml").write_text(block.text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    given = tomllib.loads(block.text)

    loaded = {settings.table: settings.load().model_fields_set for settings, _ in PROCESSES}

    protocols = given.pop("protocols", {})
    expected = {table: set(lines) for table, lines in given.items()}
    for name, lines in protocols.items():
        expected.setdefault("edge", set()).update(f"protocols_{name}_{key}" for key in lines)
    assert {table: fields for table, fields in loaded.items() if fields} == expected


@pytest.mark.parametrize("block", PYTHON, ids=str)
def test_python_can_be_run(block: Block, penstock_up: Up) -> None:
    check(block, python(block.text, penstock_up))


@pytest.mark.parametrize("block", RUNNABLE, ids=str)
def test_a_block_that_claims_to_run_does(block: Block, penstock_up: Up) -> None:
    missing = [program for program in PROGRAMS.findall(block.text) if not shutil.which(program, path=PATH)]
    if missing:
        pytest.skip(f"{missing[0]} is not installed here")

    assert block.language == "sh"
    check(block, shell(block.text, penstock_up))


def check(block: Block, output: str) -> None:
    """What the page says that the block prints is what it printed."""
    assert block.prints is None or says(output, block.prints), output


def test_what_a_page_prints_belongs_to_a_block_that_is_run() -> None:
    told = [block for page in PAGES for block in blocks(page) if block.marks == "prints"]

    assert len(told) == len([block for block in RUNNABLE + PYTHON if block.prints is not None])
