"""The ids of this protocol. Each is made of ids of the core and can be taken apart again, so that the edge keeps none.

    resp_<run>          the first leg of a run          msg_<run>_<ordinal>    text
    resp_<run>-<leg>    a later one                     rs_<run>_<ordinal>     reasoning
    conv_<thread>       a thread that the core named    fc_<run>_<ordinal>     a call of a client's tool
    mcpr_<run>_<input>  may this call go ahead?         mcp_<run>_<ordinal>    a call of the agent's own
    msg_<run>_q<input>  any other question

`<run>`, `<input>` and `<thread>` are ids of the core without their prefix.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

Prefix = Literal["msg", "rs", "fc", "fco", "mcp"]

_RESPONSE = re.compile(r"resp_(?P<run>[A-Za-z0-9_]{1,64}?)(-(?P<leg>[1-9][0-9]{0,8}))?")
_ITEM = re.compile(r"(msg|rs|fc|mcp)_(?P<run>[A-Za-z0-9]{1,64})_(?P<ordinal>[0-9]{1,9})")
_SENTENCE = re.compile(r"msg_[A-Za-z0-9]{1,64}_q[A-Za-z0-9]{1,64}")
_APPROVAL = re.compile(r"mcpr_(?P<run>[A-Za-z0-9]{1,64})_(?P<input>[A-Za-z0-9]{1,64})")

RESULT_ORDINAL = 0
"""What a run returned that is not text, as a text item: parts begin at 1."""


@dataclass(frozen=True, slots=True)
class ResponseRef:
    """What a response id names."""

    run_id: str
    leg: int

    @property
    def id(self) -> str:
        """The response id."""
        return f"resp_{self.run_id.removeprefix('run_')}" + (f"-{self.leg}" if self.leg else "")


@dataclass(frozen=True, slots=True)
class ItemRef:
    """What the id of an output item names."""

    run_id: str
    ordinal: int


@dataclass(frozen=True, slots=True)
class QuestionRef:
    """What the id of an approval request names."""

    run_id: str
    input_id: str


def response_ref(response_id: str) -> ResponseRef | None:
    """Take a response id apart; None when it is none."""
    found = _RESPONSE.fullmatch(response_id)
    return ResponseRef(f"run_{found['run']}", int(found["leg"] or 0)) if found else None


def item_id(prefix: Prefix, run_id: str, ordinal: int) -> str:
    """Return the id of an output item."""
    return f"{prefix}_{run_id.removeprefix('run_')}_{ordinal}"


def item_ref(item: str) -> ItemRef | None:
    """Take the id of an output item apart; None when it is none."""
    found = _ITEM.fullmatch(item)
    return ItemRef(f"run_{found['run']}", int(found["ordinal"])) if found else None


def approval_id(run_id: str, input_id: str) -> str:
    """Return the id of an approval request."""
    return f"mcpr_{run_id.removeprefix('run_')}_{input_id.removeprefix('inp_')}"


def question_ref(approval: str) -> QuestionRef | None:
    """Take the id of an approval request apart; None when it is none."""
    found = _APPROVAL.fullmatch(approval)
    return QuestionRef(f"run_{found['run']}", f"inp_{found['input']}") if found else None


def conversation_id(thread_id: str) -> str:
    """Return the id of a conversation: OpenAI's prefix on the core's own ids, and names of clients as they are."""
    return f"conv_{thread_id.removeprefix('thr_')}" if thread_id.startswith("thr_") else thread_id


def question_id(run_id: str, input_id: str) -> str:
    """Return the id of the text item that a question becomes. No part has it."""
    return f"msg_{run_id.removeprefix('run_')}_q{input_id.removeprefix('inp_')}"


def is_question(item: str) -> bool:
    """Tell whether an item is a question of a run, in words or not."""
    return _APPROVAL.fullmatch(item) is not None or _SENTENCE.fullmatch(item) is not None


def thread_id(conversation: str) -> str:
    """Return the thread of a conversation."""
    return f"thr_{conversation.removeprefix('conv_')}" if conversation.startswith("conv_") else conversation
