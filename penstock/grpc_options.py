"""The gRPC settings of every channel and server of Penstock, in one table.

gRPC's defaults break promises that Penstock makes: a burst of calls is refused, a stopped peer is noticed after a
minute, a stalled reader holds tens of megabytes, a second server on a port starts without an error. What each line
prevents was measured; see docs/operations.md, "gRPC settings".
"""

from __future__ import annotations

MAX_MESSAGE_BYTES = 8 << 20
"""gRPC's own limit on a message, both ways. Penstock keeps its messages below 1 MiB; this is the margin."""

EXPERIMENTS = "-event_engine_client,-event_engine_listener"
"""What the commands of Penstock set `GRPC_EXPERIMENTS` to, before gRPC is imported: its older poller.

From the socket to the event loop a message changes threads twice there and not four times, which is most of what it
costs on an idle machine. A gRPC that does not know the names passes over them.
"""

_BOTH_SIDES: tuple[tuple[str, int], ...] = (
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.http2.ping_timeout_ms", 5_000),  # 60 s by default: keepalive alone notices a stopped peer after 64 s
    ("grpc.http2.bdp_probe", 0),  # with the next line: 0.3 MB per stalled stream instead of 26 MB
    ("grpc.http2.lookahead_bytes", 262_144),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
)

SERVER_OPTIONS: tuple[tuple[str, int], ...] = (
    *_BOTH_SIDES,
    ("grpc.server.max_pending_requests", 100_000),  # 1,000 by default: a burst of 2,000 calls loses 149
    ("grpc.server.max_pending_requests_hard_limit", 200_000),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 5_000),  # else pings are answered with GOAWAY
    ("grpc.http2.max_ping_strikes", 0),
    ("grpc.so_reuseport", 0),  # a second server on the port fails to start instead of taking half of the calls
)

CHANNEL_OPTIONS: tuple[tuple[str, int], ...] = (
    *_BOTH_SIDES,
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1_000),
)
