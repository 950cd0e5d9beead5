"""Ids: unique whoever makes them, sorted by time, and readable by whatever reads ULIDs."""

from __future__ import annotations

import re
import time
from concurrent.futures import ThreadPoolExecutor

from core_service.domain.ids import new_id

CROCKFORD = "0123456789abcdefghjkmnpqrstvwxyz"
MANY = 5_000


def decoded(text: str) -> int:
    number = 0
    for digit in text:
        number = number * 32 + CROCKFORD.index(digit)
    return number


def test_an_id_is_a_prefix_and_a_ulid() -> None:
    before = time.time_ns() // 1_000_000
    prefix, ulid = new_id("run").split("_")
    after = time.time_ns() // 1_000_000

    assert (prefix, bool(re.fullmatch(f"[{CROCKFORD}]{{26}}", ulid))) == ("run", True)
    assert before <= decoded(ulid[:10]) <= after
    assert ulid[0] <= "7", "a ULID has 128 bits"


def test_ids_sort_by_time() -> None:
    first = new_id("run")
    now = time.time_ns()
    while time.time_ns() < now + 2_000_000:
        pass
    assert first < new_id("run")


def test_ids_of_many_threads_are_different() -> None:
    with ThreadPoolExecutor(8) as threads:
        made = [one for part in threads.map(lambda _: [new_id("x") for _ in range(MANY)], range(8)) for one in part]
    assert len({one[-16:] for one in made}) == 8 * MANY
