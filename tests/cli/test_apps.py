"""Which app a command line names; each load in a process of its own, as a worker does it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

LOAD = """
import sys
import click
from penstock.cli.apps import load_app
try:
    print(load_app(sys.argv[1]).name)
except click.ClickException as refused:
    print(refused.message)
"""
ONE_APP = "import penstock\nimport neighbour\napp = penstock.App(neighbour.NAME)\n"
TWO_APPS = "import penstock\nfirst = penstock.App('first')\nsecond = penstock.App('second')\nlimit = 3\n"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    files = {
        "support.py": ONE_APP,
        "json.py": ONE_APP.replace("neighbour.NAME", "'not the standard library'"),
        "neighbour.py": "NAME = 'support'\n",
        "two.py": TWO_APPS,
        "broken.py": "import no_such_library\n",
        "package/__init__.py": "",
        "package/agents.py": TWO_APPS,
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path


def load(spec: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    # As the console script starts: without the working directory on the path.
    code = f"import sys\nsys.path[:] = [{str(Path(__file__).parents[2])!r}, *filter(None, sys.path)]\n{LOAD}"
    return subprocess.run([sys.executable, "-P", "-c", code, spec], cwd=cwd, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize(
    ("spec", "name"),
    [
        ("support:app", "support"),
        ("support", "support"),
        ("support.py:app", "support"),
        ("support.py", "support"),
        ("./support.py:app", "support"),
        ("json.py:app", "not the standard library"),
        ("two:second", "second"),
        ("package.agents:first", "first"),
        ("package/agents.py:first", "first"),
    ],
)
def test_a_module_or_a_file_names_an_app(spec: str, name: str, directory: Path) -> None:
    loaded = load(spec, directory)

    assert loaded.stdout == f"{name}\n", loaded.stderr


def test_a_file_elsewhere_can_import_its_neighbours(directory: Path) -> None:
    assert load(f"{directory}/support.py:app", directory / "package").stdout == "support\n"


@pytest.mark.parametrize(
    ("spec", "complaint"),
    [
        ("nowhere:app", "There is no module nowhere in "),
        ("package.nowhere:app", "There is no module package.nowhere in "),
        ("nowhere.py", "There is no file nowhere.py."),
        ("two:third", "third in two must be a penstock.App; it is not there. Apps found there: first, second."),
        ("two:limit", "limit in two must be a penstock.App; it is of type int. Apps found there: first, second."),
        ("two.py", "two.py must have exactly one penstock.App. Apps found there: first, second."),
        ("neighbour", "neighbour must have exactly one penstock.App. Apps found there: none."),
    ],
)
def test_what_cannot_be_found_is_told_with_what_was_found(spec: str, complaint: str, directory: Path) -> None:
    assert load(spec, directory).stdout.startswith(complaint)


@pytest.mark.parametrize("spec", ["broken:app", "broken.py:app"])
def test_an_error_in_the_authors_code_keeps_its_traceback(spec: str, directory: Path) -> None:
    loaded = load(spec, directory)

    assert loaded.returncode == 1
    assert "ModuleNotFoundError: No module named 'no_such_library'" in loaded.stderr
    assert "broken.py" in loaded.stderr
