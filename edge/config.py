"""The settings of an edge process, as one readable table.

Where they come from (flags, environment, penstock.toml) is `penstock/settings.py`. Durations are seconds, sizes bytes.
"""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import Field, field_validator

from edge.origins import Origins
from penstock.settings import Settings

PATH = r"(/[A-Za-z0-9._~-]+)+"
"""What a prefix may be: not the root, and nothing that means something to a router."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a protocol is served."""

    prefix: str
    is_enabled: bool


def _prefix(default: str, protocol: str) -> str:
    path: str = Field(default, pattern=f"^{PATH}$", description=f"Path below which {protocol} is served.")
    return path


def _enabled(protocol: str) -> bool:
    is_enabled: bool = Field(True, description=f"Serve {protocol}.")
    return is_enabled


class EdgeSettings(Settings, table="edge", unfolds="protocols"):
    """Settings of the edge."""

    host: str = Field("127.0.0.1", description="Address of the HTTP server.")
    port: int = Field(8080, ge=0, le=65535, description="Port of the HTTP server; 0 takes a free one.")
    core: str = Field("127.0.0.1:50051", description="Address of the core, or of the load balancer before the cores.")

    cors_origins: str = Field(
        "", description="Origins of foreign pages that may call, separated by commas; `*` for all, empty for none."
    )

    max_body: int = Field(1 << 20, ge=1024, le=4 << 20, description="Largest request body, in bytes.")
    max_url: int = Field(8192, ge=256, le=65536, description="Longest path with query, in bytes.")
    max_header: int = Field(8192, ge=256, le=65536, description="Longest single header, in bytes.")
    max_headers: int = Field(32768, ge=1024, le=1 << 20, description="All headers of a request together, in bytes.")
    max_json_depth: int = Field(64, ge=1, le=512, description="Deepest nesting of JSON in a request.")

    call_timeout: float = Field(10.0, gt=0, description="How long one call of the core may take, in seconds.")
    repeat_for: float = Field(
        15.0, ge=0, description="How long a call is repeated while the core cannot be reached, in seconds."
    )
    reattach_for: float = Field(
        60.0, ge=0, description="How long an open stream waits for the core to come back, in seconds."
    )
    watch_silence: float = Field(
        25.0, gt=0, description="Silence of the core after which its watch stream is opened again, in seconds."
    )
    watch_buffer: int = Field(
        256 << 10, ge=1024, description="Bytes of events that may wait for one client; what exceeds it is read again."
    )

    heartbeat: float = Field(10.0, gt=0, le=15, description="Silence after which a stream gets a comment, in seconds.")
    stall: float = Field(
        2.0, gt=0, description="Time after which a client that reads nothing loses what waits for it, in seconds."
    )
    sse_retry: float = Field(
        1.0, gt=0, description="How long a browser waits before it opens a broken stream again, in seconds."
    )
    catch_ups: int = Field(
        4, ge=1, description="Streams at a time that may be folded from the start to a client's cursor."
    )

    socket_watches: int = Field(16, ge=1, le=1000, description="Runs that one WebSocket may watch at a time.")

    default_agent: str = Field(
        "", description="Agent of requests that name none, where a protocol allows that; empty: they are refused."
    )

    openai_cancels_on_disconnect: bool = Field(
        True, description="OpenAI: cancel a run when its client goes away and can never come back to it."
    )
    openai_shows_reasoning: bool = Field(
        True, description="OpenAI: send reasoning as `reasoning_content`, as many clients read it."
    )

    protocols_native_enabled: bool = _enabled("REST and SSE")
    protocols_native_prefix: str = _prefix("/v1", "REST and SSE")
    protocols_websocket_enabled: bool = _enabled("the WebSocket")
    protocols_websocket_prefix: str = _prefix("/v1/ws", "the WebSocket")
    protocols_openai_enabled: bool = _enabled("OpenAI's protocols")
    protocols_openai_prefix: str = _prefix("/v1", "OpenAI's protocols")
    protocols_ai_sdk_enabled: bool = _enabled("the AI SDK")
    protocols_ai_sdk_prefix: str = _prefix("/v1/ai-sdk", "the AI SDK")
    protocols_ag_ui_enabled: bool = _enabled("AG-UI")
    protocols_ag_ui_prefix: str = _prefix("/v1/ag-ui", "AG-UI")

    settle: float = Field(
        5.0, ge=0, description="Shutdown: time between a failing /readyz and the last accept, in seconds."
    )
    drain: float = Field(5.0, ge=0, description="Shutdown: time over which resumable streams are closed, in seconds.")
    request_grace: float = Field(
        30.0, ge=0, description="Shutdown: time that all other requests get to finish, in seconds."
    )

    @field_validator("cors_origins")
    @classmethod
    def _are_origins(cls, text: str) -> str:
        Origins.parse(text)
        return text

    def place_of(self, protocol: str) -> Place:
        """Return where a protocol is served, by its name in these settings."""
        prefix: str = getattr(self, f"protocols_{protocol}_prefix")
        is_enabled: bool = getattr(self, f"protocols_{protocol}_enabled")
        return Place(prefix, is_enabled)

    @classmethod
    def usual_prefix(cls, protocol: str) -> str:
        """Return where it is served by default."""
        prefix: str = cls.model_fields[f"protocols_{protocol}_prefix"].default
        return prefix
