"""What an agent can do, in AG-UI's words, and the list of agents as CopilotKit's client asks for it.

Owns the mapping from what an agent declares. Nothing is claimed that neither the agent nor this server says of itself.
"""

from __future__ import annotations

from collections.abc import Iterable

from edge.protocols.ag_ui.frames import given
from penstock.v1.agent_pb2 import Agent

CLASS_NAME = "PenstockAgent"


def capabilities_of(agent: Agent) -> dict[str, object]:
    """Return the `AgentCapabilities` of an agent."""
    declared = set(agent.capabilities)
    has_tools = "tools" in declared or None
    return given(
        {
            "identity": _identity(agent),
            "transport": {"streaming": True, "websocket": False, "httpBinary": False, "resumable": False},
            "tools": {"supported": True, "clientProvided": True} if has_tools else None,
            "output": {"supportedMimeTypes": list(agent.output_modes) or ["text/plain"]},
            "state": {"snapshots": True, "deltas": True, "persistentState": True},
            "reasoning": {"supported": True, "streaming": True} if "reasoning" in declared else None,
            "multimodal": {"input": _input(agent)} if agent.input_modes else None,
            "humanInTheLoop": {"supported": True, "interrupts": True},
        }
    )


def runtime_info(agents: Iterable[Agent], version: str) -> dict[str, object]:
    """Return what CopilotKit's client reads from `/info`."""
    described = {
        agent.id: {
            "name": agent.id,
            "className": CLASS_NAME,
            "description": agent.description,
            "capabilities": capabilities_of(agent),
        }
        for agent in agents
    }
    return {"version": version, "agents": described, "mode": "sse", "audioFileTranscriptionEnabled": False}


def _identity(agent: Agent) -> dict[str, object]:
    return given(
        {
            "name": agent.name or agent.id,
            "type": "penstock",
            "description": agent.description or None,
            "version": agent.version or None,
            "provider": agent.owner or None,
            "metadata": dict(agent.metadata) or None,
        }
    )


def _input(agent: Agent) -> dict[str, object]:
    modes = agent.input_modes
    groups = {mode.partition("/")[0] for mode in modes}
    return {
        "image": "image" in groups,
        "audio": "audio" in groups,
        "video": "video" in groups,
        "pdf": "application/pdf" in modes or "application/*" in modes,
    }
