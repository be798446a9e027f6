"""Memory of the services while they work: does it grow?"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Sequence
from itertools import combinations
from statistics import median

import psutil

from faults.cluster import FaultCluster

INTERVAL_S = 1.0
# What Python and its libraries load with the first work of each kind, and fill once.
WARM_UP_SHARE = 0.2
# Points that the line is laid through: each is the middle of its share of the time.
POINTS = 30

Sample = tuple[float, float]


class Memory:
    """Resident bytes of each service's own process, sampled."""

    def __init__(self, faulty: FaultCluster) -> None:
        cluster = faulty.cluster
        self._cluster = cluster
        self._services = [each.name for each in (*cluster.apis, cluster.storage, *cluster.encoders)]
        self._samples: defaultdict[str, list[Sample]] = defaultdict(list)

    async def watch(self) -> None:
        """Sample for ever."""
        while True:
            for name in self._services:
                try:
                    resident = psutil.Process(self._cluster.pids[name]).memory_info().rss
                except (KeyError, psutil.NoSuchProcess):
                    continue
                self._samples[name].append((time.monotonic(), float(resident)))
            await asyncio.sleep(INTERVAL_S)

    def growth(self) -> dict[str, float]:
        """Return by how many percent each service has grown since it was warm."""
        return {name: growth(samples) for name, samples in self._samples.items()}


def growth(samples: Sequence[Sample]) -> float:
    """Return by how many percent memory has grown since the warm-up.

    That is how the median of all slopes between two points (Theil and Sen) goes on from the
    first point to the last: single peaks do not count, whatever grows all the time does.

    Args:
        samples: (seconds, bytes), in order of time.
    """
    warm = samples[int(len(samples) * WARM_UP_SHARE) :]
    if len(warm) < 2:
        return 0.0
    size = max(1, len(warm) // POINTS)
    groups = [warm[index : index + size] for index in range(0, len(warm), size)]
    points = [(median(t for t, _ in group), median(b for _, b in group)) for group in groups]
    slopes = [(b - a) / (t - s) for (s, a), (t, b) in combinations(points, 2) if t > s]
    if not slopes:
        return 0.0
    slope = median(slopes)
    start = median(b - slope * (t - points[0][0]) for t, b in points)
    return 100 * slope * (points[-1][0] - points[0][0]) / start
