"""Which labels a PromQL expression yields, given the metrics that exist.

A misspelt name, a label that a metric does not have and two sides whose labels never match
are no errors to Prometheus: the answer is empty, and a panel or an alert stays silent.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import promql_parser as promql
from promql_parser import AggModifierType, LabelModifierType, MatchOp

# What Prometheus adds to every sample where it scrapes pods.
TARGET_LABELS = frozenset({"instance", "job", "namespace", "pod"})
# Functions of one vector that keep its labels.
PLAIN = frozenset({"rate", "increase", "max_over_time", "min_over_time", "avg_over_time"})


class QueryError(Exception):
    """A query that Prometheus takes and that answers nothing, or something else."""


@dataclass(frozen=True)
class Metrics:
    """What is exposed.

    Attributes:
        labels: the label names of each sample name.
        values: every value that a label can have, for the closed ones.
        replicated: gauges that each replica exposes of the same thing.
    """

    labels: Mapping[str, frozenset[str]]
    values: Mapping[str, frozenset[str]]
    replicated: frozenset[str]

    def check(self, query: str) -> frozenset[str]:
        """Return the labels of a query's answer.

        Raises:
            QueryError: it names what does not exist, or cannot match.
            ValueError: it cannot be parsed.
        """
        expression = promql.parse(query)
        for name in _unaggregated(expression):
            if name in self.replicated:
                raise QueryError(f"{name}: every replica has it; take the max")
        return self._labels(expression) or frozenset()

    def _labels(self, node: promql.Expr) -> frozenset[str] | None:
        """Return the labels of a vector, None for a scalar."""
        match node:
            case promql.NumberLiteral() | promql.StringLiteral():
                return None
            case promql.VectorSelector():
                return self._selector(node)
            case promql.MatrixSelector():
                return self._selector(node.vector_selector)
            case promql.ParenExpr() | promql.UnaryExpr() | promql.SubqueryExpr():
                return self._labels(node.expr)
            case promql.AggregateExpr():
                return self._aggregate(node)
            case promql.Call():
                return self._call(node)
            case promql.BinaryExpr():
                return self._binary(node)
        raise QueryError(f"not known here: {node}")

    def _selector(self, node: promql.VectorSelector) -> frozenset[str]:
        name = node.name or ""
        if name not in self.labels:
            raise QueryError(f"nothing exposes {name!r}")
        labels = self.labels[name] | TARGET_LABELS
        for matcher in node.matchers.matchers:
            if matcher.name not in labels:
                raise QueryError(f"{name} has no label {matcher.name}")
            known = self.values.get(matcher.name)
            regex = matcher.op in (MatchOp.Re, MatchOp.NotRe)
            for value in matcher.value.split("|") if regex else [matcher.value]:
                if known is not None and value not in known:
                    raise QueryError(f"{matcher.name} is never {value!r}")
        return labels

    def _aggregate(self, node: promql.AggregateExpr) -> frozenset[str]:
        inner = self._labels(node.expr)
        if inner is None:
            raise QueryError(f"{node.op} of a scalar")
        for name in _unaggregated(node.expr):
            if name in self.replicated and str(node.op) != "max":
                raise QueryError(f"{name}: every replica has it; {node.op} counts it twice")
        if node.modifier is None:
            return frozenset()
        named = frozenset(node.modifier.labels)
        if unknown := named - inner:
            raise QueryError(f"{node.op} by {sorted(unknown)}, which {node.expr} does not have")
        return named if node.modifier.type == AggModifierType.By else inner - named

    def _call(self, node: promql.Call) -> frozenset[str]:
        name = node.func.name
        *_, last = node.args
        inner = self._labels(last)
        if inner is None:
            raise QueryError(f"{name} of a scalar")
        if name == "histogram_quantile":
            if "le" not in inner:
                raise QueryError(f"histogram_quantile without le: {last}")
            return inner - {"le"}
        if name == "absent":
            return frozenset()
        if name not in PLAIN:
            raise QueryError(f"{name} is not known here")
        return inner

    def _binary(self, node: promql.BinaryExpr) -> frozenset[str] | None:
        left, right = self._labels(node.lhs), self._labels(node.rhs)
        if left is None or right is None:
            return right if left is None else left
        matching = node.modifier.matching if node.modifier else None
        if matching is not None:
            named = frozenset(matching.labels)
            if matching.type != LabelModifierType.Include or not named <= left & right:
                raise QueryError(f"on {sorted(named)}, which both sides must have: {node}")
        elif left != right:
            raise QueryError(f"{sorted(left)} never match {sorted(right)}: {node}")
        return left


def _unaggregated(node: promql.Expr) -> Iterator[str]:
    """Yield the names below a node that no aggregation lies over."""
    found: list[str] = []
    depth = 0

    def enter(each: promql.Expr) -> None:
        nonlocal depth
        if isinstance(each, promql.AggregateExpr):
            depth += 1
        elif isinstance(each, promql.VectorSelector) and depth == 0:
            found.append(each.name or "")

    def leave(each: promql.Expr) -> None:
        nonlocal depth
        if isinstance(each, promql.AggregateExpr):
            depth -= 1

    promql.walk(node, enter, leave)
    return iter(found)
