"""How a process gets its settings: flags over environment over `penstock.toml` over defaults.

Owns the order of the sources, the names that a setting has in each of them, and what is said about a bad
value. It knows no setting but those of the log: each process declares its own in a subclass that names its
table.

    class EdgeSettings(Settings, table="edge"):
        port: int = Field(8080, ge=0, le=65535, description="Port of the HTTP server; 0 takes a free one.")

    EdgeSettings.load(port=9000)    # the rest: PENSTOCK_<FIELD>, then [edge] <field>, then the default
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Literal, Self

from pydantic import Field, SecretStr, ValidationError
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, InitSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict
from pydantic_settings import SettingsError as UnreadableVariable

ENV_PREFIX = "PENSTOCK_"
CONFIG_VARIABLE = "PENSTOCK_CONFIG"
CONFIG_FILE = "penstock.toml"
TABLES = ("core", "edge", "worker", "client")
"""The tables that a `penstock.toml` may have, one per settings class."""
UNFOLDED = ("protocols",)
"""Tables of tables, whose lines are fields of one of these classes; see `Settings.unfolds`."""

LogLevel = Literal["debug", "info", "warning", "error"]


class SettingsError(Exception):
    """A setting that cannot be used. The message names the setting, and says where it can be set."""


class Settings(BaseSettings):
    """The settings of one process. Fields have a default and a description; validation is pydantic's."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX, env_ignore_empty=True, extra="forbid", frozen=True, validate_default=True
    )

    table: ClassVar[str] = ""
    unfolds: ClassVar[str] = ""
    """A table of tables: `[protocols.openai] prefix` is the field `protocols_openai_prefix`."""

    log_level: LogLevel = Field("info", description="Least severe log lines that are written.")
    log_json: bool = Field(False, description="Write the log as JSON lines.")

    def __init_subclass__(cls, *, table: str, unfolds: str = "") -> None:
        super().__init_subclass__()
        cls.table = table
        cls.unfolds = unfolds

    @classmethod
    def load(cls, **flags: object) -> Self:
        """Returns the settings. A flag of None counts as not given. Raises SettingsError."""
        given = {name: value for name, value in flags.items() if value is not None}
        try:
            return cls.model_validate(given)
        except ValidationError as invalid:
            complaints = [_complaint(cls, error, given) for error in invalid.errors()]
            raise SettingsError("\n".join(complaints)) from invalid
        except UnreadableVariable as unreadable:
            raise SettingsError(f"The environment cannot be read: {unreadable}") from unreadable

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The order of the sources, strongest first."""
        return init_settings, env_settings, InitSettingsSource(settings_cls, _read_table(cls))


def flag_name(field: str) -> str:
    """`grpc_port` → `--grpc-port`."""
    return "--" + field.replace("_", "-")


def variable_name(field: str) -> str:
    """`grpc_port` → `PENSTOCK_GRPC_PORT`."""
    return ENV_PREFIX + field.upper()


def config_path() -> Path | None:
    """The file that settings are read from, or None when there is none."""
    named = os.environ.get(CONFIG_VARIABLE)
    path = Path(named or CONFIG_FILE)
    if path.is_file():
        return path
    if named:
        raise SettingsError(f"{CONFIG_VARIABLE} names {named}, which is not a file.")
    return None


def _read_table(settings: type[Settings]) -> dict[str, object]:
    path = config_path()
    if path is None:
        return {}
    try:
        tables: Mapping[str, object] = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as unreadable:
        raise SettingsError(f"{path} cannot be read: {unreadable}") from unreadable
    _refuse_unknown(path, "", tables, (*TABLES, *UNFOLDED))
    table = _table(path, settings.table, tables)
    _refuse_unknown(path, f"[{settings.table}] ", table, settings.model_fields)
    return {**table, **_unfolded(path, settings, tables)}


def _table(path: Path, name: str, tables: Mapping[str, object]) -> dict[str, object]:
    table = tables.get(name.rpartition(".")[2], {})
    if not isinstance(table, dict):
        raise SettingsError(f"{path}: `{name}` must be a table: [{name}].")
    return table


def _unfolded(path: Path, settings: type[Settings], tables: Mapping[str, object]) -> dict[str, object]:
    """The fields that stand in tables of their own."""
    outer = settings.unfolds
    if not outer:
        return {}
    fields: dict[str, object] = {}
    inner = _table(path, outer, tables)
    known = [name.removeprefix(f"{outer}_") for name in settings.model_fields if name.startswith(f"{outer}_")]
    _refuse_unknown(path, "", {f"{outer}.{name}": 0 for name in inner}, tuple(_groups(outer, known)))
    for name in inner:
        place = f"{outer}.{name}"
        table = _table(path, place, inner)
        keys = tuple(field.removeprefix(f"{name}_") for field in known if field.startswith(f"{name}_"))
        _refuse_unknown(path, f"[{place}] ", table, keys)
        fields |= {f"{outer}_{name}_{key}": value for key, value in table.items()}
    return fields


def _groups(outer: str, known: list[str]) -> list[str]:
    """`["openai_prefix", "openai_enabled"]` → `["protocols.openai"]`."""
    return list(dict.fromkeys(f"{outer}.{name.rpartition('_')[0]}" for name in known))


def _refuse_unknown(
    path: Path, place: str, keys: Mapping[str, object], known: tuple[str, ...] | Mapping[str, object]
) -> None:
    unknown = sorted(set(keys) - set(known))
    if unknown:
        raise SettingsError(
            f"{path}: unknown {'key' if place else 'table'} {place}{unknown[0]}. Known: {', '.join(known)}."
        )


def _complaint(settings: type[Settings], error: ErrorDetails, flags: Mapping[str, object]) -> str:
    field = str(error["loc"][0]) if error["loc"] else settings.table
    flag, variable = flag_name(field), variable_name(field)
    if field not in settings.model_fields:
        return f"{field}: {error['msg']}."
    if field in flags:
        source = flag
    elif os.environ.get(variable):
        source = variable
    else:
        source = f"[{settings.table}] {field} in {CONFIG_FILE}"
    shown = "a secret" if settings.model_fields[field].annotation is SecretStr else repr(error["input"])
    return (
        f"{source} is {shown}: {error['msg']}. "
        f"Set it by {flag}, {variable} or [{settings.table}] {field} in {CONFIG_FILE}."
    )
