"""`penstock schedules` and `penstock retention`, as processes of their own, against a real `penstock up`."""

from __future__ import annotations

import json

import pytest

from tests.cli.test_clients import objects
from tests.cli.up import Up


@pytest.fixture
def schedule(penstock_up: Up) -> dict[str, object]:
    """A schedule that is due once a year."""
    done = penstock_up.command(
        "schedules", "create", "0 0 1 1 *", "echo", "happy new year", "--name=yearly", "--thread=years", "--json"
    )
    assert done.returncode == 0, done.stderr
    [created] = objects(done.stdout)
    return created


def test_created_schedule_is_listed(penstock_up: Up, schedule: dict[str, object]) -> None:
    assert (schedule["cron"], schedule["name"], schedule["thread_id"]) == ("0 0 1 1 *", "yearly", "years")
    assert str(schedule["next_time"]).endswith("-01-01T00:00:00Z")
    assert schedule in objects(penstock_up.command("schedules", "list", "--agent=echo", "--json").stdout)
    assert penstock_up.command("schedules", "list", "--agent=nobody", "--json").stdout == ""
    head, first, *_ = penstock_up.command("schedules", "list").stdout.splitlines()
    assert head.split("\t") == ["SCHEDULE", "AGENT", "CRON", "TIME ZONE", "NEXT", "LAST", "LAST RUN", "NAME"]
    assert first.split("\t")[:4] == [schedule["id"], "echo", "0 0 1 1 *", "UTC"]


def test_schedule_is_paused_resumed_and_deleted(penstock_up: Up, schedule: dict[str, object]) -> None:
    schedule_id = str(schedule["id"])
    assert penstock_up.command("schedules", "pause", schedule_id).stdout == f"{schedule_id} is paused\n"
    resumed = penstock_up.command("schedules", "resume", schedule_id, "--json")
    assert objects(resumed.stdout) == [schedule]
    assert penstock_up.command("schedules", "resume", schedule_id).stdout.startswith(f"{schedule_id} is due at ")
    assert penstock_up.command("schedules", "delete", schedule_id).stdout == f"{schedule_id} is deleted\n"
    again = penstock_up.command("schedules", "delete", schedule_id)
    assert (again.returncode, "SCHEDULE_NOT_FOUND" in again.stderr) == (1, True)


def test_bad_schedules_are_refused_with_the_reason(penstock_up: Up) -> None:
    done = penstock_up.command("schedules", "create", "every day", "echo", "x")
    assert (done.returncode, "five fields" in done.stderr) == (1, True)
    done = penstock_up.command("schedules", "create", "0 0 1 1 *", "echo", "x", "--time-zone=Mars")
    assert (done.returncode, "Europe/Berlin" in done.stderr) == (1, True)
    done = penstock_up.command("schedules", "create", "0 0 1 1 *", "echo")
    assert (done.returncode, "TEXT or --input" in done.stderr) == (2, True)
    done = penstock_up.command("schedules", "create", "0 0 1 1 *", "echo", "x", "--webhook=https://example.com/")
    assert (done.returncode, "WEBHOOKS_DISABLED" in done.stderr) == (1, True)


def test_policies_are_set_shown_and_deleted(penstock_up: Up) -> None:
    done = penstock_up.command("retention", "set", "--events=30d", "--messages=forever")
    assert done.stdout == "AGENT\tEVENTS\tMESSAGES\tRUNS\n(all agents)\t30d\tforever\t\n", done.stderr
    done = penstock_up.command("retention", "set", "--agent=echo", "--runs=52w", "--json")
    assert json.loads(done.stdout) == {"agent_id": "echo", "keep_runs": 31_449_600.0}
    assert penstock_up.command("retention", "show").stdout == (
        "AGENT\tEVENTS\tMESSAGES\tRUNS\n(all agents)\t30d\tforever\t\necho\t\t\t52w\n"
    )
    assert [row.get("agent_id") for row in objects(penstock_up.command("retention", "show", "--json").stdout)] == [
        None,
        "echo",
    ]
    assert penstock_up.command("retention", "delete").stdout == "The policy of all agents is deleted\n"
    assert penstock_up.command("retention", "delete", "--agent=echo").stdout == "The policy of echo is deleted\n"
    done = penstock_up.command("retention", "delete")
    assert (done.returncode, "RETENTION_NOT_FOUND" in done.stderr) == (1, True)


def test_policy_that_says_nothing_is_a_usage_error(penstock_up: Up) -> None:
    done = penstock_up.command("retention", "set", "--agent=echo")
    assert (done.returncode, "at least one" in done.stderr) == (2, True)
    done = penstock_up.command("retention", "set", "--events=30")
    assert (done.returncode, "is no duration" in done.stderr) == (2, True)
