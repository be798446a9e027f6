"""What the manifests tell the services and Kubernetes, beyond what schemas can say."""

from __future__ import annotations

import os
import shutil
import tomllib
from pathlib import Path
from typing import Any

import pytest

from deploy.validate import K8S, Object, problems, render
from services.common.config import ServiceSettings, load_settings
from services.common.health import LIVENESS
from services.encoder.inspection.fork_server import MEMORY_BYTES
from services.encoder.settings import EncoderSettings
from tests.unit.deploy.manifests import (
    SECRETS,
    Workload,
    deployments,
    environment,
    of_kind,
    quantity,
    secret_references,
    workloads,
)

ROOT = K8S.parents[1]
# What ends after SIGTERM beside the two drains: NATS, S3 requests, deleting what is unfinished.
FAREWELL_SECONDS = 15
# FFmpeg took 2.35 GB for 4096 × 4096 in 10 bits with 16 reference frames.
ENCODE_BYTES = 2_350_000_000
# The encoder and its fork server, gRPC's buffers and a download's pages.
SERVICE_BYTES = 1 << 30


def loaded(
    workload: Workload, objects: list[Object], monkeypatch: pytest.MonkeyPatch
) -> ServiceSettings:
    """Return the settings that a service makes of its container's environment."""
    for name in os.environ:
        if name.startswith("VIDEOEXPORT_"):
            monkeypatch.delenv(name)
    for name, value in environment(workload, objects).items():
        monkeypatch.setenv(name, value)
    return load_settings(workload.settings)


def test_objects_fit_their_schemas(objects: list[Object]) -> None:
    assert [(item["kind"], problem) for item in objects for problem in problems(item)] == []


@pytest.mark.parametrize(
    ("kind", "path", "value"),
    [
        ("Deployment", "spec.template.spec.restartpolicy", "Always"),
        ("Deployment", "spec.template.spec.containers.0.livenessProbe.grpc.servce", "x"),
        ("Deployment", "spec.template.spec.terminationGracePeriodSeconds", "60"),
        ("Service", "spec.port", 1),
        ("ScaledObject", "spec.minReplicas", 1),
        ("ScaledObject", "spec.minReplicaCount", "1"),
        ("ScaledObject", "spec.advanced.horizontalPodAutoscalerConfig.behavior.scaleDwn", {}),
        ("ScaledObject", "spec.triggers.0.metadata.treshold", "1"),
        ("NetworkPolicy", "spec.ingres", []),
    ],
)
def test_schemas_refuse(
    rendered: dict[str, list[Object]], kind: str, path: str, value: object
) -> None:
    [item, *_] = of_kind(render(K8S / "base"), kind)
    assert problems(item) == []
    *steps, last = path.split(".")
    place: Any = item
    for step in steps:
        place = place[int(step) if step.isdecimal() else step]
    place[last] = value
    assert problems(item) != []


def test_services_accept_their_settings(
    objects: list[Object], monkeypatch: pytest.MonkeyPatch
) -> None:
    for workload in workloads(objects):
        with monkeypatch.context() as patch:
            settings = loaded(workload, objects, patch)
        if workload.item["kind"] == "Deployment":
            assert not settings.on_loopback, workload.name
            ports = {"grpc": settings.listen_port, "metrics": settings.metrics_port}
            assert workload.ports == ports, workload.name


def test_addresses_reach_a_service_of_ours(
    objects: list[Object], monkeypatch: pytest.MonkeyPatch
) -> None:
    services = {
        f"{item['metadata']['name']}:{port['port']}"
        for item in of_kind(objects, "Service")
        for port in item["spec"]["ports"]
    }
    for workload in workloads(objects):
        with monkeypatch.context() as patch:
            settings = loaded(workload, objects, patch).model_dump()
        for name in ("storage_address", "public_storage_address"):
            if name in settings:
                host, _, port = settings[name].partition(":")
                assert f"{host.partition('.')[0]}:{port}" in services, workload.name


def test_both_services_know_the_same_source_buckets(rendered: dict[str, list[Object]]) -> None:
    values = {
        environment(workload, objects).get(f"VIDEOEXPORT_{name}_SOURCE_BUCKETS")
        for objects in rendered.values()
        for workload in deployments(objects)
        for name in ("API", "STORAGE")
        if workload.name == f"videoexport-{name.lower()}"
    }
    assert len(values) == 1


def test_encoders_say_who_and_where_they_are(
    objects: list[Object], monkeypatch: pytest.MonkeyPatch
) -> None:
    for workload in deployments(objects):
        if workload.settings is EncoderSettings:
            with monkeypatch.context() as patch:
                settings = loaded(workload, objects, patch)
            assert isinstance(settings, EncoderSettings)
            assert settings.id == "videoexport-encoder-7d4b9-x2x4k"
            assert settings.advertise_address == f"10.1.2.3:{settings.listen_port}"


def test_scratch_is_below_a_bounded_volume(
    objects: list[Object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The encoder removes and makes its scratch directory, which a mount point forbids."""
    for workload in deployments(objects):
        volumes = {volume["name"]: volume for volume in workload.pod["volumes"]}
        [mount] = workload.container["volumeMounts"]
        size = quantity(volumes[mount["name"]]["emptyDir"]["sizeLimit"])
        if workload.settings is EncoderSettings:
            with monkeypatch.context() as patch:
                settings = loaded(workload, objects, patch)
            assert isinstance(settings, EncoderSettings)
            assert Path(mount["mountPath"]) in settings.scratch_dir.parents
            limits = workload.container["resources"]["limits"]
            # Logs count as well: with less room the pod would go before the volume is full.
            assert quantity(limits["ephemeral-storage"]) > size


def test_pods_get_the_time_that_their_drain_takes(
    objects: list[Object], monkeypatch: pytest.MonkeyPatch
) -> None:
    for workload in deployments(objects):
        with monkeypatch.context() as patch:
            settings = loaded(workload, objects, patch).model_dump()
        stop = workload.container.get("lifecycle", {}).get("preStop", {}).get("sleep", {})
        needed = (
            settings["drain_seconds"]
            + settings.get("task_drain_seconds", 0)
            + stop.get("seconds", 0)
            + FAREWELL_SECONDS
        )
        assert workload.pod["terminationGracePeriodSeconds"] >= needed, workload.name


def test_encoder_threads_are_the_requested_cpus(
    rendered: dict[str, list[Object]], monkeypatch: pytest.MonkeyPatch
) -> None:
    [workload] = [
        each for each in deployments(rendered["base"]) if each.settings is EncoderSettings
    ]
    settings = loaded(workload, rendered["base"], monkeypatch)
    assert isinstance(settings, EncoderSettings)
    requests = workload.container["resources"]["requests"]
    assert settings.encoder_threads * settings.cpu_slots == quantity(requests["cpu"])


def test_memory_is_enough_for_every_slot_at_once(
    objects: list[Object], monkeypatch: pytest.MonkeyPatch
) -> None:
    for workload in deployments(objects):
        if workload.settings is EncoderSettings:
            with monkeypatch.context() as patch:
                settings = loaded(workload, objects, patch)
            assert isinstance(settings, EncoderSettings)
            # A GPU's failure has its slot encode on the CPU, so both kinds count alike. The
            # check of a finished file follows FFmpeg, under the limit of a probe.
            encodes = settings.cpu_slots + settings.gpu_slots
            needed = (
                encodes * max(ENCODE_BYTES, MEMORY_BYTES)
                + settings.mux_slots * ENCODE_BYTES
                + settings.probe_slots * MEMORY_BYTES
                + SERVICE_BYTES
            )
            limit = quantity(workload.container["resources"]["limits"]["memory"])
            assert limit >= needed, workload.name


def test_probes_ask_the_right_names(objects: list[Object]) -> None:
    for workload in deployments(objects):
        for probe, service in (
            ("startupProbe", LIVENESS),
            ("livenessProbe", LIVENESS),
            ("readinessProbe", None),
        ):
            asked = workload.container[probe]["grpc"]
            assert asked["port"] == workload.ports["grpc"]
            assert asked.get("service") == service, (workload.name, probe)


def test_encoder_has_time_to_start(objects: list[Object], monkeypatch: pytest.MonkeyPatch) -> None:
    for workload in deployments(objects):
        with monkeypatch.context() as patch:
            settings = loaded(workload, objects, patch)
        if isinstance(settings, EncoderSettings):
            # `-version`; then, of each family, `-h` and a trial encode.
            longest = 5 * settings.trial_timeout
            probe = workload.container["startupProbe"]
            assert probe["periodSeconds"] * probe["failureThreshold"] > longest, workload.name


def test_pods_are_confined(objects: list[Object]) -> None:
    for workload in workloads(objects):
        assert workload.pod["enableServiceLinks"] is False, workload.name
        assert workload.pod["automountServiceAccountToken"] is False
        assert workload.pod["securityContext"]["runAsNonRoot"] is True
        assert workload.pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert workload.container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        resources = workload.container["resources"]
        assert quantity(resources["requests"]["memory"]) <= quantity(resources["limits"]["memory"])
        assert quantity(resources["requests"]["cpu"]) > 0


def test_user_is_that_of_the_image(objects: list[Object]) -> None:
    dockerfile = (ROOT / "deploy/docker/Dockerfile").read_text()
    for workload in workloads(objects):
        context = workload.pod["securityContext"]
        assert f"USER {context['runAsUser']}:{context['runAsGroup']}\n" in dockerfile


def test_images_are_those_of_this_version(objects: list[Object]) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for workload in workloads(objects):
        assert workload.container["image"].endswith(f":{project['version']}")


def test_selectors_match_one_workload_each(objects: list[Object]) -> None:
    found = list(workloads(objects))
    for workload in deployments(objects):
        selector = workload.item["spec"]["selector"]["matchLabels"]
        assert [each.name for each in found if _matches(selector, each)] == [workload.name]
        for constraint in workload.pod["topologySpreadConstraints"]:
            assert constraint["labelSelector"]["matchLabels"] == selector
    for kind in ("Service", "PodDisruptionBudget"):
        for item in of_kind(objects, kind):
            selector = item["spec"]["selector"]
            selector = selector.get("matchLabels", selector)
            names = [each.name for each in found if _matches(selector, each)]
            assert names == [item["metadata"]["name"]], kind


def test_every_deployment_has_a_budget_and_a_service(objects: list[Object]) -> None:
    names = {each.name for each in deployments(objects)}
    for kind in ("Service", "PodDisruptionBudget"):
        assert {item["metadata"]["name"] for item in of_kind(objects, kind)} == names


def test_services_are_headless(objects: list[Object]) -> None:
    """Behind a virtual IP a gRPC client stays with one pod."""
    for item in of_kind(objects, "Service"):
        assert item["spec"]["clusterIP"] == "None"
        assert [port["targetPort"] for port in item["spec"]["ports"]] == ["grpc"]


def test_nobody_reaches_a_pod_by_default(objects: list[Object]) -> None:
    policies = of_kind(objects, "NetworkPolicy")
    [closed] = [item for item in policies if not item["spec"].get("ingress")]
    assert closed["spec"]["policyTypes"] == ["Ingress"]
    for workload in workloads(objects):
        assert _matches(closed["spec"]["podSelector"]["matchLabels"], workload)
    for item in policies:
        for rule in item["spec"].get("ingress", []):
            assert rule["from"], "an empty list lets everybody in"
            assert all(peer.values() and {} not in peer.values() for peer in rule["from"])
            assert rule["ports"]


CLIENTS = {"namespaceSelector": {"matchLabels": {"videoexport/client": "true"}}}
MONITORING = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}


def _pods(component: str) -> Object:
    return {"podSelector": {"matchLabels": {"app.kubernetes.io/component": component}}}


def test_policies_let_in_who_calls_and_nobody_else(objects: list[Object]) -> None:
    callers = {
        "api": [CLIENTS],
        "storage": [_pods("api"), _pods("encoder"), CLIENTS],
        "encoder": [_pods("api")],
    }
    for workload in deployments(objects):
        let_in: dict[str, list[Object]] = {}
        for item in of_kind(objects, "NetworkPolicy"):
            if _matches(item["spec"]["podSelector"]["matchLabels"], workload):
                assert "Ingress" in item["spec"]["policyTypes"]
                for rule in item["spec"].get("ingress", []):
                    for port in rule["ports"]:
                        let_in.setdefault(port["port"], []).extend(rule["from"])
        component = workload.labels["app.kubernetes.io/component"]
        assert let_in == {"grpc": callers[component], "metrics": [MONITORING]}


def test_scraping_is_told_the_metrics_port(objects: list[Object]) -> None:
    for workload in deployments(objects):
        annotations = workload.item["spec"]["template"]["metadata"]["annotations"]
        assert annotations["prometheus.io/port"] == str(workload.ports["metrics"])


def test_gpu_encoders_ask_for_a_gpu(rendered: dict[str, list[Object]]) -> None:
    asked = {
        each.name: each.container["resources"]["limits"].get("nvidia.com/gpu")
        for each in deployments(rendered["overlays/gpu"])
    }
    assert asked.pop("videoexport-encoder-gpu") == "1"
    assert set(asked.values()) == {None}


def test_documented_overlay_renders(tmp_path: Path) -> None:
    """The overlay that docs/deploy.md tells people to write makes the Secrets of the base."""
    text = (ROOT / "docs/deploy.md").read_text()
    overlay = text.partition("```yaml\n# deploy/k8s/overlays/mine/kustomization.yaml\n")[2]
    overlay = overlay.partition("```")[0]
    assert overlay
    shutil.copytree(K8S, tmp_path / "k8s")
    folder = tmp_path / "k8s/overlays/mine"
    folder.mkdir()
    (folder / "kustomization.yaml").write_text(overlay)
    (folder / "postgres.env").write_text("url=postgresql://user:password@host/videoexport\n")
    (folder / "s3.env").write_text("access-key=a\nsecret-key=b\n")
    objects = render(folder)
    assert [problem for item in objects for problem in problems(item)] == []
    secrets = {item["metadata"]["name"]: item["data"] for item in of_kind(objects, "Secret")}
    references = secret_references(objects)
    assert len(references) == len(SECRETS)
    for name, key in references:
        assert key in secrets[name]


def _matches(selector: dict[str, str], workload: Workload) -> bool:
    return selector.items() <= workload.labels.items()
