"""The settings of the core. Times are in seconds, sizes in bytes unless a name says otherwise."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr, field_validator

from core_service.domain.webhooks import parse_secrets
from penstock.settings import Settings


class CoreSettings(Settings, table="core"):
    """What an operator may set: by flag, by environment (`PENSTOCK_…`), in `penstock.toml` under `[core]`."""

    grpc_host: str = Field("127.0.0.1", description="Address that the gRPC server binds.")
    grpc_port: int = Field(50051, ge=0, le=65535, description="Port of the gRPC server; 0 chooses a free one.")
    metrics_host: str = Field("127.0.0.1", description="Address of the Prometheus endpoint.")
    metrics_port: int = Field(
        9464, ge=0, le=65535, description="Port of the Prometheus endpoint; 0 chooses a free one."
    )
    metrics: bool = Field(True, description="Serve Prometheus metrics.")
    data: Path = Field(Path(".penstock"), description="Folder of the embedded SQLite database.")
    database_url: str = Field("", description="postgresql://… to use PostgreSQL instead of SQLite.")
    sqlite_synchronous: Literal["FULL", "NORMAL"] = Field(
        "FULL",
        description="FULL survives a power cut; NORMAL any kill, but a power cut may take the last seconds.",
    )
    postgres_connections: int = Field(
        8, ge=2, le=200, description="PostgreSQL connections besides that of the journal."
    )
    lease: float = Field(30.0, gt=0, le=3600, description="How long a worker or a core may be away before it is lost.")
    cancel_grace: float = Field(10.0, ge=0, le=3600, description="How long a cancelled handler may clean up.")
    queue_timeout: float = Field(
        60.0, ge=0, description="How long a run waits for a worker; 0 refuses a run when no worker is connected."
    )
    max_attempts: int = Field(3, ge=1, le=100, description="Failures after which a run is not tried again.")
    retry_backoff: float = Field(1.0, ge=0, le=3600, description="Pause before the first retry; doubles with each.")
    max_retry_backoff: float = Field(60.0, ge=0, le=86_400, description="Longest pause before a retry.")
    disconnect_grace: float = Field(
        10.0, ge=0, le=86_400, description="How long a run with on_disconnect = cancel may be without a watcher."
    )
    max_depth: int = Field(8, ge=0, le=100, description="Runs that may be above a run: agents that call agents.")
    max_unread_messages: int = Field(100, ge=1, description="Steering messages that may wait for one run.")
    max_queued_per_thread: int = Field(20, ge=1, description="Runs that may wait on one thread.")
    max_queued_per_agent: int = Field(10_000, ge=1, description="Runs that may wait for one agent.")
    max_run_events: int = Field(1_000_000, ge=100, description="Events after which a run ends with LOG_LIMIT.")
    max_run_bytes: int = Field(256 << 20, ge=1 << 20, description="Bytes of log after which a run ends with LOG_LIMIT.")
    tail_run_bytes: int = Field(256 << 10, ge=1 << 10, description="Newest events of one run that are kept in memory.")
    tail_bytes: int = Field(64 << 20, ge=1 << 20, description="Newest events of all runs that are kept in memory.")
    backlog_bytes: int = Field(
        64 << 20, ge=1 << 20, description="Uncommitted output beyond which workers are not read."
    )
    fold_delay: float = Field(60.0, ge=0, description="Seconds after its end until a run's log is compressed.")
    keep_events: float = Field(
        0.0, ge=0, description="Seconds after a run's end for which its events are kept; 0: for ever."
    )
    keep_messages: float = Field(
        0.0, ge=0, description="Seconds after a run's end for which its messages stay in the thread; 0: for ever."
    )
    keep_runs: float = Field(
        0.0, ge=0, description="Seconds after its end for which a run is kept, with all it has; 0: for ever."
    )
    webhook_secret: SecretStr = Field(
        SecretStr(""),
        description="whsec_… that signs webhooks; several, separated by blanks, all sign. Without one none are sent.",
    )
    webhook_allow_http: bool = Field(False, description="Take webhooks with http:// as well as https://.")
    webhook_allow_private: bool = Field(
        False, description="Call webhooks at addresses that are not public: of this machine or its network."
    )
    webhook_timeout: float = Field(15.0, gt=0, le=300, description="How long a webhook's receiver may take to answer.")
    webhook_attempts: int = Field(12, ge=1, le=100, description="Attempts after which a webhook is given up.")
    webhook_backoff: float = Field(
        5.0, gt=0, le=3600, description="Pause before the second attempt; four times as long before each further one."
    )
    webhook_max_backoff: float = Field(43_200.0, gt=0, description="Longest pause between two attempts.")
    webhook_concurrency: int = Field(32, ge=1, le=1_000, description="Webhooks that are under way at a time.")
    request_retention: float = Field(86_400.0, gt=0, description="How long request ids are remembered.")
    drain_timeout: float = Field(10.0, ge=0, le=600, description="How long a stopping core takes to hand over.")

    @field_validator("webhook_secret")
    @classmethod
    def _can_sign(cls, secret: SecretStr) -> SecretStr:
        parse_secrets(secret.get_secret_value())
        return secret
