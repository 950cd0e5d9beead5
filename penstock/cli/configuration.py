"""Makes docs/configuration.md from the settings classes. A test holds the file against it.

To renew it: `python -m penstock.cli.configuration > docs/configuration.md`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

from penstock.cli.flags import as_text, default_of, kind
from penstock.cli.settings import PROCESSES
from penstock.settings import Settings, flag_name, variable_name

INTRODUCTION = """\
# Configuration

Each process has one table of settings. A setting has the same name everywhere: `grpc_port` is the flag `--grpc-port`,
the environment variable `PENSTOCK_GRPC_PORT` and the line `grpc_port = 50051` in the table `[core]` of
`penstock.toml`. The first of these that is set counts:

1. the flag,
2. the environment variable (an empty one counts as not set),
3. `penstock.toml` in the working directory, or the file that `PENSTOCK_CONFIG` names,
4. the default.

```toml
[core]
data = "/var/lib/penstock"
lease = 20

[edge]
port = 8000

[protocols.openai]
prefix = "/api/v1"

[protocols.ag_ui]
enabled = false
```

Where the edge serves a protocol, and whether it does, may stand in a table of the protocol's own, as above: `native`,
`websocket`, `openai`, `ai_sdk`, `ag_ui`. `[protocols.openai] prefix` is the setting `protocols_openai_prefix`, with a
flag and a variable like any other. What was moved is not served at its aliases (`/openai/v1`, `/ag-ui/agent`).

A variable speaks to every process that has such a setting (`log_level`, `log_json`, `core`; no other name is used
twice), a line in the file only to that of its table. An unknown table or key in the file, and a value that does not
fit, end the process with a message that names it. A variable `PENSTOCK_…` that is no setting is told loudly at the
start, with the name that was probably meant.

`penstock up` starts a core, an edge and a worker with these settings. On one machine it prefers other defaults:
{defaults}.

Nothing asks callers who they are yet. All listeners bind the loopback address; a process told to bind another one says
so loudly on standard error.
"""


def page() -> str:
    """The whole file."""
    tables = (section for process in PROCESSES for section in _section(*process))
    return "\n".join([INTRODUCTION.format(defaults=_up_defaults()), *tables])


def _section(settings: type[Settings], used_by: str) -> Iterator[str]:
    yield f"## `[{settings.table}]`: {used_by}\n"
    yield "| flag | variable | value | default | |"
    yield "|---|---|---|---|---|"
    for name, field in settings.model_fields.items():
        looks, default = kind(field).replace("|", " \\| "), as_text(default_of(field))
        shown = f"`{default}`" if default else ""
        yield f"| `{flag_name(name)}` | `{variable_name(name)}` | {looks} | {shown} | {field.description} |"
    yield ""


def _up_defaults() -> str:
    # Not at the top: `up` and this page need nothing of each other but this table.
    from penstock.cli.up import DEFAULTS

    return ", ".join(
        f"`{name}` of the {settings.table} {as_text(value)}"
        for settings, values in DEFAULTS.items()
        for name, value in values.items()
    )


if __name__ == "__main__":
    sys.stdout.write(page())
