"""The labels of runs: each entry of their metadata as a hash, since an index has no room for long values."""

from __future__ import annotations

import hashlib

from sqlalchemy import insert

from core_service.adapters.sql.rows import micros
from core_service.adapters.sql.schema import run_labels
from core_service.adapters.sql.statements import all_given
from core_service.adapters.sql.transaction import Transaction
from penstock.v1.run_pb2 import Run

LABEL_BYTES = 16

INSERT_LABEL = insert(run_labels).values(all_given(*run_labels.c))


def label(key: str, value: str) -> bytes:
    """Return what stands in the table for one entry. A key has no NUL."""
    return hashlib.sha256(f"{key}\0{value}".encode()).digest()[:LABEL_BYTES]


def insert_labels(transaction: Transaction, tenant: str, run: Run) -> None:
    """Make a run findable by its metadata."""
    created = micros(run.create_time)
    transaction.do_many(
        INSERT_LABEL,
        [
            {"tenant": tenant, "label": label(key, value), "created": created, "run_id": run.id}
            for key, value in sorted(run.metadata.items())
        ],
    )
