"""Settings that would open the own bucket, or that S3 cannot work with, are refused."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from services.common.config import SettingsError, load_settings, show
from services.storage.settings import StorageSettings

PREFIX = "VIDEOEXPORT_STORAGE_"
NEEDED = {"S3_ENDPOINT": "http://127.0.0.1:8333", "S3_ACCESS_KEY": "key", "S3_SECRET_KEY": "hush"}

Load = Callable[..., StorageSettings]


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Load:
    def load_with(**changes: str) -> StorageSettings:
        for name, value in (NEEDED | changes).items():
            monkeypatch.setenv(PREFIX + name, value)
        return load_settings(StorageSettings)

    return load_with


def test_settings_have_defaults(load: Load) -> None:
    settings = load()
    assert (settings.listen_port, settings.metrics_port) == (50053, 9093)
    assert settings.part_size_bytes == 16 * 1024 * 1024
    assert settings.max_upload_bytes == 500 * 1024**3
    assert settings.source_buckets == ()


def test_source_buckets_are_a_json_list(load: Load) -> None:
    assert load(SOURCE_BUCKETS='["one", "two"]').source_buckets == ("one", "two")


@pytest.mark.parametrize(
    "changes",
    [
        {"SOURCE_BUCKETS": '["videoexport"]'},
        {"SOURCE_BUCKETS": '["Not A Bucket"]'},
        {"BUCKET": "../x"},
        {"BUCKET": "a..b"},
        {"BUCKET": "x" * 64},
        {"S3_ENDPOINT": "127.0.0.1:8333"},
        {"S3_ENDPOINT": "http://127.0.0.1/path"},
        {"S3_SECRET_KEY": ""},
        {"PART_SIZE_BYTES": "5242879"},
        {"MAX_UPLOAD_BYTES": "0"},
        {"MAX_UPLOAD_BYTES": str(5 * 1024**4 + 1)},
        {"UPLOAD_URL_SECONDS": "604801"},
        {"S3_TIMEOUT_SECONDS": "0"},
    ],
)
def test_settings_that_cannot_work_are_refused(load: Load, changes: dict[str, str]) -> None:
    with pytest.raises(SettingsError):
        load(**changes)


def test_settings_show_no_secret(load: Load) -> None:
    settings = load()
    assert "hush" not in show(settings)
    assert "hush" not in str(settings.model_dump(mode="json"))
