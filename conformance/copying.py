"""Exports of cases that ask for the source's own pictures."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from services.common.smart_copy import plan_with_copies
from tests.media.exporting import Export, export
from tests.media.recipes.recipe import Recipe
from tests.media.smart_copying import Copied, export_copied, probed, segments_of
from videoexport.v1 import export_pb2 as pb


class NotAsSaid(Exception):
    """More is copied than the case says, or less, or it is told otherwise."""


async def export_or_copy(recipe: Recipe, source: Path, folder: Path) -> Export | Copied:
    """Export a case, copying what can be copied.

    Raises:
        NotAsSaid: that is not what the case says.
    """
    info = await probed(source)
    segments = segments_of(info, recipe.segments or ())
    plan, warnings = plan_with_copies(info, segments, recipe.settings)
    told = " ".join(item.message for item in warnings)
    if bool(told) != bool(recipe.warned) or not re.search(recipe.warned, told):
        raise NotAsSaid(f"the warning is {told!r}")
    if plan.copied_frame_count != recipe.copied:
        raise NotAsSaid(f"{plan.copied_frame_count} frames are copied, not {recipe.copied}")
    if not warnings:
        return await export_copied(source, segments, folder, recipe.settings)

    def planned(info: pb.SourceInfo) -> pb.Plan:
        return plan_with_copies(info, segments, recipe.settings)[0]

    made = await export(source, None, folder, planned=planned)
    return replace(made, warnings=(*warnings, *made.warnings))
