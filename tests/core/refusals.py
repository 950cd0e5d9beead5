"""What a refused call says: one code and exactly one ErrorInfo, whose reason is API."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status


def info_of(error: grpc.RpcError) -> error_details_pb2.ErrorInfo | None:
    """The ErrorInfo of a failed call; None when it is not one of Penstock's refusals."""
    status = rpc_status.from_call(cast(Any, error))
    if status is None:
        return None
    assert len(status.details) == 1, status
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    assert info.domain == "penstock"
    assert status.message
    return info


def reason_of(error: grpc.RpcError) -> str:
    """The reason of a refusal; the name of the code when there is none."""
    info = info_of(error)
    return info.reason if info is not None else str(cast(grpc.Call, error).code().name)


@contextmanager
def refused(code: grpc.StatusCode, reason: str, **metadata: str) -> Iterator[None]:
    """The block fails with this code and reason, and with at least this metadata."""
    with pytest.raises(grpc.RpcError) as caught:
        yield
    info = info_of(caught.value)
    assert info is not None, caught.value
    assert (cast(grpc.Call, caught.value).code(), info.reason) == (code, reason)
    assert {key: info.metadata[key] for key in metadata} == metadata
