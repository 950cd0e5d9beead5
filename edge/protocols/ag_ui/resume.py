"""Going on with a run that waits: the answers of a request become one call of the core.

Owns which run a request resumes, and the translation of what the core refuses: the thread stays paused, and AG-UI wants
that told as an error of the run.
"""

from __future__ import annotations

import grpc

from edge.core import CoreClient
from edge.errors import refusal_of
from edge.protocols.ag_ui.history import History
from edge.protocols.ag_ui.interrupts import answer_of, answers_to
from edge.protocols.ag_ui.origin import ids_of, origin_json
from edge.protocols.ag_ui.refusals import Unresumed
from edge.protocols.ag_ui.threads import newest_run
from penstock.v1.run_pb2 import Run, RunState
from penstock.v1.run_service_pb2 import SubmitInputRequest

_REQUESTS_FAULT = range(400, 500)


async def run_to_resume(core: CoreClient, history: History) -> Run | None:
    """Return the run that the request goes on with; None when it asks for a new one, or for its own once more.

    Answers on a thread that waits for none, and nothing else, are those of a request that came before: the core knows
    whether it is the same one. With something new to answer they are left out, as AG-UI 1.0 says.
    """
    known, asked = history.known, history.asked
    if known is None:
        return None
    if known.waiting is None and asked.resume and not history.new:
        return await newest_run(core, known.thread.id)
    if known.waiting is not None and not asked.resume and _made_by(known.waiting, asked.ids.run_id):
        return None
    return known.waiting


def _made_by(run: Run, client_run_id: str) -> bool:
    return ids_of(run.origin_json, otherwise="").run_id == client_run_id


async def submit_answers(core: CoreClient, run: Run, history: History, request_id: str) -> Run:
    """Answer all open questions at once; return the run with the leg that follows. Raises Unresumed."""
    asked = history.asked
    if run.state == RunState.RUN_STATE_WAITING:
        answers = answers_to(run, asked.resume, history.results())
    else:
        answers = [answer_of(entry) for entry in asked.resume]
    request = SubmitInputRequest(
        request_id=request_id, run_id=run.id, answers=answers, origin_json=origin_json(asked.ids)
    )
    try:
        return (await core.call(core.runs.SubmitInput, request)).run
    except grpc.aio.AioRpcError as error:
        refusal = refusal_of(error)
        if refusal.status not in _REQUESTS_FAULT:
            raise
        raise Unresumed(refusal.status, refusal.reason, refusal.message) from error
