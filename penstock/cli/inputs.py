"""`penstock inputs`: the questions of runs, and answers to them."""

from __future__ import annotations

import json
from datetime import UTC

import click

from penstock.cli.client import core_flags, json_flag, talk
from penstock.cli.tables import show_table
from penstock.client import Client
from penstock.flat_json import dumps, enum_names, flat
from penstock.v1.run_pb2 import Input, InputKind, InputOutcome
from penstock.v1.run_service_pb2 import InputState

_KINDS = enum_names(InputKind.DESCRIPTOR)
_OUTCOMES = enum_names(InputOutcome.DESCRIPTOR)
STATES = {
    "open": InputState.INPUT_STATE_OPEN,
    "settled": InputState.INPUT_STATE_SETTLED,
    "any": InputState.INPUT_STATE_ANY,
}


@click.group
def inputs() -> None:
    """List questions of runs, and answer them."""


@inputs.command("list")
@click.option("--run", "run_id", default="", metavar="RUN", help="Only questions of this run.")
@click.option("--agent", default="", metavar="AGENT", help="Only questions of this agent's runs.")
@click.option("--thread", default="", metavar="THREAD", help="Only questions of this thread's runs.")
@click.option("--state", type=click.Choice(list(STATES)), default="open", show_default=True, help="Which.")
@click.option("--limit", default=20, show_default=True, help="At most so many.")
@json_flag
@core_flags
def list_inputs(
    run_id: str, agent: str, thread: str, state: str, limit: int, *, as_json: bool, **given: object
) -> None:
    """List questions, oldest first."""

    async def conversation(client: Client) -> int:
        found: list[Input] = []
        async for one in client.inputs(run_id=run_id, agent_id=agent, thread_id=thread, state=STATES[state]):
            if len(found) == limit:
                break
            found.append(one)
        if as_json:
            for one in found:
                click.echo(dumps(flat(one)))
        else:
            columns = ("INPUT", "KIND", "ASKS", "TOOL", "ARGUMENTS", "RUN", "UNTIL", "OUTCOME")
            show_table(columns, [_row(one) for one in found], when_empty="There are no such questions.")
        return 0

    talk(given, conversation)


@inputs.command
@click.argument("input_id", metavar="INPUT")
@click.argument("text", required=False)
@click.option("--json-answer", metavar="JSON", help="The answer as a JSON object that fits the question's schema.")
@click.option("--approve", is_flag=True, help="Approve what is asked for.")
@click.option("--deny", is_flag=True, help="Do not approve it.")
@click.option("--comment", default="", help="Why; with --approve or --deny.")
@click.option("--decline", is_flag=True, help="Do not answer at all.")
@click.option("--by", default="", metavar="NAME", help="Who answers, for the log of the run.")
@json_flag
@core_flags
def answer(
    input_id: str,
    text: str | None,
    json_answer: str | None,
    comment: str,
    by: str,
    *,
    approve: bool,
    deny: bool,
    decline: bool,
    as_json: bool,
    **given: object,
) -> None:
    """Answer a question: by TEXT, by --approve or --deny, by a JSON object, or --decline to."""
    ways = (text is not None, json_answer is not None, approve, deny, decline)
    if sum(ways) != 1:
        raise click.UsageError("Give one of TEXT, --json-answer, --approve, --deny, --decline.")
    value = _value(text, json_answer, approve=approve, comment=comment)

    async def conversation(client: Client) -> int:
        run_id = await _asked_by(client, input_id)
        run = await client.answer(run_id, input_id, value, declined=decline, answered_by=by)
        click.echo(dumps(flat(run)) if as_json else f"{run.id} goes on; see `penstock runs watch {run.id}`")
        return 0

    talk(given, conversation)


async def _asked_by(client: Client, input_id: str) -> str:
    """Return the run that asks a question."""
    async for one in client.inputs(state=InputState.INPUT_STATE_ANY):
        if one.request.id == input_id:
            return one.run_id
    raise click.ClickException(f"There is no question {input_id}.")


def _value(text: str | None, json_answer: str | None, *, approve: bool, comment: str) -> object:
    if json_answer is not None:
        try:
            return json.loads(json_answer)
        except ValueError as invalid:
            raise click.BadParameter(f"no JSON: {invalid}", param_hint="--json-answer") from invalid
    if text is not None:
        return {"answer": text}
    return {"approved": approve} | ({"comment": comment} if comment else {})


def _row(one: Input) -> tuple[str, ...]:
    request = one.request
    until = f"{request.expire_time.ToDatetime(UTC).astimezone():%Y-%m-%d %H:%M}" if not one.outcome else ""
    return (
        request.id,
        _KINDS.get(request.kind, "unknown"),
        request.message,
        request.tool_name,
        request.arguments_json,
        one.run_id,
        until,
        _OUTCOMES.get(one.outcome, "unknown") if one.outcome else "",
    )
