"""What the processes spent: CPU time and memory, of each and of the load client."""

from __future__ import annotations

import os
from collections.abc import Mapping

import psutil

from bench.system import System

CLIENT = "client"
KIB = 1024


class CpuMeter:
    """CPU seconds of all processes from its making on."""

    def __init__(self, system: System) -> None:
        self._processes = {**system.processes, CLIENT: psutil.Process(os.getpid())}
        self._before = self._seconds()

    def spent(self) -> dict[str, float]:
        """Return the seconds of each process so far."""
        return {name: now - self._before[name] for name, now in self._seconds().items()}

    def _seconds(self) -> dict[str, float]:
        return {name: _cpu_seconds(process) for name, process in self._processes.items()}


def micros_per(seconds: Mapping[str, float], count: int) -> dict[str, float]:
    """Return microseconds of each process per event, or per run."""
    return {name: spent * 1e6 / count for name, spent in seconds.items()}


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
