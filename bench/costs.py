"""What the processes spent: CPU time and memory, of each and of the load client."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass

import psutil

from bench.system import System

CLIENT = "client"
KIB = 1024


@dataclass(frozen=True, slots=True)
class Spent:
    """CPU time over a while."""

    by_process: Mapping[str, float]
    """Seconds of each process."""
    elsewhere: float
    """Cores that were busy with something else, on average: what makes figures worse and is not ours."""

    def micros_per(self, count: int) -> dict[str, float]:
        """Return microseconds of each process per event, or per run."""
        return {name: seconds * 1e6 / count for name, seconds in self.by_process.items()}


class CpuMeter:
    """Measures from its making on."""

    def __init__(self, system: System) -> None:
        self._processes = {**system.processes, CLIENT: psutil.Process(os.getpid())}
        self._began = time.monotonic()
        self._machine = _busy_seconds()
        self._before = self._seconds()

    def spent(self) -> Spent:
        """Return what was spent so far."""
        ours = {name: now - self._before[name] for name, now in self._seconds().items()}
        others = _busy_seconds() - self._machine - sum(ours.values())
        return Spent(ours, max(others, 0.0) / (time.monotonic() - self._began))

    def _seconds(self) -> dict[str, float]:
        return {name: _cpu_seconds(process) for name, process in self._processes.items()}


def resident_kib(system: System) -> dict[str, float]:
    """Return the resident memory of each process of Penstock in KiB; a database's is not counted."""
    return {name: process.memory_info().rss / KIB for name, process in system.processes.items() if _is_ours(process)}


def _is_ours(process: psutil.Process) -> bool:
    return process.ppid() == os.getpid()


def _cpu_seconds(process: psutil.Process) -> float:
    """Of the process and of what it has started, like the backends of PostgreSQL, ended ones included."""
    times = process.cpu_times()
    total: float = times.user + times.system
    if process.pid != os.getpid():  # the client's children are the system itself
        total += times.children_user + times.children_system
        total += sum(_cpu_seconds(child) for child in process.children())
    return total


def _busy_seconds() -> float:
    """Of the whole machine."""
    times = psutil.cpu_times()
    return float(sum(times)) - times.idle - getattr(times, "iowait", 0.0) - getattr(times, "guest", 0.0)
