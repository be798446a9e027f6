"""The autoscaler's numbers against the slots of a pod."""

from __future__ import annotations

import math
import re
from typing import Any

import pytest

from deploy.validate import Object
from services.common.config import load_settings
from services.common.subjects import Lane
from services.encoder.settings import EncoderSettings
from tests.unit.deploy.manifests import Workload, deployments, environment, of_kind


def scaled(objects: list[Object]) -> list[tuple[Object, Workload]]:
    """Return every ScaledObject with its target."""
    targets = {each.name: each for each in deployments(objects)}
    return [
        (item["spec"], targets[item["spec"]["scaleTargetRef"]["name"]])
        for item in of_kind(objects, "ScaledObject")
    ]


def slots_of(
    workload: Workload, objects: list[Object], monkeypatch: pytest.MonkeyPatch
) -> dict[Lane, int]:
    """Return the slots of one pod."""
    with monkeypatch.context() as patch:
        for name, value in environment(workload, objects).items():
            patch.setenv(name, value)
        settings = load_settings(EncoderSettings)
    return {
        Lane.PROBE: settings.probe_slots,
        Lane.MUX: settings.mux_slots,
        Lane.CPU: settings.cpu_slots,
        Lane.GPU: settings.gpu_slots,
    }


def wanted(trigger: dict[str, Any], tasks: int) -> int:
    """Return the pods that the autoscaler wants: the tasks over what one pod should have."""
    return math.ceil(tasks / int(trigger["metadata"]["threshold"]))


def lane_of(trigger: dict[str, Any]) -> Lane:
    """Return the lane whose tasks a trigger counts."""
    [lane] = re.findall(r'lane="(\w+)"', trigger["metadata"]["query"])
    return Lane(lane)


def test_encoders_are_scaled_and_nothing_else(objects: list[Object]) -> None:
    encoders = {each.name for each in deployments(objects) if each.settings is EncoderSettings}
    assert {workload.name for _, workload in scaled(objects)} == encoders
    for workload in deployments(objects):
        # A number of replicas would be applied against the autoscaler's.
        assert ("replicas" in workload.item["spec"]) == (workload.name not in encoders)


def test_triggers_count_the_tasks_of_the_served_lanes(
    objects: list[Object], monkeypatch: pytest.MonkeyPatch
) -> None:
    for spec, workload in scaled(objects):
        slots = slots_of(workload, objects, monkeypatch)
        for trigger in spec["triggers"]:
            assert slots[lane_of(trigger)] > 0


def test_every_lane_scales_some_encoder(rendered: dict[str, list[Object]]) -> None:
    lanes = [
        lane_of(trigger)
        for spec, _ in scaled(rendered["overlays/gpu"])
        for trigger in spec["triggers"]
    ]
    assert sorted(lanes) == sorted(Lane)


def test_busy_encoders_stay(objects: list[Object], monkeypatch: pytest.MonkeyPatch) -> None:
    """With as many tasks as slots the number of pods is right as it is."""
    for spec, workload in scaled(objects):
        slots = slots_of(workload, objects, monkeypatch)
        for trigger in spec["triggers"]:
            per_pod = slots[lane_of(trigger)]
            for pods in range(1, spec["maxReplicaCount"] + 1):
                assert wanted(trigger, pods * per_pod) == pods


def test_one_encoder_at_least(objects: list[Object]) -> None:
    """From zero a lane of the GPU would never start: its tasks go to the CPU meanwhile."""
    for spec, _ in scaled(objects):
        assert spec["minReplicaCount"] >= 1
        assert spec.get("idleReplicaCount") is None
