"""The command line of the bench."""

from __future__ import annotations

import asyncio
import resource
import signal
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import click
import uvloop
from rich.console import Console

from bench.databases import DATABASES, SQLITE
from bench.provenance import provenance
from bench.report import Result, print_progress, print_tables, write_json
from bench.runner import run_scenarios
from bench.scenarios import SCENARIOS
from bench.sizes import FULL, QUICK, Sizes

RESULTS = Path(__file__).parent / "results"
INTERRUPTED = 130
WIDTH = 120
"""Of the tables in a file or a pipe."""


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--quick", is_flag=True, help="Small sizes, in less than a minute: to see that all of it works.")
@click.option("--only", multiple=True, type=click.Choice(list(SCENARIOS)), help="Only this scenario; repeatable.")
@click.option(
    "--store", type=click.Choice([*DATABASES, "both"]), help="Default: both, with --quick SQLite.", metavar="STORE"
)
@click.option(
    "--json", "path", type=click.Path(dir_okay=False, path_type=Path), help="Where the JSON goes; else bench/results/."
)
def main(*, quick: bool, only: tuple[str, ...], store: str | None, path: Path | None) -> None:
    """Measure Penstock on this machine: print a table, write JSON.

    The load client shares the machine with what it measures. Fails when a stream was wrong or a scenario did not end;
    a missed target is a row in the table.
    """
    _raise_descriptor_limit()
    chosen = store or (SQLITE if quick else "both")
    stores = list(DATABASES) if chosen == "both" else [chosen]
    names = [name for name in SCENARIOS if not only or name in only]
    path = path or RESULTS / f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}.json"
    try:
        results = uvloop.run(_measure(stores, names, QUICK if quick else FULL, path))
    except (KeyboardInterrupt, asyncio.CancelledError):
        raise SystemExit(INTERRUPTED) from None
    raise SystemExit(any(result.failure for result in results))


async def _measure(stores: Sequence[str], names: Sequence[str], sizes: Sizes, path: Path) -> list[Result]:
    _stop_on_sigterm()
    console = Console()
    if not console.is_terminal:
        console.width = WIDTH
    origin = provenance() | {"sizes": "full" if sizes is FULL else "quick"}
    settings, results = {}, []
    for store in stores:
        with DATABASES[store]() as databases:
            settings[store] = databases.settings
            results += await run_scenarios(
                databases, names, sizes, on_result=lambda result: print_progress(console, result)
            )
    print_tables(console, results, comparable=sizes is FULL)
    write_json(path, results, {**origin, "settings": settings})
    console.print(f"Written to {path}", highlight=False, soft_wrap=True)
    return results


def _stop_on_sigterm() -> None:
    """As on Ctrl-C: cancelled, so that everything that was started is stopped."""
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)


def _raise_descriptor_limit() -> None:
    """Each stream takes a descriptor here and one in the edge, which inherits the limit."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError):  # macOS calls its limit unlimited and then refuses it
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


if __name__ == "__main__":
    main(prog_name="python -m bench")
