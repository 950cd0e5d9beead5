"""Questions of runs, as those who answer see them: the inbox, and answers (ENGINE.md F4).

An answer is stored under the lock on its run, and counts once the run's log tells of it; only then does its caller hear
so.
"""

from __future__ import annotations

from collections.abc import Sequence

from core_service.domain.answers import check_answers, checked_answer
from core_service.domain.errors import InputNotFound, RunHasEnded
from core_service.domain.json_text import compact
from core_service.domain.pages import TimePages
from core_service.domain.run_requests import check_origin, check_request_id, digest
from core_service.engine.errands import Errands
from core_service.engine.journal import Journal
from core_service.engine.owned import Ownership
from core_service.engine.runs import Runs
from core_service.engine.settling import Settling
from core_service.ports import Answer, Clock, InputFilter, Page, RequestKey, Store
from penstock.v1.run_pb2 import Input, Run
from penstock.v1.run_service_pb2 import InputState, ListInputsRequest, SubmitInputRequest

CONFIRM_SECONDS = 5.0
"""How long a caller waits for another core to take its answer. It is stored in any case."""
FIRST_PAUSE, LONGEST_PAUSE = 0.02, 0.5

MAX_NAME = 256
_PAGES = TimePages("inputs")
_IS_OPEN = {
    InputState.INPUT_STATE_UNSPECIFIED: True,
    InputState.INPUT_STATE_OPEN: True,
    InputState.INPUT_STATE_SETTLED: False,
}


class Inputs:
    """The use cases of questions and answers."""

    def __init__(
        self, *, store: Store, clock: Clock, journal: Journal, ownership: Ownership, settling: Settling, runs: Runs
    ) -> None:
        self._store = store
        self._clock = clock
        self._journal = journal
        self._ownership = ownership
        self._settling = settling
        self._runs = runs
        self._errands = Errands()

    async def page(self, tenant: str, request: ListInputsRequest) -> tuple[Sequence[Input], str]:
        """Return a page of questions, oldest first, and the token of the next."""
        size, after = _PAGES.read(request.page_size, request.page_token)
        which = InputFilter(
            is_open=_IS_OPEN.get(request.state),
            run_id=request.run_id or None,
            agent_id=request.agent_id or None,
            thread_id=request.thread_id or None,
        )
        found = await self._store.list_inputs(tenant, which, Page(size + 1, after))
        if len(found) <= size:
            return found, ""
        last = found[size - 1]
        return found[:size], _PAGES.token(last.create_time.ToMicroseconds(), last.request.id)

    async def submit(self, tenant: str, request: SubmitInputRequest) -> Run:
        """Settle open questions of one run, all or none. See RunService.SubmitInput for the refusals."""
        check_request_id(request.request_id)
        check_answers(request.answers)
        check_origin(request.origin_json)
        run = await self._runs.get(tenant, request.run_id)
        answers = await self._checked(run.id, request)
        key = None
        if request.request_id:
            bare = SubmitInputRequest()
            bare.CopyFrom(request)
            bare.request_id = ""
            key = RequestKey("answer", request.request_id, digest(bare, tenant=tenant))
        await self._errands.run(self._submit(tenant, request, answers, key))
        return await self._runs.get(tenant, run.id)

    async def _checked(self, run_id: str, request: SubmitInputRequest) -> list[Answer]:
        """Hold the answers against the schemas of their questions."""
        records = await self._store.run_records(run_id)
        questions = {row.request.id: row.request for row in records.questions}
        checked = []
        for answer in request.answers:
            question = questions.get(answer.input_id)
            if question is None:
                raise InputNotFound(f"{run_id} never asked {answer.input_id[:80]!r}.", input_id=answer.input_id[:80])
            checked.append(checked_answer(answer, question))
        return [Answer(answer.input_id, answer.outcome, answer.answer_json) for answer in checked]

    async def _submit(
        self, tenant: str, request: SubmitInputRequest, answers: Sequence[Answer], key: RequestKey | None
    ) -> None:
        head = await self._store.answer(
            tenant,
            request.run_id,
            answers,
            answered_by=request.answered_by[:MAX_NAME],
            origin_json=compact(request.origin_json) if request.origin_json else "",
            request=key,
        )
        await self._settling.signal(head)
        await self._confirm(request.run_id, answers)

    async def _confirm(self, run_id: str, answers: Sequence[Answer]) -> None:
        """Return once the log tells of the answers. Refuses with RunHasEnded when it tells of an end instead."""
        until = self._clock.monotonic() + CONFIRM_SECONDS
        pause = FIRST_PAUSE
        while True:
            if (owned := self._ownership.get(run_id)) is not None:
                await self._journal.settled(owned)
            records = await self._store.run_records(run_id)
            rows = {row.request.id: row for row in records.questions}
            seen = [rows.get(answer.input_id) for answer in answers]
            if any(row is None or row.outcome != a.outcome for row, a in zip(seen, answers, strict=True)):
                raise RunHasEnded("The run ended before it took the answer.", run_id=run_id)
            if all(row is not None and row.resolved_seq is not None for row in seen):
                return
            if self._clock.monotonic() + pause > until:
                return
            await self._clock.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)
