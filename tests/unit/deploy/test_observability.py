"""Every query of the dashboard and the alerts against what the services expose."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
import yaml
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector
from promql_parser import parse_duration

from deploy.validate import K8S, Object
from services.api.metrics import ApiMetrics
from services.api.states import ExportState, TaskState
from services.common.errors import Reason
from services.common.health import DependencyName
from services.common.metrics import DependencyMetrics, RpcMetrics
from services.common.nats import PublishProblem
from services.common.subjects import Lane
from services.encoder.metrics import EncoderMetrics
from services.storage.metrics import Operation, Result, StorageMetrics
from tests.unit.deploy.manifests import of_kind
from tests.unit.deploy.promql import Metrics, QueryError
from videoexport.v1 import encoder_service_pb2, export_pb2, export_service_pb2, storage_service_pb2

DEPLOY = K8S.parent
DASHBOARD = DEPLOY / "grafana/overview.json"
ALERTS = DEPLOY / "prometheus/alerts.yaml"
SEVERITIES = {"warning", "critical"}

SERVICES = [
    module.DESCRIPTOR.services_by_name
    for module in (encoder_service_pb2, export_service_pb2, storage_service_pb2)
]
VALUES = {
    "state": [*ExportState, *TaskState],
    "lane": list(Lane),
    "reason": list(Reason),
    "code": [code.name for code in grpc.StatusCode],
    "service": [name for services in SERVICES for name in services],
    "method": [
        name for services in SERVICES for each in services.values() for name in each.methods_by_name
    ],
    "kind": export_pb2.TaskKind.keys(),
    "family": export_pb2.EncoderFamily.keys(),
    "operation": list(Operation),
    "result": list(Result),
    "origin": ["encoded", "reused"],
    "dependency": list(DependencyName),
    "problem": list(PublishProblem),
}
REPLICATED = {
    "videoexport_exports_active",
    "videoexport_queue_depth",
    "videoexport_queue_oldest_age_seconds",
    "videoexport_live_slots",
}


class Recorder(CollectorRegistry):
    """A registry that keeps what is registered, so that samples can be made of it."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: list[MetricWrapperBase] = []

    def register(self, collector: Collector) -> None:
        super().register(collector)
        assert isinstance(collector, MetricWrapperBase)
        self.kept.append(collector)


@pytest.fixture(scope="session")
def metrics() -> Metrics:
    """The names and labels in the text that the services' metrics really give."""
    labels: dict[str, frozenset[str]] = {}
    # Each with a registry of its own, as in its process: services share some metrics.
    for kind in (ApiMetrics, EncoderMetrics, StorageMetrics, RpcMetrics, DependencyMetrics):
        registry = Recorder()
        kind(registry)
        for collector in registry.kept:
            # A metric with labels gives no line before its first value.
            if names := collector._labelnames:
                collector.labels(*("any" for _ in names))
        labels |= {
            sample.name: frozenset(sample.labels)
            for family in text_string_to_metric_families(generate_latest(registry).decode())
            for sample in family.samples
        }
    return Metrics(
        labels=labels,
        values={label: frozenset(str(value) for value in known) for label, known in VALUES.items()},
        replicated=frozenset(REPLICATED),
    )


def panels() -> Iterator[dict[str, Any]]:
    """Yield the dashboard's panels that show something."""
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        if panel["type"] != "row":
            yield panel


def panel_queries() -> Iterator[tuple[str, str, str]]:
    """Yield title, query and legend of every curve."""
    for panel in panels():
        for target in panel["targets"]:
            yield panel["title"], target["expr"], target["legendFormat"]


def alerts() -> Iterator[dict[str, Any]]:
    """Yield the alert rules."""
    for group in yaml.safe_load(ALERTS.read_text())["groups"]:
        yield from group["rules"]


@pytest.mark.parametrize(("title", "query", "legend"), list(panel_queries()))
def test_dashboard_query(metrics: Metrics, title: str, query: str, legend: str) -> None:
    labels = metrics.check(query.replace("$__rate_interval", "5m"))
    assert "$" not in query.replace("$__rate_interval", "5m"), title
    assert set(re.findall(r"\{\{(\w+)\}\}", legend)) == labels, title


@pytest.mark.parametrize("rule", list(alerts()), ids=lambda rule: rule["alert"])
def test_alert(metrics: Metrics, rule: dict[str, Any]) -> None:
    labels = metrics.check(rule["expr"])
    assert set(rule) - {"for"} == {"alert", "expr", "labels", "annotations"}
    assert rule["alert"].startswith("Videoexport")
    assert rule["labels"]["severity"] in SEVERITIES
    assert set(rule["annotations"]) == {"summary", "description", "runbook"}
    text = " ".join(rule["annotations"].values())
    assert set(re.findall(r"\$labels\.(\w+)", text)) <= labels
    if "for" in rule:
        parse_duration(rule["for"])
    else:
        # A single event in a long window is news by itself.
        assert "[1h]" in rule["expr"]


def test_query_of_an_autoscaler(metrics: Metrics, objects: list[Object]) -> None:
    """It answers one number, however many replicas there are."""
    queries = [
        trigger["metadata"]["query"]
        for item in of_kind(objects, "ScaledObject")
        for trigger in item["spec"]["triggers"]
    ]
    assert queries
    for query in queries:
        assert metrics.check(query) == frozenset(), query


INCREASE = re.compile(r"increase\((videoexport_\w+)(?:\{(.*?)\})?\[")


@pytest.mark.parametrize(
    ("name", "selector"),
    sorted({found for rule in alerts() for found in INCREASE.findall(rule["expr"])}),
)
def test_counter_of_an_alert_is_there_before_it_counts(name: str, selector: str) -> None:
    """Prometheus sees no increase in a series that begins at 1."""
    registries = []
    for kind in (ApiMetrics, EncoderMetrics):
        registries.append(CollectorRegistry())
        kind(registries[-1])
    wanted = dict(re.findall(r'(\w+)="(.*?)"', selector))
    values = [
        sample.value
        for registry in registries
        for family in registry.collect()
        for sample in family.samples
        if sample.name == name and wanted.items() <= sample.labels.items()
    ]
    assert values
    assert set(values) == {0}


def test_alerts_have_names_of_their_own() -> None:
    names = [rule["alert"] for rule in alerts()]
    assert len(names) == len(set(names))


def test_dashboard_panels_do_not_overlap() -> None:
    cells: set[tuple[int, int]] = set()
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        place = panel["gridPos"]
        own = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not own & cells, panel["title"]
        assert max(x for x, _ in own) < 24
        cells |= own


def test_dashboard_ids_are_unique() -> None:
    ids = [panel["id"] for panel in json.loads(DASHBOARD.read_text())["panels"]]
    assert len(ids) == len(set(ids))


def test_every_metric_is_shown_or_watched(metrics: Metrics) -> None:
    """A metric that nobody looks at is dead code, or a panel is missing."""
    queries = [query for _, query, _ in panel_queries()] + [rule["expr"] for rule in alerts()]
    used = {name for query in queries for name in re.findall(r"videoexport_\w+", query)}
    suffix = re.compile(r"_(bucket|sum|count|created|total)$")
    exposed = {suffix.sub("", name) for name in metrics.labels}
    assert exposed == {suffix.sub("", name) for name in used}


@pytest.mark.parametrize(
    ("query", "problem"),
    [
        ("sum(rate(videoexport_export_total[5m]))", "nothing exposes"),
        ("sum(rate(videoexport_rpc[5m]))", "nothing exposes"),
        ("sum(videoexport_watch_streams_total)", "nothing exposes"),
        ("sum by (le) (rate(videoexport_rpc_duration_seconds_buckets[5m]))", "nothing exposes"),
        ("sum by (status) (rate(videoexport_rpc_total[5m]))", "does not have"),
        ('sum(rate(videoexport_rpc_total{status="OK"}[5m]))', "has no label"),
        ('sum(rate(videoexport_rpc_total{code="Ok"}[5m]))', "is never"),
        ('sum(rate(videoexport_rpc_total{code=~"INTERNAL|UNAVAILBLE"}[5m]))', "is never"),
        ('sum(rate(videoexport_exports_total{state="failed"}[5m]))', "is never"),
        (
            "histogram_quantile(0.9, sum by (kind) "
            "(rate(videoexport_task_duration_seconds_bucket[5m])))",
            "without le",
        ),
        (
            "sum by (service) (rate(videoexport_rpc_total[5m]))"
            " / sum(rate(videoexport_rpc_total[5m]))",
            "never match",
        ),
        ("sum by (lane) (videoexport_queue_depth)", "counts it twice"),
        ("videoexport_live_slots == 0", "take the max"),
    ],
)
def test_query_that_answers_nothing_is_found(metrics: Metrics, query: str, problem: str) -> None:
    with pytest.raises(QueryError, match=problem):
        metrics.check(query)


def test_query_that_cannot_be_parsed_is_found(metrics: Metrics) -> None:
    with pytest.raises(ValueError, match="unclosed"):
        metrics.check("sum(rate(videoexport_rpc_total[5m])")
