"""Reading rendered manifests: what a container is told, as Kubernetes would tell it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from deploy.validate import Object
from services.api.settings import ApiSettings
from services.common.config import ServiceSettings
from services.encoder.settings import EncoderSettings
from services.storage.settings import StorageSettings

SETTINGS: dict[str, type[ServiceSettings]] = {
    "videoexport-api": ApiSettings,
    "videoexport-encoder": EncoderSettings,
    "videoexport-storage": StorageSettings,
}
# What the two Secrets hold, which are not in the manifests.
SECRETS = {
    ("videoexport-postgres", "url"): "postgresql://user:password@postgres:5432/videoexport",
    ("videoexport-s3", "access-key"): "access",
    ("videoexport-s3", "secret-key"): "secret",
}
# What Kubernetes says of a pod.
POD_FIELDS = {"metadata.name": "videoexport-encoder-7d4b9-x2x4k", "status.podIP": "10.1.2.3"}
_UNITS = {"": 1, "m": 1e-3, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30}


@dataclass(frozen=True)
class Workload:
    """A Deployment or Job, its pod's spec and its only container."""

    name: str
    item: Object
    pod: Object
    container: Object

    @property
    def labels(self) -> dict[str, str]:
        """The labels of its pods."""
        labels: dict[str, str] = self.item["spec"]["template"]["metadata"]["labels"]
        return labels

    @property
    def ports(self) -> dict[str, int]:
        """Its ports by name."""
        return {port["name"]: port["containerPort"] for port in self.container.get("ports", [])}

    @property
    def settings(self) -> type[ServiceSettings]:
        """The settings that its image reads."""
        return SETTINGS[self.container["image"].partition(":")[0]]


def of_kind(objects: Sequence[Object], kind: str) -> list[Object]:
    """Return the objects of one kind."""
    return [item for item in objects if item["kind"] == kind]


def workloads(objects: Sequence[Object]) -> Iterator[Workload]:
    """Yield everything that makes pods."""
    for item in objects:
        if item["kind"] in ("Deployment", "Job"):
            pod = item["spec"]["template"]["spec"]
            [container] = pod["containers"]
            yield Workload(item["metadata"]["name"], item, pod, container)


def deployments(objects: Sequence[Object]) -> Iterator[Workload]:
    """Yield the Deployments."""
    return (each for each in workloads(objects) if each.item["kind"] == "Deployment")


def environment(workload: Workload, objects: Sequence[Object]) -> dict[str, str]:
    """Return the variables of a container: ConfigMaps, Secrets, the pod, `$(NAME)`.

    Raises:
        KeyError: something that is not there is referred to.
    """
    maps = {item["metadata"]["name"]: item["data"] for item in of_kind(objects, "ConfigMap")}
    found: dict[str, str] = {}
    for source in workload.container.get("envFrom", []):
        found.update(maps[source["configMapRef"]["name"]])
    for variable in workload.container.get("env", []):
        found[variable["name"]] = _value(variable, found)
    return found


def secret_references(objects: Sequence[Object]) -> set[tuple[str, str]]:
    """Return the name and key of every Secret that a container reads."""
    sources = [
        variable.get("valueFrom", {})
        for workload in workloads(objects)
        for variable in workload.container.get("env", [])
    ]
    return {
        (source["secretKeyRef"]["name"], source["secretKeyRef"]["key"])
        for source in sources
        if "secretKeyRef" in source
    }


def _value(variable: dict[str, Any], before: dict[str, str]) -> str:
    if "valueFrom" not in variable:
        # Kubernetes knows only what stands earlier in the list.
        return re.sub(r"\$\((\w+)\)", lambda match: before[match[1]], variable["value"])
    source = variable["valueFrom"]
    if "fieldRef" in source:
        return POD_FIELDS[source["fieldRef"]["fieldPath"]]
    return SECRETS[source["secretKeyRef"]["name"], source["secretKeyRef"]["key"]]


def quantity(text: str) -> float:
    """Return a quantity such as `250m` or `2Gi` as a number."""
    match = re.fullmatch(r"(\d+)(m|Ki|Mi|Gi|)", text)
    assert match is not None, f"{text!r} is not a quantity"
    return int(match[1]) * _UNITS[match[2]]
