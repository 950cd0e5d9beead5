"""`penstock threads`: list, show, fork and delete threads, and read or change their state."""

from __future__ import annotations

import json

import click

from penstock.cli.client import core_flags, json_flag, talk
from penstock.cli.messages import show_messages
from penstock.cli.tables import local_time, plain, show_table
from penstock.client import Client
from penstock.flat_json import dumps, flat
from penstock.v1.thread_pb2 import Thread, ThreadStorage

NEVER_SET = "{}"
"""What a state is that nobody has set, as over REST."""


@click.group
def threads() -> None:
    """List, show, fork and delete threads, and read or change their state."""


@threads.command("list")
@click.option("--limit", default=20, show_default=True, help="At most so many.")
@json_flag
@core_flags
def list_threads(limit: int, *, as_json: bool, **given: object) -> None:
    """List threads, newest first."""

    async def conversation(client: Client) -> int:
        found: list[Thread] = []
        async for thread in client.threads():
            if len(found) == limit:
                break
            found.append(thread)
        if as_json:
            for thread in found:
                click.echo(dumps(flat(thread)))
        else:
            columns = ("THREAD", "MESSAGES", "ACTIVE RUN", "CREATED", "NEWEST RUN", "FORKED FROM")
            show_table(columns, [_row(thread) for thread in found], when_empty="There are no threads.")
        return 0

    talk(given, conversation)


@threads.command
@click.argument("thread_id", metavar="THREAD")
@json_flag
@core_flags
def show(thread_id: str, *, as_json: bool, **given: object) -> None:
    """Tell all about a thread: what was said in it, and what it occupies in the store."""

    async def conversation(client: Client) -> int:
        thread = await client.thread(thread_id)
        storage = await client.thread_storage(thread_id)
        messages = [message async for message in client.messages(thread_id)]
        told = flat(thread) | {"storage": _figures(storage)}
        if as_json:
            click.echo(dumps(told | {"messages": [flat(message) for message in messages]}))
        else:
            rows = [(name, plain(value)) for name, value in told.items() if value != {}]
            show_table(("FIELD", "VALUE"), rows, when_empty="")
            show_messages(messages)
        return 0

    talk(given, conversation)


@threads.command
@click.argument("thread_id", metavar="THREAD")
@click.option("--set", "new_state", metavar="JSON", help="Replace the state by this.")
@click.option("--patch", metavar="JSON", help="Change the state by this JSON Patch, a list of operations.")
@click.option("--if-version", type=int, metavar="VERSION", help="Only if this is the state's version.")
@json_flag
@core_flags
def state(
    thread_id: str,
    new_state: str | None,
    patch: str | None,
    if_version: int | None,
    *,
    as_json: bool,
    **given: object,
) -> None:
    """Print the state of a thread, after a change if one is asked for. It cannot be changed while a run is active."""
    if new_state is not None and patch is not None:
        raise click.UsageError("Give either --set or --patch.")
    if if_version is not None and new_state is None and patch is None:
        raise click.UsageError("--if-version belongs to --set or --patch.")
    value = _value(new_state, "--set")
    operations = _operations(patch)

    async def conversation(client: Client) -> int:
        if operations is not None:
            thread = await client.patch_state(thread_id, operations, expected_version=if_version)
        elif new_state is not None:
            thread = await client.set_state(thread_id, value, expected_version=if_version)
        else:
            thread = await client.thread(thread_id)
        if as_json:
            click.echo(dumps(flat(thread)))
        else:
            click.echo(thread.state_json or NEVER_SET)
        return 0

    talk(given, conversation)


@threads.command
@click.argument("thread_id", metavar="THREAD")
@click.option("--at-message", default="", metavar="MESSAGE", help="Fork behind this message, not at the end.")
@click.option("--at-event", default="", metavar="RUN:SEQ", help="Fork behind this event of one of its runs.")
@click.option("--id", "new_thread_id", default="", metavar="THREAD", help="The id of the new thread.")
@json_flag
@core_flags
def fork(thread_id: str, at_message: str, at_event: str, new_thread_id: str, *, as_json: bool, **given: object) -> None:
    """Make a thread with the messages and the state of THREAD, and print its id."""
    if at_message and at_event:
        raise click.UsageError("Give either --at-message or --at-event.")
    event = _event(at_event)

    async def conversation(client: Client) -> int:
        thread = await client.fork_thread(thread_id, message_id=at_message, event=event, new_thread_id=new_thread_id)
        click.echo(dumps(flat(thread)) if as_json else thread.id)
        return 0

    talk(given, conversation)


@threads.command
@click.argument("thread_ids", nargs=-1, required=True, metavar="THREAD...")
@click.option("--cancel", is_flag=True, help="Cancel active, waiting and delayed runs first, and wait for their ends.")
@core_flags
def delete(thread_ids: tuple[str, ...], *, cancel: bool, **given: object) -> None:
    """Delete threads with their runs, messages and state, for good."""

    async def conversation(client: Client) -> int:
        for thread_id in thread_ids:
            await client.delete_thread(thread_id, cancel=cancel)
            click.echo(f"{thread_id} is deleted")
        return 0

    talk(given, conversation)


def _row(thread: Thread) -> tuple[str, ...]:
    times = (local_time(thread.create_time), local_time(thread.update_time))
    return thread.id, str(thread.message_count), thread.active_run_id, *times, thread.forked_from_thread_id


def _figures(storage: ThreadStorage) -> dict[str, object]:
    return {name: value for name, value in flat(storage).items() if name != "thread_id"}


def _value(text: str | None, option: str) -> object:
    try:
        value: object = None if text is None else json.loads(text)
    except ValueError as invalid:
        raise click.BadParameter(f"no JSON: {invalid}", param_hint=option) from invalid
    return value


def _operations(text: str | None) -> list[dict[str, object]] | None:
    operations = _value(text, "--patch")
    if text is None:
        return None
    if not isinstance(operations, list) or not all(isinstance(one, dict) for one in operations):
        raise click.BadParameter("a JSON Patch is a list of objects", param_hint="--patch")
    return operations


def _event(text: str) -> tuple[str, int] | None:
    if not text:
        return None
    run_id, colon, seq = text.rpartition(":")
    if not colon or not seq.isdecimal():
        raise click.BadParameter("an event is written as RUN:SEQ", param_hint="--at-event")
    return run_id, int(seq)
