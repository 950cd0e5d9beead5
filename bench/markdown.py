"""`python -m bench.markdown FILE`: a result as the tables of docs/benchmarks.md; no figure is copied by hand."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import click
import msgspec

from bench.report import amount, verdict
from bench.targets import TARGETS

Result = dict[str, Any]  # one result of the JSON file


@click.command
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
def main(file: Path) -> None:
    """Print the tables of a result that `python -m bench` wrote."""
    report = msgspec.json.decode(file.read_bytes())
    click.echo("\n".join(_document(report)))


def _document(report: dict[str, Any]) -> Iterator[str]:
    machine, versions = report["machine"], report["versions"]
    yield f"Measured {report['time']} at revision `{report['revision']}` with `{' '.join(report['command'])}`."
    yield ""
    yield from _table(("", ""), [(name, str(value)) for name, value in (machine | versions).items()])
    for store, settings in report["settings"].items():
        results = [result for result in report["results"] if result["store"] == store]
        yield f"### {store}"
        yield ""
        yield ", ".join(f"`{name}` = {value}" for name, value in settings.items())
        yield ""
        rows = _figures(store, results, is_judged=report["sizes"] == "full")
        yield from _table(("figure", "measured", "must", "aim", ""), rows)
        yield "CPU time in µs per event or run, and cores that were busy with something else meanwhile:"
        yield ""
        yield from _cpu([result for result in results if result["measurement"]])


def _figures(store: str, results: Iterable[Result], *, is_judged: bool) -> Iterator[Sequence[str]]:
    for result in results:
        if result["failure"]:
            yield result["scenario"], "failed", "", "", result["failure"].splitlines()[-1]
        for name, value in result["figures"].items():
            target = TARGETS[name].on(store)
            bounds = [amount(bound, target.unit) for bound in (target.must, target.aim)]
            yield target.title, amount(value, target.unit), *bounds, verdict(target, value) if is_judged else ""


def _cpu(results: Sequence[Result]) -> Iterator[str]:
    measured = {result["scenario"]: result["measurement"] for result in results}
    names = list(dict.fromkeys(name for measurement in measured.values() for name in measurement["cpu_micros"]))
    rows = []
    for scenario, measurement in measured.items():
        micros = measurement["cpu_micros"]
        if micros:
            cells = [f"{micros.get(name, 0):,.1f}" for name in names]
            total = f"{sum(micros.values()):,.1f}"
            rows.append((scenario, measurement["unit"], *cells, total, f"{measurement['elsewhere']:.2f}"))
    return _table(("scenario", "per", *names, "all", "elsewhere"), rows)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield _row(head)
    yield _row("---:" if column > 0 else "---" for column, _ in enumerate(head))
    yield from map(_row, rows)
    yield ""


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
