"""Penstock: serves agents. What authors and clients import.

The names are loaded when they are first used (PEP 562), so that `import penstock.v1`, which the core and the edge do,
brings in neither the SDK nor its dependencies.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from penstock.app import App
    from penstock.blocking import Blocking
    from penstock.children import ChildRun
    from penstock.client import Client
    from penstock.durable import Step
    from penstock.errors import (
        AgentError,
        Fatal,
        InvalidOutput,
        NonDeterministic,
        OutputDuringStep,
        Rejected,
        RunFailed,
        Suspended,
    )
    from penstock.outputs import (
        Custom,
        Message,
        Reasoning,
        State,
        StepEnded,
        StepStarted,
        Text,
        ToolCall,
        ToolCallDelta,
        ToolResult,
        ToolResultDelta,
        Usage,
    )
    from penstock.parts import Data, File, Source
    from penstock.questions import Answer
    from penstock.run import Run
    from penstock.v1.agent_pb2 import Skill

__all__ = [
    "AgentError",
    "Answer",
    "App",
    "Blocking",
    "ChildRun",
    "Client",
    "Custom",
    "Data",
    "Fatal",
    "File",
    "InvalidOutput",
    "Message",
    "NonDeterministic",
    "OutputDuringStep",
    "Reasoning",
    "Rejected",
    "Run",
    "RunFailed",
    "Skill",
    "Source",
    "State",
    "Step",
    "StepEnded",
    "StepStarted",
    "Suspended",
    "Text",
    "ToolCall",
    "ToolCallDelta",
    "ToolResult",
    "ToolResultDelta",
    "Usage",
]

_HOMES = {
    "penstock.app": ("App",),
    "penstock.blocking": ("Blocking",),
    "penstock.children": ("ChildRun",),
    "penstock.client": ("Client",),
    "penstock.durable": ("Step",),
    "penstock.errors": (
        "AgentError",
        "Fatal",
        "InvalidOutput",
        "NonDeterministic",
        "OutputDuringStep",
        "Rejected",
        "RunFailed",
        "Suspended",
    ),
    "penstock.parts": ("Data", "File", "Source"),
    "penstock.questions": ("Answer",),
    "penstock.run": ("Run",),
    "penstock.v1.agent_pb2": ("Skill",),
}
_MODULE_OF = {name: module for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(_MODULE_OF.get(name, "penstock.outputs")), name)
    globals()[name] = value  # the next use does not come here
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
