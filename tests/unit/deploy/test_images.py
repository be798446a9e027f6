"""What goes into the images, as far as it can be told without building them."""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterable
from importlib.metadata import packages_distributions, requires

import grimp
import pytest
from packaging.requirements import Requirement

from deploy.validate import K8S

ROOT = K8S.parents[1]
SERVICES = ("api", "encoder", "storage")


@pytest.fixture(scope="session")
def imports() -> grimp.ImportGraph:
    """Who imports what; what only the type checker reads does not count."""
    return grimp.build_graph(
        "services",
        "videoexport",
        include_external_packages=True,
        exclude_type_checking_imports=True,
        cache_dir=None,
    )


def normal(name: str) -> str:
    """Return a distribution's name as it is compared."""
    return re.sub(r"[-_.]+", "-", name).lower()


def installed_for(extra: str) -> set[str]:
    """Return every distribution that `pip install .[extra]` brings."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    found: set[str] = set()
    own = [*project["dependencies"], f"videoexport[{extra}]"]
    pending = [Requirement(text) for text in own]
    seen: set[tuple[str, frozenset[str]]] = set()
    while pending:
        wanted = pending.pop()
        name, extras = normal(wanted.name), frozenset(wanted.extras)
        if (name, extras) in seen:
            continue
        seen.add((name, extras))
        if name == "videoexport":
            # From the file, because the installed metadata may be older.
            pending += [
                Requirement(text)
                for each in extras
                for text in project["optional-dependencies"][each]
            ]
        else:
            found.add(name)
            pending += _required_by(name, extras)
    return found


def _required_by(name: str, extras: Iterable[str]) -> list[Requirement]:
    parsed = [Requirement(text) for text in requires(name) or ()]
    return [
        each
        for each in parsed
        if each.marker is None
        or any(each.marker.evaluate({"extra": extra}) for extra in ("", *extras))
    ]


@pytest.mark.parametrize("service", SERVICES)
def test_extra_brings_what_the_service_imports(imports: grimp.ImportGraph, service: str) -> None:
    """An image has only its service's extra, while here everything is installed."""
    distributions = packages_distributions()
    installed = installed_for(service)
    upstream = imports.find_upstream_modules(f"services.{service}", as_package=True)
    outside = {name.partition(".")[0] for name in upstream} - {"services", "videoexport"}
    assert outside
    for module in sorted(outside - sys.stdlib_module_names):
        owners = {normal(name) for name in distributions[module]}
        assert owners & installed, f"{module} of {owners} is not in the extra {service}"


def test_storage_image_alone_has_an_s3_library() -> None:
    assert [service for service in SERVICES if "boto3" in installed_for(service)] == ["storage"]


def test_encoder_image_alone_has_ffmpeg() -> None:
    assert [service for service in SERVICES if "imageio-ffmpeg" in installed_for(service)] == [
        "encoder"
    ]


def test_every_service_has_a_target() -> None:
    text = (ROOT / "deploy/docker/Dockerfile").read_text()
    for service in SERVICES:
        assert f"FROM runtime AS {service}\n" in text
        assert f"'.[{service}]'" in text
        assert f'ENTRYPOINT ["python", "-m", "services.{service}"]' in text


def test_base_image_is_pinned() -> None:
    """The linter does not look into the default of an argument."""
    text = (ROOT / "deploy/docker/Dockerfile").read_text()
    bases = set(re.findall(r"^FROM (\S+)", text, re.MULTILINE))
    stages = set(re.findall(r"^FROM \S+ AS (\S+)", text, re.MULTILINE))
    assert bases - stages == {"${PYTHON_IMAGE}"}
    assert re.search(r"^ARG PYTHON_IMAGE=python:3\.\d+\.\d+-slim-[a-z]+$", text, re.MULTILINE)


def test_build_context_keeps_everything_else_out() -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*"
    allowed = {rule.removeprefix("!").rstrip("/") for rule in rules if rule.startswith("!")}
    assert allowed == {
        "LICENSE",
        "README.md",
        "constraints.txt",
        "deploy/docker/healthcheck.py",
        "pyproject.toml",
        "services",
        "videoexport",
    }
    for path in allowed:
        assert (ROOT / path).exists(), path
