"""Where figures come from: the machine, the versions, the revision."""

from __future__ import annotations

import os
import platform
import sqlite3
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import psutil

LIBRARIES = ("aiohttp", "grpcio", "msgspec", "protobuf", "psycopg", "SQLAlchemy", "uvloop")
ROOT = Path(__file__).parents[1]


def provenance() -> dict[str, object]:
    """Return all of it, for the JSON."""
    return {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": ["python", "-m", "bench", *sys.argv[1:]],
        "revision": _revision(),
        "machine": {
            "system": platform.platform(),
            "processor": _processor(),
            "cores": os.cpu_count(),
            "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        },
        "versions": {
            "python": platform.python_version(),
            "sqlite": sqlite3.sqlite_version,
            "penstock": version("penstock"),
            **{library: version(library) for library in LIBRARIES},
        },
    }


def _revision() -> str:
    """Return the commit, with a mark when the files are not those of it."""
    try:
        commit = _git("rev-parse", "--short=12", "HEAD")
        return f"{commit}-modified" if _git("status", "--porcelain") else commit
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=ROOT, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
