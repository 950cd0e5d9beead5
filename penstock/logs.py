"""How every process of Penstock writes its log: one line per event, on standard error.

Owns the format, and routes the log of libraries (grpc, aiohttp, alembic) through it. It does not know what
is logged: loggers come from `structlog.get_logger(__name__)`, ids of a request or a run from
`structlog.contextvars.bound_contextvars`.
"""

from __future__ import annotations

import logging
import sys
from typing import TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

QUIET = {"asyncio": logging.WARNING, "alembic": logging.WARNING, "aiohttp.access": logging.WARNING}
"""Libraries whose everyday lines say nothing that ours do not; `debug` shows them too."""


def configure(process: str, *, level: str = "info", json: bool = False, stream: TextIO | None = None) -> None:
    """Sets up the log of this process, replacing what was set up before.

    `process` is in every line. JSON is for machines; else it is key=value, coloured on a terminal.
    """
    stream = stream or sys.stderr
    threshold = logging.getLevelNamesMapping()[level.upper()]
    shared = _shared_processors(process)
    structlog.configure(
        processors=[*shared, *_renderers(stream, json=json)],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=structlog.WriteLoggerFactory(stream),
        cache_logger_on_first_use=True,
    )
    _route_stdlib(stream, threshold, shared, json=json)


def _shared_processors(process: str) -> list[Processor]:
    def add_process(_logger: WrappedLogger, _method: str, line: EventDict) -> EventDict:
        line.setdefault("process", process)
        return line

    return [
        structlog.contextvars.merge_contextvars,
        add_process,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]


def console_renderer(*, colours: bool) -> structlog.dev.ConsoleRenderer:
    """Renders one event as a line for people: time, level, event, key=value, then a traceback if there is one."""
    return structlog.dev.ConsoleRenderer(
        colors=colours, exception_formatter=structlog.dev.plain_traceback, pad_event_to=0, sort_keys=False
    )


def _renderers(stream: TextIO, *, json: bool) -> list[Processor]:
    if json:
        return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(ensure_ascii=False)]
    return [console_renderer(colours=stream.isatty())]


def _route_stdlib(stream: TextIO, threshold: int, shared: list[Processor], *, json: bool) -> None:
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[*shared, structlog.stdlib.add_logger_name],
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            *_renderers(stream, json=json),
        ],
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(threshold)
    for name, least in QUIET.items():
        logging.getLogger(name).setLevel(logging.NOTSET if threshold <= logging.DEBUG else max(least, threshold))
    logging.captureWarnings(True)
