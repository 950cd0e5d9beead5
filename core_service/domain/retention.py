"""What a policy of retention must look like. A policy of a tenant has no agent."""

from __future__ import annotations

from google.protobuf.duration_pb2 import Duration

from core_service.domain.errors import InvalidArgument
from penstock.v1.retention_service_pb2 import RetentionPolicy

FIELDS = ("keep_events", "keep_messages", "keep_runs")
MAX_DAYS = 36_500


def check_policy(policy: RetentionPolicy) -> None:
    """Refuse a policy that says nothing, or keeps things for a negative time or for more than a century."""
    said = [field for field in FIELDS if policy.HasField(field)]  # type: ignore[arg-type]
    if not said:
        raise InvalidArgument(f"A policy says at least one of {', '.join(FIELDS)}.", field="policy")
    for field in said:
        duration: Duration = getattr(policy, field)
        if not 0 <= duration.ToNanoseconds() <= MAX_DAYS * 86_400 * 10**9:
            raise InvalidArgument(f"{field} must lie between 0, for ever, and {MAX_DAYS:,} days.", field=field)
