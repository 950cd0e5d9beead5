"""What all tests may ask for."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from tests.cli.up import Up, penstock_up

# A shell starts jobs in the background with Ctrl-C ignored, and they hand that on to the programs under test.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(name="penstock_up", scope="session")
def running_demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """A whole Penstock in processes of its own, with the demo agents, shared by tests that do not break it."""
    with penstock_up(tmp_path_factory.mktemp("demo")) as up:
        yield up
