"""Style, types and who may import whom."""

from __future__ import annotations

import pytest

from checks.tool import BIN, accepts

pytestmark = pytest.mark.timeout(600)


def test_ruff_check() -> None:
    accepts(BIN / "ruff", "check", ".")


def test_ruff_format() -> None:
    accepts(BIN / "ruff", "format", "--check", ".")


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param((), id="packages"),
        # Beside the packages: folders that are not installed, so without __init__.py.
        pytest.param(("--explicit-package-bases", "deploy", "checks"), id="deploy"),
    ],
)
def test_mypy(arguments: tuple[str, ...]) -> None:
    accepts(BIN / "mypy", *arguments)


def test_import_contract() -> None:
    accepts(BIN / "lint-imports")
