"""What the engine needs from the world: a store, a bus and a clock. The docstrings are the contract of every adapter.

Conventions: instants are integers, microseconds since 1970 UTC; durations are seconds (float). Every row belongs to a
tenant. Every method that writes is one transaction: it happens whole or not at all. All of them may raise
`StoreUnavailable` or `StoreFull`; then nothing is known to have happened, and the same call may be made again.
"""

from core_service.domain.records import InboxRow, InboxState, Noted, QuestionRow, RunRecords, StepRow
from core_service.ports.deletions import Cleared, Remains
from core_service.ports.history import AtEnd, AtEvent, AtMessage, ForkPoint, RunInThread
from core_service.ports.records import (
    Answer,
    Append,
    AppendOutcome,
    Created,
    DueTime,
    FollowUp,
    Head,
    InputFilter,
    NewRun,
    Owned,
    Page,
    RequestKey,
    RunChange,
    RunFilter,
    Segment,
)
from core_service.ports.retention import Keep, Kept, RetentionStore, Term
from core_service.ports.schedules import DueSchedule, ScheduleStore
from core_service.ports.store import Store
from core_service.ports.webhooks import Delivery, Response, WebhookSender, WebhookStore
from core_service.ports.world import Bus, Clock, Ring

__all__ = [
    "Answer",
    "Append",
    "AppendOutcome",
    "AtEnd",
    "AtEvent",
    "AtMessage",
    "Bus",
    "Cleared",
    "Clock",
    "Created",
    "Delivery",
    "DueSchedule",
    "DueTime",
    "FollowUp",
    "ForkPoint",
    "Head",
    "InboxRow",
    "InboxState",
    "InputFilter",
    "Keep",
    "Kept",
    "NewRun",
    "Noted",
    "Owned",
    "Page",
    "QuestionRow",
    "Remains",
    "RequestKey",
    "Response",
    "RetentionStore",
    "Ring",
    "RunChange",
    "RunFilter",
    "RunInThread",
    "RunRecords",
    "ScheduleStore",
    "Segment",
    "StepRow",
    "Store",
    "Term",
    "WebhookSender",
    "WebhookStore",
]
