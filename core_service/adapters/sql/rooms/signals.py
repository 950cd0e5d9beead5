"""Questions, answers, steering messages."""

from __future__ import annotations

from collections.abc import Sequence

from core_service.adapters.sql import inbox, notes, questions, signals
from core_service.adapters.sql.transaction import Database
from core_service.ports import Answer, FollowUp, Head, InputFilter, Page, RequestKey, RunRecords
from penstock.v1.message_pb2 import Message
from penstock.v1.run_pb2 import Input, UnreadPolicy


class SignalRoom:
    """Implements `ports.SignalStore`; the contract of each method stands there."""

    _database: Database
    _lifetime: float

    async def run_records(self, run_id: str) -> RunRecords:
        return await self._database.read(lambda tx: notes.run_records(tx, run_id))

    async def answer(
        self,
        tenant: str,
        run_id: str,
        answers: Sequence[Answer],
        *,
        answered_by: str,
        origin_json: str,
        request: RequestKey | None,
    ) -> Head:
        return await self._database.write(
            lambda tx: questions.answer(
                tx,
                tenant,
                run_id,
                answers,
                answered_by=answered_by,
                origin_json=origin_json,
                request=request,
                lifetime=self._lifetime,
            )
        )

    async def list_inputs(self, tenant: str, which: InputFilter, page: Page) -> list[Input]:
        return await self._database.read(lambda tx: questions.list_inputs(tx, tenant, which, page))

    async def get_input(self, tenant: str, input_id: str) -> Input | None:
        return await self._database.read(lambda tx: questions.get_input(tx, tenant, input_id))

    async def expire_inputs(self, *, limit: int) -> list[Head]:
        return await self._database.write(lambda tx: questions.expire_inputs(tx, limit=limit))

    async def steer(
        self,
        tenant: str,
        run_id: str,
        message: Message,
        *,
        unread_policy: UnreadPolicy.ValueType,
        max_unread: int,
        request: RequestKey | None,
    ) -> tuple[Head, Message]:
        return await self._database.write(
            lambda tx: inbox.steer(
                tx,
                tenant,
                run_id,
                message,
                unread_policy=unread_policy,
                max_unread=max_unread,
                request=request,
                lifetime=self._lifetime,
            )
        )

    async def signalled(self, run_ids: Sequence[str]) -> list[str]:
        return await self._database.read(lambda tx: signals.signalled(tx, run_ids))

    async def nobodys_signals(self, *, limit: int) -> list[Head]:
        return await self._database.read(lambda tx: signals.nobodys_signals(tx, limit=limit))

    async def follow_ups(self, *, limit: int) -> list[FollowUp]:
        return await self._database.read(lambda tx: inbox.follow_ups(tx, limit=limit))
