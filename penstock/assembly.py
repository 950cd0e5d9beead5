"""Assignments that come in several messages, because their records do not fit into one."""

from __future__ import annotations

from penstock.v1.worker_service_pb2 import Answered, Assignment, Record, Steered


class Assembly:
    """What has come so far of each. An answer or a message that comes in between joins its assignment."""

    def __init__(self) -> None:
        self._partial: dict[str, Assignment] = {}

    def put(self, assignment: Assignment) -> Assignment | None:
        """The whole assignment once its last piece is there."""
        run_id = assignment.run.id
        earlier = self._partial.pop(run_id, None)
        if earlier is not None and earlier.run.attempt == assignment.run.attempt:
            earlier.records.extend(assignment.records)
            earlier.inbox.extend(assignment.inbox)
            earlier.more = assignment.more
            assignment = earlier
        if assignment.more:
            self._partial[run_id] = assignment
            return None
        return assignment

    def answer(self, answered: Answered) -> None:
        """A question of a run that is not whole yet was settled."""
        if answered.run_id in self._partial:
            self._partial[answered.run_id].records.append(Record(key=answered.key, answer=answered.answer))

    def steer(self, steered: Steered) -> None:
        """A message for a run that is not whole yet has come."""
        if steered.run_id in self._partial:
            self._partial[steered.run_id].inbox.append(steered.message)

    def clear(self) -> None:
        """The stream is gone: the core begins again."""
        self._partial.clear()
