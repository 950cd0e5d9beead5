"""An app: the agents that a worker serves, and what they say about themselves.

It runs nothing: `penstock/worker.py` does.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from penstock.handlers import Handler, HandlerFunction
from penstock.v1.agent_pb2 import Agent, Skill

_AGENT_ID = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")

AnyHandler = TypeVar("AnyHandler", bound=HandlerFunction)


@dataclass(frozen=True)
class ServedAgent:
    """An agent and the code behind it."""

    declaration: Agent
    handler: Handler


class App:
    """A named set of agents."""

    def __init__(self, name: str, *, version: str = "", owner: str = "") -> None:
        """`version` and `owner` are those of its agents, unless they bring their own."""
        self.name = name
        self.version = version
        self.owner = owner
        self.agents: dict[str, ServedAgent] = {}

    def agent(
        self,
        agent_id: str,
        *,
        description: str = "",
        name: str = "",
        version: str = "",
        owner: str = "",
        capabilities: Sequence[str] = (),
        skills: Sequence[Skill] = (),
        input_modes: Sequence[str] = (),
        output_modes: Sequence[str] = (),
        metadata: Mapping[str, str] | None = None,
        concurrency: int = 0,
        replayable: bool = True,
    ) -> Callable[[AnyHandler], AnyHandler]:
        """Declare the decorated handler as an agent; see agent.proto for what the fields mean.

        A handler takes a `Run`. It is async or sync, a function or a generator; it yields or returns text or outputs,
        and what else it returns is the run's result. Without a description the first line of its docstring is used.
        """
        declaration = Agent(
            id=agent_id,
            name=name or agent_id,
            description=description,
            version=version or self.version,
            owner=owner or self.owner,
            capabilities=capabilities,
            skills=skills,
            input_modes=input_modes,
            output_modes=output_modes,
            metadata=metadata,
            concurrency=concurrency,
            replayable=replayable,
        )

        def register(handler: AnyHandler) -> AnyHandler:
            declaration.description = description or _first_line(handler)
            self._add(ServedAgent(declaration, Handler(handler)))
            return handler

        return register

    def run(self, **settings: object) -> None:
        """Start a core, an edge and a worker with this app, and serve until Ctrl-C: what `penstock up FILE:APP` does.

        Settings are the options of `penstock up`, with underscores: `port=9000`, `log_json=True`. The app must be a
        global of the file that Python was started with, because the worker is a process of its own and imports it.
        """
        from penstock.cli import flags, main  # the command line needs the App

        main(["up", *flags.command_line(settings), self._address()], prog_name="penstock")

    def _add(self, agent: ServedAgent) -> None:
        agent_id = agent.declaration.id
        if not _AGENT_ID.fullmatch(agent_id):
            raise ValueError(
                f"{agent_id!r} is no agent id: at most 64 of a–z, 0–9, `.`, `_`, `-`, the first a letter or a digit"
            )
        if agent_id in self.agents:
            raise ValueError(f"the app {self.name} has an agent {agent_id} already")
        self.agents[agent_id] = agent

    def _address(self) -> str:
        main_module = sys.modules["__main__"]
        file = getattr(main_module, "__file__", None)
        names = [name for name, value in vars(main_module).items() if value is self]
        if not file or not names:
            raise RuntimeError("app.run() is called in a file that has the app as a global; else use `penstock up`")
        return f"{Path(file).resolve()}:{names[0]}"


def _first_line(handler: object) -> str:
    return (inspect.getdoc(handler) or "").partition("\n")[0]
