"""Runs cases: makes the source, exports it with the encoder's real parts, reads what came out."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from conformance.checks import Measured, measure, refusal_problems
from conformance.copying import export_or_copy
from conformance.evidence import evidence_of
from conformance.gpu import gpu_problems
from conformance.record import loudness_problems, record_problems
from conformance.stills import make_stills, still_problems
from services.common.errors import DomainError
from services.common.planner import duration_of, grid_of, plan_export
from services.encoder.commands.loudness import loudness_warnings
from services.encoder.errors import MediaError
from services.encoder.inspection.output_facts import verification_of
from tests.media.exporting import Export, Joined, export, export_in_parts
from tests.media.recipes.making import make
from tests.media.recipes.recipe import Recipe
from tests.media.smart_copying import Copied
from videoexport.v1 import export_pb2 as pb

# A case that takes longer hangs.
CASE_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a case.

    Attributes:
        measured: of its output, or of its refusal.
        gpu: what is wrong with the command for the GPU; None where there is none to compare.
        codes: why there is no output, or of what its owner is warned.
    """

    recipe: Recipe
    measured: Measured
    gpu: tuple[str, ...] | None
    seconds: float
    codes: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether everything is as the case says."""
        return not self.measured.problems and not self.gpu


async def run_all(recipes: Sequence[Recipe], folder: Path, *, jobs: int) -> AsyncIterator[Outcome]:
    """Run cases, some at the same time; yield each as it ends.

    Args:
        folder: for sources and outputs; what is made for a case alone is removed with it.
    """
    free = asyncio.Semaphore(jobs)

    async def limited(recipe: Recipe, place: int) -> Outcome:
        async with free:
            return await run_case(recipe, folder / "clips", folder / f"case{place}")

    tasks = [asyncio.create_task(limited(recipe, place)) for place, recipe in enumerate(recipes)]
    try:
        for done in asyncio.as_completed(tasks):
            yield await done
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def run_case(recipe: Recipe, clips: Path, folder: Path) -> Outcome:
    """Run one case; what goes wrong is its result.

    Args:
        folder: of this case alone; is made, and removed.
    """
    began = time.monotonic()
    await asyncio.to_thread(folder.mkdir, parents=True)
    codes: tuple[str, ...] = ()
    try:
        async with asyncio.timeout(CASE_SECONDS):
            measured, gpu, codes = await _run(recipe, clips, folder)
    except (MediaError, DomainError) as error:
        reason = error.reason.value if isinstance(error, DomainError) else error.reason
        measured, gpu = Measured(tuple(refusal_problems(recipe, reason, error.message))), None
        codes = (reason,)
    except TimeoutError:
        measured, gpu = Measured((f"not done after {CASE_SECONDS:g} s",)), None
    except Exception as error:  # a defect is a failed case, not the end of all others
        told = " ".join(f"{type(error).__name__}: {error}".split())
        measured, gpu = Measured((told[:300],)), None
    finally:
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
    return Outcome(recipe, measured, gpu, time.monotonic() - began, codes)


async def _run(
    recipe: Recipe, clips: Path, folder: Path
) -> tuple[Measured, tuple[str, ...] | None, tuple[str, ...]]:
    """Run a case to its end; return what was measured, of the GPU, and codes of warnings."""
    source = await asyncio.to_thread(make, recipe.source, clips, folder)
    made = await _export(recipe, source, folder)
    if recipe.refused is not None:
        wanted = f"exported, not refused with {recipe.refused.reason}"
        return Measured((wanted,)), None, ()
    evidence = await asyncio.to_thread(evidence_of, made.path, recipe)
    ranges = [(segment.start_frame, segment.end_frame) for segment in made.plan.segments]
    warnings = [*made.warnings, *loudness_warnings(pb.Output(loudness=made.loudness))]
    measured = measure(recipe, evidence, ranges, warnings)
    record = verification_of(made.facts, made.plan)
    problems = [
        *measured.problems,
        *record_problems(recipe, record, evidence, ranges, measured.offset),
        *loudness_problems(made.loudness, evidence.loudness),
    ]
    if recipe.poster is not None or recipe.tiles:
        stills = await make_stills(made.path, made.plan, made.facts)
        problems += still_problems(recipe, stills, made.plan.frame_count)
    gpu = tuple(gpu_problems(made.info, made.plan)) if recipe.gpu else None
    codes = tuple(sorted({warning.code for warning in warnings}))
    return replace(measured, problems=tuple(problems)), gpu, codes


async def _export(recipe: Recipe, source: Path, folder: Path) -> Export | Joined | Copied:
    made = folder / "made"
    made.mkdir()
    if recipe.settings.quality == pb.QUALITY_SOURCE:
        return await export_or_copy(recipe, source, made)

    def planned(info: pb.SourceInfo) -> pb.Plan:
        return plan_of_case(recipe, info)

    image = None if recipe.image is None else await asyncio.to_thread(recipe.image)
    if recipe.chunk_seconds is None:
        return await export(source, None, made, planned=planned, image=image)
    return await export_in_parts(
        source, (), made, chunk_seconds=recipe.chunk_seconds, planned=planned, image=image
    )


def plan_of_case(recipe: Recipe, info: pb.SourceInfo) -> pb.Plan:
    """Return the plan as the API makes it, but for the size where the case has its own.

    Raises:
        DomainError: the segments do not fit the source.
    """
    grid = grid_of(info, recipe.settings)
    segments = [
        pb.Segment(start_time=duration_of(grid.time(start)), end_time=duration_of(grid.time(end)))
        for start, end in recipe.segments or ()
    ]
    plan = plan_export(info, segments, recipe.settings)
    if recipe.size is not None and recipe.pictures:
        plan.width, plan.height = recipe.size
    return plan
