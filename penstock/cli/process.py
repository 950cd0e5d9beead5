"""What `penstock core`, `edge` and `worker` do alike before they hand over to their process's own `main`.

A child of `penstock up` dies with it: its standard input is a pipe that only the supervisor holds open, so that the
end of the supervisor, even by SIGKILL, is the end of that pipe. Nothing needs to be softened: a run survives the
SIGKILL of any process, and an orphan that drained for seconds would hold the ports that a restart needs.
"""

from __future__ import annotations

import gc
import os
import sys
import threading
from collections.abc import Callable
from typing import Any, TypeVar

import click

from penstock import logs
from penstock.cli.listeners import listeners, require_free, warn_when_exposed
from penstock.cli.variables import warn_of_unknown
from penstock.settings import Settings

SWITCH_SECONDS = 0.0005
"""How long a busy event loop may keep the interpreter lock from other threads.

gRPC's needs it for each message, the store's after each statement; Python's 5 ms, several times over, are what a commit
would take.
"""

Decorated = TypeVar("Decorated", bound=Callable[..., Any])


def supervised_flag(command: Decorated) -> Decorated:
    """Adds the flag by which the supervisor marks its children."""
    return click.option("--supervised", is_flag=True, hidden=True, help="Die when standard input ends.")(command)


def begin(process: str, settings: Settings, *, supervised: bool) -> None:
    """Sets up the log, and checks the environment and what the process will listen on."""
    if supervised:
        die_with_parent()
    else:
        warn_of_unknown()
        warn_when_exposed(listeners(settings))
    logs.configure(process, level=settings.log_level, json=settings.log_json)
    require_free(listeners(settings))
    collect_garbage_rarely()
    sys.setswitchinterval(SWITCH_SECONDS)


def collect_garbage_rarely() -> None:
    """Makes the search for cycles rare, and leaves what was imported out of it.

    A process that keeps the events of a thousand runs allocates all the time and frees by reference counts. With
    Python's thresholds a fifth of the core's time went into looking for cycles that were not there.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 20, 50)


def die_with_parent() -> None:
    """Ends this process, at once, when its standard input ends. Its own code reads an empty one from now on."""
    pipe = os.dup(0)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    threading.Thread(target=_exit_at_end_of, args=(pipe,), daemon=True, name="die-with-parent").start()


def _exit_at_end_of(pipe: int) -> None:
    while os.read(pipe, 4096):
        pass
    os._exit(1)
