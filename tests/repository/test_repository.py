"""The rules of the repository itself, held against the files that are tracked or about to be."""

import ast
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
STUBS = Path("penstock/v1")
PROTOCOLS = Path("edge/protocols")

MAX_LINES = 400

# Spelled so that no pattern matches its own text.
FORBIDDEN = {
    "machine path": re.compile(r"(?<![\w.~-])/(?:work|root)/"),
    "private key": re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY"),
    "registry address": re.compile(
        r"https?://[^\s\"']+/simple\b"
        r"|files\.pythonhosted\.org|registry\.(?:npmjs\.org|yarnpkg\.com)"
        r"|index[-_]url|find[-_]links",
        re.IGNORECASE,
    ),
}


@pytest.fixture(scope="module")
def repository_files() -> list[Path]:
    """Relative paths of all files that git tracks, or would track with `git add .`."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    listed = subprocess.run(
        ["git", "-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    paths = sorted({Path(name) for name in listed.stdout.split("\0") if name})
    return [path for path in paths if (ROOT / path).is_file()]


def test_stubs_are_what_the_protos_generate(tmp_path: Path) -> None:
    subprocess.run([sys.executable, ROOT / "protos/generate.py", tmp_path], check=True)

    generated = {stub.name: stub.read_bytes() for stub in (tmp_path / STUBS).iterdir()}
    committed = {stub.name: stub.read_bytes() for stub in (ROOT / STUBS).glob("*_pb2*.py*")}

    assert sorted(committed) == sorted(generated), "run `make proto`"
    stale = [name for name in generated if committed[name] != generated[name]]
    assert stale == [], "run `make proto`"


def test_imports_follow_the_design() -> None:
    lint_imports = shutil.which("lint-imports", path=sysconfig.get_path("scripts"))
    assert lint_imports, "import-linter is not installed"

    result = subprocess.run([lint_imports, "--no-cache"], cwd=ROOT, capture_output=True, text=True)

    assert result.returncode == 0, result.stdout + result.stderr


def test_no_file_is_longer_than_one_sitting(repository_files: list[Path]) -> None:
    long_files = {
        str(path): length
        for path in repository_files
        if path.parts[0] in {"penstock", "core_service", "edge"} and not fnmatch(path.name, "*_pb2*")
        if (length := len(_text(path).splitlines())) > MAX_LINES
    }
    assert long_files == {}


def test_no_file_holds_what_belongs_to_one_machine(repository_files: list[Path]) -> None:
    assert Path("pyproject.toml") in repository_files
    finds = [find for path in repository_files for find in _forbidden_lines(str(path), _text(path))]
    assert finds == []


@pytest.mark.parametrize(
    "line",
    [
        "/".join(["", "work", "main"]),
        "open('" + "/".join(["", "root", "key.pem"]) + "')",
        "-----BEGIN " + "PRIVATE KEY-----",
        "-----BEGIN RSA " + "PRIVATE KEY-----",
        "--extra-index" + "-url https://pypi.example",
        "https://pypi.example/" + "simple",
    ],
)
def test_the_patterns_find_what_they_are_for(line: str) -> None:
    assert list(_forbidden_lines("file", line))


@pytest.mark.parametrize("line", ["https://example.org/work/", "docs/work/plan.md", "a simple index"])
def test_the_patterns_spare_ordinary_text(line: str) -> None:
    assert list(_forbidden_lines("file", line)) == []


def test_every_protocol_has_a_registry_line_a_readme_row_and_a_test() -> None:
    paths = {path.stem: path.name for path in (ROOT / PROTOCOLS).glob("*.py")}
    paths |= {path.parent.name: path.parent.name for path in (ROOT / PROTOCOLS).glob("*/__init__.py")}
    protocols = sorted(paths.keys() - {"__init__", "registry"})
    rows = [line for line in _text(Path("README.md")).splitlines() if line.startswith("|")]
    registered = _registered_protocols(_text(PROTOCOLS / "registry.py"))
    tested = {path.stem for path in (ROOT / "tests").rglob("test_*.py")}

    missing = [
        f"{name}: {what}"
        for name in protocols
        for what, is_there in (
            ("line in edge/protocols/registry.py", name in registered),
            ("row in README.md", any(f"{PROTOCOLS}/{paths[name]}" in row for row in rows)),
            (f"tests/**/test_{name}.py", f"test_{name}" in tested),
        )
        if not is_there
    ]
    assert protocols, "the edge speaks no protocol"
    assert missing == []


def _text(path: Path) -> str:
    return (ROOT / path).read_text(encoding="utf-8", errors="replace")


def _forbidden_lines(name: str, text: str) -> Iterator[str]:
    for number, line in enumerate(text.splitlines(), start=1):
        for what, pattern in FORBIDDEN.items():
            if pattern.search(line):
                yield f"{name}:{number}: {what}"


def _registered_protocols(registry: str) -> set[str]:
    """The modules of edge.protocols that the registry imports and then uses."""
    tree = ast.parse(registry)
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    package = PROTOCOLS.as_posix().replace("/", ".")
    registered = set()
    for node in ast.walk(tree):
        if not isinstance(node, ast.ImportFrom):
            continue
        module = "." * node.level + (node.module or "")
        for name in node.names:
            if (name.asname or name.name) not in used:
                continue
            if module in {package, "."}:
                registered.add(name.name)
            elif module.startswith((f"{package}.", ".")):
                registered.add(module.rpartition(".")[2])
    return registered
