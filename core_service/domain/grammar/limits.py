"""How much one thing of a run may hold, so that no event passes 1 MiB and no message gRPC's limit (rule 20)."""

from __future__ import annotations

MAX_PART_CHARACTERS = 64 * 1024
"""Text and reasoning go on in a new part after this many characters."""

MAX_TOOL_BYTES = 256 * 1024
"""The arguments of a call, and the streamed pieces of a result, in UTF-8."""

MAX_EVENT_BYTES = 1024 * 1024
"""One serialised event."""

EVENT_OVERHEAD = 4096
"""What the core adds around an output: seq, time, ids, lane."""

MAX_RUN_RESULT_BYTES = 512 * 1024
"""Result and error of a run; RunEnded holds usage and pending calls besides."""

MAX_STEP_RESULT_BYTES = 256 * 1024
"""The recorded result of a durable step (ENGINE.md E9)."""

MAX_STATE_BYTES = 512 * 1024
"""The thread's state: a retry may have to write it whole."""

MAX_NAME_CHARACTERS = 256
"""Lanes, keys, tool names and other names."""

MAX_CALL_ID_CHARACTERS = 64
"""Call ids (rule 11)."""

MAX_UNANSWERED_CALLS = 1_000
"""Calls without a result at a time: RunEnded names those of the client, and the others get a result each at the end."""

MAX_MODELS = 100
"""Different models whose usage a run may report: RunEnded holds one sum for each."""

MAX_INT32 = 2**31 - 1
"""Sums of usage stop here."""

DEFAULT_EXPIRY = 24 * 3600 * 1_000_000
"""How long a question is open unless its handler says otherwise, in microseconds."""

MAX_EXPIRY = 366 * 24 * 3600 * 1_000_000
"""How long it may say, in microseconds."""
