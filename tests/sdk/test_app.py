"""Declaring agents, and what importing the package costs."""

import subprocess
import sys

import pytest

import penstock
from penstock import App, Run


def nothing(run: Run) -> None:
    """Does nothing.

    At length.
    """


def test_a_declaration_takes_what_it_lacks_from_the_app_and_the_docstring() -> None:
    app = App("support", version="3", owner="team@example.org")
    skill = penstock.Skill(id="s", name="S")

    app.agent("a.b-c_1")(nothing)
    app.agent("full", name="Full", version="4", description="D", capabilities=["tools"], skills=[skill])(nothing)

    plain, full = (app.agents[name].declaration for name in ("a.b-c_1", "full"))
    assert (plain.name, plain.description, plain.version, plain.owner) == ("a.b-c_1", "Does nothing.", "3", app.owner)
    assert plain.replayable
    assert (full.name, full.description, full.version) == ("Full", "D", "4")
    assert (list(full.capabilities), full.skills[0].id) == (["tools"], "s")


@pytest.mark.parametrize("agent_id", ["", "Echo", "-x", "a b", "ä", "x" * 65])
def test_an_agent_id_that_the_contract_does_not_allow_is_refused(agent_id: str) -> None:
    with pytest.raises(ValueError, match="is no agent id"):
        App("test").agent(agent_id)(nothing)


def test_an_agent_id_is_used_once() -> None:
    app = App("test")
    app.agent("a")(nothing)

    with pytest.raises(ValueError, match="has an agent a already"):
        app.agent("a")(nothing)


def test_the_decorated_function_stays_what_it_is() -> None:
    assert App("test").agent("a")(nothing) is nothing


def test_an_app_that_is_no_global_of_a_file_cannot_start_by_itself() -> None:
    with pytest.raises(RuntimeError, match="penstock up"):
        App("test").run()


def test_every_public_name_can_be_imported() -> None:
    assert all(getattr(penstock, name) is not None for name in penstock.__all__)
    assert set(penstock.__all__) <= set(dir(penstock))
    with pytest.raises(AttributeError, match="nonsense"):
        penstock.nonsense  # noqa: B018


def test_importing_the_contract_loads_nothing_of_the_sdk() -> None:
    code = "import sys, penstock.v1.run_pb2; print({'grpc', 'structlog', 'msgspec', 'penstock.app'} & set(sys.modules))"
    shown = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)

    assert shown.stdout.strip() == "set()"
