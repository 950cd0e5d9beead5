"""The bytes that an answer of 500 tokens takes in the database, as it was written and once its log is folded."""

from __future__ import annotations

from pathlib import Path

import bench.answers
from bench.measurement import Measurement
from bench.stage import FOLD_AT_ONCE, FOLD_LATER, Stage
from bench.stream import read_run
from bench.verification import verify

APP = f"{Path(bench.answers.__file__).resolve()}:app"


async def storage(stage: Stage) -> Measurement:
    """Measure it."""
    answers, database = stage.sizes.answers, stage.database
    async with stage.system(FOLD_LATER, app=APP) as system:
        empty = database.all_bytes()
        request = system.edge.create("answer", "What is a penstock?")
        for _ in range(answers):
            kept: list[bytes] = []
            await read_run(system.edge, request, kept.append)
            verify(b"".join(kept), deltas=bench.answers.TOKENS)
    written = database.log_bytes()
    async with stage.system(FOLD_AT_ONCE, app=APP):
        await stage.folded()
    return Measurement(
        figures={
            "answer_bytes": written / answers,
            "answer_folded_bytes": database.log_bytes() / answers,
            "run_folded_bytes": (database.all_bytes() - empty) / answers,
        },
        unit="run",
        detail={"answers": answers},
    )
