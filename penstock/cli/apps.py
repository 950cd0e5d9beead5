"""Finds the `penstock.App` that a command line names.

Errors in the author's own code are not explained away: their traceback is shown as it is.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import click

from penstock import App

DEMO = "penstock.demo:app"


def load_app(spec: str) -> App:
    """The app that `module:app`, `file.py:app`, `module` or `file.py` names."""
    place, _, name = spec.rpartition(":") if ":" in spec else (spec, "", "")
    module = _from_file(Path(place)) if place.endswith(".py") else _from_path(place)
    return _named(module, name, place) if name else _only(module, place)


def _from_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise click.ClickException(f"There is no file {path}.")
    # As `python file.py` does: the file can import its neighbours.
    sys.path.insert(0, str(path.parent.resolve()))
    # A file may be called as a module that is loaded already: json.py.
    name = path.stem if path.stem not in sys.modules else f"app_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None, "a name that ends in .py has a loader"
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def _from_path(name: str) -> ModuleType:
    # A console script does not see the working directory; `python -m` does.
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as missing:
        if missing.name is None or not f"{name}.".startswith(f"{missing.name}."):
            raise
        raise click.ClickException(
            f"There is no module {name} in {Path.cwd()} or among the installed packages. "
            "APP is module:app, path/to/file.py:app or path/to/file.py."
        ) from missing


def _named(module: ModuleType, name: str, place: str) -> App:
    found = getattr(module, name, None)
    if isinstance(found, App):
        return found
    kind = f"of type {type(found).__name__}" if hasattr(module, name) else "not there"
    raise click.ClickException(f"{name} in {place} must be a penstock.App; it is {kind}. {_hint(module)}")


def _only(module: ModuleType, place: str) -> App:
    apps = _apps(module)
    if len(apps) == 1:
        return next(iter(apps.values()))
    raise click.ClickException(f"{place} must have exactly one penstock.App. {_hint(module)}")


def _apps(module: ModuleType) -> dict[str, App]:
    return {name: value for name, value in vars(module).items() if isinstance(value, App)}


def _hint(module: ModuleType) -> str:
    names = ", ".join(_apps(module)) or "none"
    return f"Apps found there: {names}."
