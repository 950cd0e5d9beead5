"""The settings of the commands that talk to a core, and the list of all settings that there are."""

from __future__ import annotations

from pydantic import Field

from core_service.config import CoreSettings
from edge.config import EdgeSettings
from penstock.settings import LogLevel, Settings
from penstock.worker import WorkerSettings


class ClientSettings(Settings, table="client"):
    """Settings of the commands that talk to a core."""

    core: str = Field("127.0.0.1:50051", min_length=1, description="Address of the core, or of a load balancer.")
    patience: float = Field(5.0, ge=0, description="How long a core that cannot be reached is waited for, in seconds.")
    log_level: LogLevel = Field("warning", description="Least severe log lines that are written.")


PROCESSES: tuple[tuple[type[Settings], str], ...] = (
    (CoreSettings, "`penstock core`"),
    (EdgeSettings, "`penstock edge`"),
    (WorkerSettings, "`penstock worker`"),
    (ClientSettings, "`penstock run`, `runs`, `threads`, `inputs`, `agents`, `schedules`, `retention`"),
)
"""Each table of `penstock.toml`, and who uses it."""
