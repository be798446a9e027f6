"""Renders the manifests and holds every object against its published schema.

Run it as `python deploy/validate.py`. Unknown fields are refused, as by a server that
validates strictly. No cluster is asked, so what only one can tell stays unknown: whether
quotas, admission and controllers accept the objects.
"""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeAlias

import kubernetes_validate  # type: ignore[import-untyped]
import yaml
from cloudcoil.models.keda import v1alpha1 as keda
from pydantic import BaseModel, ValidationError

Object: TypeAlias = dict[str, Any]

K8S = Path(__file__).resolve().parent / "k8s"
FOLDERS = (K8S / "base", K8S / "overlays" / "gpu")
KUBECTL = Path(sys.executable).with_name("kubectl")
RENDER_SECONDS = 60

# The first that has everything we use switched on (`sleep` before the stop is the newest),
# and the newest with a published schema.
KUBERNETES_VERSIONS = ("1.31", "1.37")
KEDA_VERSION = "keda.sh/v1alpha1"
# A trigger's metadata is any map to the schema. These are what the scaler reads,
# https://keda.sh/docs/latest/scalers/prometheus/; it passes over others in silence.
PROMETHEUS_REQUIRED = {"serverAddress", "query", "threshold"}
PROMETHEUS_OPTIONAL = {"activationThreshold", "ignoreNullValues", "timeout", "unsafeSsl"}


def render(folder: Path) -> list[Object]:
    """Return the objects that a Kustomize folder makes.

    Raises:
        RuntimeError: it cannot be rendered; the text is Kustomize's.
    """
    done = subprocess.run(
        [KUBECTL, "kustomize", str(folder)],
        capture_output=True,
        text=True,
        timeout=RENDER_SECONDS,
        check=False,
    )
    if done.returncode != 0:
        raise RuntimeError(done.stderr.strip())
    return [item for item in yaml.safe_load_all(done.stdout) if item]


def problems(item: Object) -> list[str]:
    """Return what the published schemas have against an object, as `path: what`."""
    if item["apiVersion"] == KEDA_VERSION:
        return [*_keda_problems(item), *_trigger_problems(item)]
    found = []
    for version in KUBERNETES_VERSIONS:
        try:
            kubernetes_validate.validate(item, version, strict=True)
        except kubernetes_validate.ValidationError as error:
            path = ".".join(str(step) for step in error.path)
            found.append(f"{path}: {error.message} (Kubernetes {version})")
        except kubernetes_validate.SchemaNotFoundError as error:
            found.append(error.message)
    return found


def name_of(item: Object) -> str:
    """Return an object as people name it, such as `Deployment/videoexport-api`."""
    return f"{item['kind']}/{item['metadata']['name']}"


def _keda_problems(item: Object) -> list[str]:
    model: type[BaseModel] | None = getattr(keda, item["kind"], None)
    if model is None:
        return [f"kind: KEDA has no {item['kind']}"]
    try:
        # Strictly: a number in quotes is refused by a server as well.
        known = model.model_validate(item, strict=True)
    except ValidationError as error:
        return [
            f"{'.'.join(str(step) for step in problem['loc'])}: {problem['msg']}"
            for problem in error.errors()
        ]
    # The models pass over what they do not know; it is missing in what they give back.
    back = known.model_dump(mode="json", by_alias=True, exclude_unset=True)
    return [f"{path}: unknown field" for path in _missing(item, back)]


def _missing(given: Any, back: Any, path: str = "") -> Iterator[str]:
    if isinstance(given, dict):
        for key, value in given.items():
            step = f"{path}.{key}".lstrip(".")
            if key not in back:
                yield step
            else:
                yield from _missing(value, back[key], step)
    elif isinstance(given, list):
        for index, (value, other) in enumerate(zip(given, back, strict=True)):
            yield from _missing(value, other, f"{path}.{index}")


def _trigger_problems(item: Object) -> Iterator[str]:
    for index, trigger in enumerate(item.get("spec", {}).get("triggers", [])):
        path = f"spec.triggers.{index}"
        if trigger.get("type") != "prometheus":
            yield f"{path}.type: only prometheus is known here"
            continue
        keys = set(trigger.get("metadata", {}))
        for key in sorted(PROMETHEUS_REQUIRED - keys):
            yield f"{path}.metadata.{key}: required"
        for key in sorted(keys - PROMETHEUS_REQUIRED - PROMETHEUS_OPTIONAL):
            yield f"{path}.metadata.{key}: unknown field"


def main() -> int:
    """Validate every folder, print a count for each kind; return the exit status."""
    failed = 0
    for folder in FOLDERS:
        objects = render(folder)
        kinds = Counter(item["kind"] for item in objects)
        sys.stdout.write(f"{folder.relative_to(K8S)}: {len(objects)} objects\n")
        sys.stdout.writelines(f"  {count:3} {kind}\n" for kind, count in sorted(kinds.items()))
        for item in objects:
            for problem in problems(item):
                failed += 1
                sys.stdout.write(f"  {name_of(item)}: {problem}\n")
    sys.stdout.write(
        f"{failed} problems; schemas of Kubernetes {' and '.join(KUBERNETES_VERSIONS)}"
        f" and of {KEDA_VERSION}\n"
    )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
