"""Who calls: the tenant, from the metadata of a call."""

from __future__ import annotations

from core_service.rpc.errors import Context

DEFAULT_TENANT = "default"


def tenant_of(context: Context) -> str:
    """Return the caller's tenant. There is no authentication yet, and so there is one tenant."""
    return DEFAULT_TENANT
