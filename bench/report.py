"""The results for people, and for machines."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench.measurement import Measurement
from bench.targets import TARGETS, Target

COLOURS = {"aim": "green", "must": "green", "missed": "red", "below aim": "yellow"}
QUIET = 0.1
"""Cores that other programs may use before it is worth a word."""


@dataclass(frozen=True, slots=True)
class Result:
    """One scenario on one store: what it measured, or why it did not."""

    scenario: str
    store: str
    seconds: float
    measurement: Measurement | None = None
    failure: str = ""
    complaints: list[str] = field(default_factory=list)
    """Warnings and errors in the logs of the system."""

    @property
    def figures(self) -> dict[str, float]:
        """By the names of `targets.py`."""
        found = self.measurement.figures if self.measurement else {}
        return {f"{self.scenario}.{name}": value for name, value in found.items()}


def print_progress(console: Console, result: Result) -> None:
    """Say how a scenario went."""
    colour, word = ("red", "failed") if result.failure else ("green", "done")
    console.print(f"{result.store} {result.scenario}: [{colour}]{word}[/] in {result.seconds:.1f} s", highlight=False)
    if result.failure:
        console.print(result.failure, markup=False, highlight=False)
    if result.measurement and result.measurement.elsewhere > QUIET:
        console.print(f"  [yellow]{result.measurement.elsewhere:.1f} cores were busy with something else[/]")
    for complaint in result.complaints[:3]:
        console.print(f"  {complaint[:300]}", markup=False, highlight=False)
    if len(result.complaints) > 3:
        console.print(f"  … and {len(result.complaints) - 3} more lines")


def print_tables(console: Console, results: Sequence[Result], *, comparable: bool) -> None:
    """Print the figures of each store against their targets, then the CPU time that they took.

    Figures of other sizes than the targets speak of are shown beside them, and not judged.
    """
    for store in dict.fromkeys(result.store for result in results):
        of_store = [result for result in results if result.store == store]
        console.print(_figures(store, of_store, comparable=comparable))
        if any(result.measurement and result.measurement.cpu_micros for result in of_store):
            console.print(_cpu(store, of_store))


def write_json(path: Path, results: Iterable[Result], origin: Mapping[str, object]) -> None:
    """Write all results with where they come from."""
    path.parent.mkdir(parents=True, exist_ok=True)
    document = {**origin, "results": [{**asdict(result), "figures": result.figures} for result in results]}
    path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


def _figures(store: str, results: Sequence[Result], *, comparable: bool) -> Table:
    table = Table(title=f"Penstock on {store}{'' if comparable else ', small sizes'}", title_justify="left")
    table.add_column("figure")
    for name in ("measured", "must", "aim"):
        table.add_column(name, justify="right")
    table.add_column("")
    for result in results:
        for name, value in result.figures.items():
            target = TARGETS[name].on(store)
            bounds = (amount(bound, target.unit) for bound in (target.must, target.aim))
            judged = _coloured(verdict(target, value)) if comparable else ""
            table.add_row(target.title, amount(value, target.unit), *bounds, judged)
        if result.failure:
            table.add_row(result.scenario, "[red]failed[/]")
    return table


def verdict(target: Target, value: float) -> str:
    """Return the best bound that the value keeps."""
    if target.aim is not None and target.is_met_by(value, target.aim):
        return "aim"
    if target.must is not None:
        return "must" if target.is_met_by(value, target.must) else "missed"
    return "" if target.aim is None else "below aim"


def _coloured(verdict: str) -> str:
    return f"[{COLOURS[verdict]}]{verdict}[/]" if verdict else ""


def _cpu(store: str, results: Sequence[Result]) -> Table:
    measured = [(result.scenario, result.measurement) for result in results if result.measurement]
    names = list(dict.fromkeys(name for _, measurement in measured for name in measurement.cpu_micros))
    table = Table(title=f"CPU time on {store}, µs", title_justify="left")
    table.add_column("scenario")
    for name in ("per", *names, "all", "busy elsewhere"):
        table.add_column(name, justify="right")
    for scenario, measurement in measured:
        micros = measurement.cpu_micros
        if micros:
            cells = [f"{micros[name]:,.1f}" if name in micros else "" for name in names]
            total, elsewhere = f"{sum(micros.values()):,.1f}", f"{measurement.elsewhere:.2f} cores"
            table.add_row(scenario, measurement.unit, *cells, total, elsewhere)
    return table


def amount(value: float | None, unit: str) -> str:
    """Return a figure as people write it; nothing for None."""
    if value is None:
        return ""
    digits = 0 if abs(value) >= 100 or value == int(value) else 2 if abs(value) < 10 else 1
    return f"{value:,.{digits}f} {unit}".rstrip().replace(" /s", "/s")
