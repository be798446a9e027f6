"""From what was seen to figures. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from bench.report import Figure
from bench.scale.measure import Scene, Seen
from bench.scale.spans import dispatch_times, efficiency, ffmpeg_share, finished, pauses, summary
from services.common.subjects import Lane

# Least efficiency by slots.
TARGETS = {64: 0.92, 200: 0.85}
MOST_DISPATCH_P99_S = 0.1
# What is left out of a list of statements: less than this share of the time.
LEAST_SHARE = 0.005
TEXT_WIDTH = 150


def name_of(scene: Scene) -> str:
    """Return what the figures of a scene are called."""
    words = [f"scale_{scene.slots}"]
    words += [f"replicas_{scene.replicas}"] if scene.replicas > 1 else []
    words += ["storage_aside"] if scene.storage_aside else []
    words += [f"backlog_{scene.backlog}"] if scene.backlog else []
    return "_".join(words)


def figures_of(seen: Seen) -> list[Figure]:
    """Return the figures of a measurement; the efficiency is the main one."""
    name, slots = name_of(seen.scene), seen.scene.slots
    window, costs = seen.window, seen.costs
    pictures = [span for span in seen.spans if span.lane == Lane.CPU]
    others = [span for span in seen.spans if span.lane == Lane.MUX]
    tasks = max(1, finished(seen.spans, window))
    share, target = efficiency(pictures, slots, window), TARGETS.get(slots)
    pause_p50, pause_p99 = summary(pauses(pictures, window))
    busy = sum(costs.cpu.values())
    goal = None if target is None else f"≥ {target}"
    return [
        Figure(name, share, "of slot time", goal, None if target is None else share >= target),
        Figure(f"{name}.ffmpeg", ffmpeg_share(pictures, slots, window), "of slot time"),
        Figure(f"{name}.tasks", finished(seen.spans, window) / window.seconds, "tasks/s"),
        *_dispatch(f"{name}.dispatch", dispatch_times(pictures, seen.due, window)),
        *_dispatch(f"{name}.mux_dispatch", dispatch_times(others, seen.due, window)),
        Figure(f"{name}.pause_p50", pause_p50, "s"),
        Figure(f"{name}.pause_p99", pause_p99, "s"),
        *(
            Figure(f"{name}.cpu.{part}", 1000 * seconds / tasks, "ms/task")
            for part, seconds in sorted(costs.cpu.items())
        ),
        Figure(f"{name}.cores", busy / window.seconds, "cores busy"),
        Figure(f"{name}.cores_of_others", costs.others / window.seconds, "cores busy"),
        Figure(f"{name}.sql", 1000 * costs.sql_seconds / tasks, "ms/task"),
        Figure(f"{name}.statements", costs.statements / tasks, "a task"),
        Figure(f"{name}.transactions", costs.transactions / tasks, "a task"),
        Figure(f"{name}.events_waiting", seen.events_waiting, "events"),
        Figure(f"{name}.tasks_waiting", seen.tasks_waiting, "tasks"),
        Figure(f"{name}.backlog", seen.backlog, "tasks"),
    ]


def _dispatch(name: str, times: Sequence[float]) -> list[Figure]:
    if not times:
        return []
    p50, p99 = summary(times)
    goal, met = f"≤ {MOST_DISPATCH_P99_S} s", p99 <= MOST_DISPATCH_P99_S
    return [Figure(f"{name}_p50", p50, "s"), Figure(f"{name}_p99", p99, "s", goal, met)]


def statements_of(seen: Seen) -> str:
    """Return what each statement cost a task, the dearest first."""
    tasks = max(1, finished(seen.spans, seen.window))
    lines = ["  calls/task  ms/task  ms/call  statement"]
    dearest = sorted(seen.costs.by_statement.items(), key=lambda item: -item[1][1])
    for text, (calls, seconds) in dearest:
        if seconds < LEAST_SHARE * seen.costs.sql_seconds or not calls:
            continue
        lines.append(
            f"  {calls / tasks:10.2f}  {1000 * seconds / tasks:7.3f}  {1000 * seconds / calls:7.3f}"
            f"  {' '.join(text.split())[:TEXT_WIDTH]}"
        )
    return "\n".join(lines)
