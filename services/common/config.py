"""Settings of a service: frozen, from the environment, unknown keys refused."""

from __future__ import annotations

import json
import os
import re
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import Field, SecretStr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, SettingsConfigDict
from pydantic_settings import SettingsError as UnreadableSetting

LogLevel = Literal["DEBUG", "INFO", "WARNING", "ERROR"]
Port = Annotated[int, Field(ge=0, le=65535)]
PositiveSeconds = Annotated[float, Field(gt=0)]

MASK = "********"
# A user and a password within an address, such as nats://user:password@host.
_USER_INFO = re.compile(r"(?<=://)[^\s,]+(?=@)")


class StartupError(Exception):
    """The service cannot start on this machine; the text says what to change."""


class SettingsError(Exception):
    """The environment does not make valid settings; the text says what to change."""


class ServiceSettings(BaseSettings):
    """What every service is told. Times are in seconds."""

    model_config = SettingsConfigDict(frozen=True, extra="forbid")

    service: ClassVar[str]

    listen_host: str = Field("127.0.0.1", description="address to listen on; loopback by default")
    listen_port: Port = Field(50051, description="gRPC port; 0 takes a free one")
    metrics_port: Port = Field(9090, description="port of /metrics; 0 takes a free one")
    log_level: LogLevel = Field("INFO", description="lowest level that is logged")
    # The longest that is called for: a probe of 30 s, and looking up its source before.
    rpc_seconds: PositiveSeconds = Field(
        60, description="limit of a unary RPC, also where its caller sets no deadline"
    )
    drain_seconds: PositiveSeconds = Field(
        30, description="how long running RPCs may go on after SIGTERM"
    )

    @property
    def on_loopback(self) -> bool:
        """Whether only this machine can connect."""
        return self.listen_host in ("127.0.0.1", "::1", "localhost")


S = TypeVar("S", bound=ServiceSettings)


def load_settings(kind: type[S]) -> S:
    """Return the settings of `kind` from the environment.

    Raises:
        SettingsError: a value is not valid, a required one is missing, or a
            variable with the service's prefix is unknown (a typing error
            would otherwise be a silent default).
    """
    prefix = kind.model_config.get("env_prefix", "")
    named = {name.removeprefix(prefix).lower() for name in os.environ if name.startswith(prefix)}
    unknown = sorted(named - set(kind.model_fields))
    if unknown:
        names = ", ".join(prefix + name.upper() for name in unknown)
        raise SettingsError(f"unknown settings: {names}; --help lists the known ones")
    try:
        return kind()
    except ValidationError as error:
        problems = "; ".join(
            f"{prefix}{'_'.join(str(part) for part in item['loc']).upper()}: {item['msg']}"
            for item in error.errors()
        )
        raise SettingsError(problems) from None
    except UnreadableSetting as error:
        # A list that is not JSON; the library's text names the field and not the value.
        raise SettingsError(f"{prefix}…: {error}") from None


def describe(kind: type[ServiceSettings]) -> str:
    """Return the help text: every variable with its default and meaning."""
    prefix = kind.model_config.get("env_prefix", "")
    lines = []
    for name, field in kind.model_fields.items():
        lines.append(f"  {prefix}{name.upper()}{_default(field)}\n      {field.description}")
    return "\n".join(lines)


def _default(field: FieldInfo) -> str:
    """Return a default as the environment would have it; nothing where the description says it."""
    if field.is_required():
        return "  (required)"
    value = field.default
    if field.default_factory is not None or value is None or value == "":
        return ""
    return f"  (default {json.dumps(value) if isinstance(value, list | tuple) else value})"


def visible(settings: ServiceSettings) -> dict[str, Any]:
    """Return the settings as they may be shown and logged: secrets masked."""
    return {name: _masked(value) for name, value in settings}


def _masked(value: Any) -> Any:
    if isinstance(value, SecretStr):
        return MASK
    return _USER_INFO.sub(MASK, value) if isinstance(value, str) else value


def show(settings: ServiceSettings) -> str:
    """Return the settings as lines of NAME=value, secrets masked."""
    prefix = settings.model_config.get("env_prefix", "")
    return "\n".join(f"{prefix}{name.upper()}={value}" for name, value in visible(settings).items())
