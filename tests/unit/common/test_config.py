"""Settings from the environment, and what is shown of them."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import pytest
from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import SettingsConfigDict

from services.api.settings import ApiSettings
from services.common.bootstrap import EXIT_BAD_SETTINGS, start
from services.common.config import (
    Port,
    ServiceSettings,
    SettingsError,
    describe,
    load_settings,
    show,
    visible,
)

SetEnv = Callable[..., None]


class SampleSettings(ServiceSettings):
    """One of each kind."""

    model_config = SettingsConfigDict(env_prefix="VIDEOEXPORT_SAMPLE_", frozen=True, extra="forbid")

    service: ClassVar[str] = "sample"

    listen_port: Port = Field(50059, description="gRPC port")
    password: SecretStr = Field(description="of the store")
    nats_url: str = Field("nats://127.0.0.1:4222", description="address of NATS")
    buckets: list[str] = Field([], description="JSON list")
    folder: Path = Field(Path("/tmp/sample"), description="where files lie")
    names: tuple[str, ...] = Field(("a",), description="JSON list")
    key: str = Field(default_factory=lambda: "made", description="default: a new one")
    program: Path | None = Field(None, description="default: the installed one")
    alias: str = Field("", description="default: none")


@pytest.fixture
def set_env(monkeypatch: pytest.MonkeyPatch) -> SetEnv:
    def apply(**values: str) -> None:
        for name, value in values.items():
            monkeypatch.setenv(f"VIDEOEXPORT_SAMPLE_{name.upper()}", value)

    return apply


def test_settings_come_from_the_environment(set_env: SetEnv) -> None:
    set_env(password="hush", listen_port="1234", buckets='["a", "b"]')
    settings = load_settings(SampleSettings)
    assert settings.password.get_secret_value() == "hush"
    assert settings.listen_port == 1234
    assert settings.buckets == ["a", "b"]
    assert settings.log_level == "INFO"


def test_settings_are_frozen(set_env: SetEnv) -> None:
    set_env(password="hush")
    settings = load_settings(SampleSettings)
    with pytest.raises(ValidationError):
        settings.listen_port = 1  # type: ignore[misc]


def test_unknown_variables_are_refused_by_name(set_env: SetEnv) -> None:
    set_env(password="hush", listen_prot="1", zoo="2")
    with pytest.raises(SettingsError) as raised:
        load_settings(SampleSettings)
    assert "VIDEOEXPORT_SAMPLE_LISTEN_PROT, VIDEOEXPORT_SAMPLE_ZOO" in str(raised.value)


def test_variables_of_other_services_are_none_of_ours(
    set_env: SetEnv, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_env(password="hush")
    monkeypatch.setenv("VIDEOEXPORT_OTHER_THING", "1")
    monkeypatch.setenv("VIDEOEXPORT_ADDRESS", "1")
    load_settings(SampleSettings)


def test_missing_setting_is_named() -> None:
    with pytest.raises(SettingsError, match="VIDEOEXPORT_SAMPLE_PASSWORD: Field required"):
        load_settings(SampleSettings)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("listen_port", "65536"),
        ("listen_port", "x"),
        ("log_level", "LOUD"),
        ("drain_seconds", "0"),
        ("drain_seconds", "-1"),
    ],
)
def test_invalid_value_is_named(set_env: SetEnv, name: str, value: str) -> None:
    set_env(password="hush", **{name: value})
    with pytest.raises(SettingsError, match=f"VIDEOEXPORT_SAMPLE_{name.upper()}: Input should"):
        load_settings(SampleSettings)


def test_list_that_is_not_json_is_one_sentence(set_env: SetEnv) -> None:
    set_env(password="hush", buckets="a,b")
    with pytest.raises(SettingsError, match="buckets"):
        load_settings(SampleSettings)


def test_every_invalid_value_is_listed(set_env: SetEnv) -> None:
    set_env(listen_port="x", log_level="y")
    with pytest.raises(SettingsError) as raised:
        load_settings(SampleSettings)
    for name in ("LISTEN_PORT", "LOG_LEVEL", "PASSWORD"):
        assert f"VIDEOEXPORT_SAMPLE_{name}" in str(raised.value)


def test_secrets_are_masked_where_settings_are_shown(set_env: SetEnv) -> None:
    set_env(password="hush", nats_url="nats://user:hush@one:4222,nats://token-hush@two:4222")
    settings = load_settings(SampleSettings)
    for text in (show(settings), str(visible(settings)), repr(settings.password)):
        assert "hush" not in text
    assert "VIDEOEXPORT_SAMPLE_PASSWORD=********" in show(settings)
    assert "NATS_URL=nats://********@one:4222,nats://********@two:4222" in show(settings)


def test_addresses_without_a_password_are_shown_as_they_are(set_env: SetEnv) -> None:
    set_env(password="hush", nats_url="nats://one:4222,nats://two:4222")
    assert "NATS_URL=nats://one:4222,nats://two:4222" in show(load_settings(SampleSettings))


def test_help_names_every_variable_and_whether_it_is_required() -> None:
    text = describe(SampleSettings)
    assert "VIDEOEXPORT_SAMPLE_PASSWORD  (required)\n      of the store" in text
    assert "VIDEOEXPORT_SAMPLE_LISTEN_PORT  (default 50059)" in text
    assert "VIDEOEXPORT_SAMPLE_NATS_URL  (default nats://127.0.0.1:4222)" in text
    assert all(f"VIDEOEXPORT_SAMPLE_{name.upper()}" in text for name in SampleSettings.model_fields)


def test_help_shows_defaults_as_they_would_be_written() -> None:
    lines = describe(SampleSettings).splitlines()
    for line in (
        "BUCKETS  (default [])",
        'NAMES  (default ["a"])',
        "FOLDER  (default /tmp/sample)",
    ):
        assert f"  VIDEOEXPORT_SAMPLE_{line}" in lines
    # Their descriptions say it.
    for name in ("KEY", "PROGRAM", "ALIAS"):
        assert f"  VIDEOEXPORT_SAMPLE_{name}" in lines


def test_every_setting_of_the_api_is_described() -> None:
    assert "None" not in describe(ApiSettings)
    assert describe(ApiSettings).count("VIDEOEXPORT_API_") == len(ApiSettings.model_fields)


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("127.0.0.1", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("::", False)],
)
def test_on_loopback(set_env: SetEnv, host: str, loopback: bool) -> None:
    set_env(password="hush", listen_host=host)
    assert load_settings(SampleSettings).on_loopback is loopback


def test_services_listen_on_loopback_unless_told_otherwise(set_env: SetEnv) -> None:
    set_env(password="hush")
    assert load_settings(SampleSettings).on_loopback


async def never(settings: SampleSettings, stop: asyncio.Event) -> None:
    pytest.fail("the service was run")


def test_check_config_prints_the_settings_and_runs_nothing(
    set_env: SetEnv, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    set_env(password="hush")
    monkeypatch.setattr(sys, "argv", ["sample", "--check-config"])
    assert start(SampleSettings, never) == 0
    out = capsys.readouterr().out
    assert "VIDEOEXPORT_SAMPLE_LISTEN_PORT=50059\n" in out
    assert "hush" not in out


def test_bad_settings_end_with_one_sentence_and_status_2(
    set_env: SetEnv, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    set_env(password="hush", zoo="1")
    monkeypatch.setattr(sys, "argv", ["sample", "--check-config"])
    with pytest.raises(SystemExit) as raised:
        start(SampleSettings, never)
    assert raised.value.code == EXIT_BAD_SETTINGS == 2
    err = capsys.readouterr().err
    assert err.startswith("sample: unknown settings: VIDEOEXPORT_SAMPLE_ZOO")
    assert err.count("\n") == 1


API = {
    "DATABASE_URL": "postgresql://u:hush@h/d",
    "NATS_URL": "nats://h:4222",
    "STORAGE_ADDRESS": "h:50053",
}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DATABASE_URL", ""),
        ("DATABASE_URL", "mysql://u:hush@h/d"),
        ("NATS_URL", ""),
        ("STORAGE_ADDRESS", ""),
        ("EXPORTS_PER_HOUR", "-1"),
        ("RETENTION_DAYS", "0"),
        ("DOWNLOAD_URL_SECONDS", "59"),
        ("TASK_ATTEMPTS", "0"),
        ("SOURCE_BUCKETS", "rushes"),
    ],
)
def test_api_refuses_settings_that_cannot_work(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    for key, text in {**API, name: value}.items():
        monkeypatch.setenv(f"VIDEOEXPORT_API_{key}", text)
    with pytest.raises(SettingsError) as raised:
        load_settings(ApiSettings)
    assert "hush" not in str(raised.value)


def test_api_defaults_are_the_documented_quotas(monkeypatch: pytest.MonkeyPatch) -> None:
    for key, text in API.items():
        monkeypatch.setenv(f"VIDEOEXPORT_API_{key}", text)
    settings = load_settings(ApiSettings)
    assert (settings.exports_per_hour, settings.running_per_user) == (5, 3)
    assert settings.retention_days == 30
    assert settings.task_attempts == 4
    assert "hush" not in show(settings)
