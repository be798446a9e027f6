"""What must be so once everything has settled, all of it asked."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence

from faults.checks import encoders, exports, history, leftovers, objects, parts
from faults.checks.evidence import Evidence
from faults.journal import Violation

Check = Callable[[Evidence], Awaitable[list[Violation]]]

# What is on its way when the last export ends has arrived by then.
SETTLED_WITHIN_S = 45.0
POLL_S = 0.5
CHECKS: tuple[Check, ...] = (
    leftovers.delete_now,
    exports.accepted_exports_end,
    exports.exports_end_as_ordered,
    exports.exports_are_as_told,
    exports.outputs_are_as_planned,
    exports.progress_never_goes_back,
    history.exports_end_once,
    history.failures_have_reasons,
    encoders.every_encoder_works,
    parts.no_part_dies,
    objects.outputs_are_stored,
    objects.sources_are_stored,
    objects.parts_are_known,
    objects.no_previews,
    objects.no_upload_is_left,
    leftovers.no_rows,
    leftovers.no_runs,
    leftovers.no_messages,
    leftovers.no_scratch,
    leftovers.no_processes,
)


async def violations(
    evidence: Evidence, *, within: float = SETTLED_WITHIN_S, checks: Sequence[Check] = CHECKS
) -> list[Violation]:
    """Return what violates any rule, each given so many seconds to settle."""
    return [each for check in checks for each in await settled(check, evidence, within)]


async def settled(check: Check, evidence: Evidence, within: float) -> list[Violation]:
    """Return what a check finds once that no longer changes for the better."""
    end = time.monotonic() + within
    while (found := await _found(check, evidence)) and time.monotonic() < end:
        await asyncio.sleep(POLL_S)
    return found


async def _found(check: Check, evidence: Evidence) -> list[Violation]:
    try:
        return await check(evidence)
    except Exception as error:
        # Whatever it is, it must not hide what the others find.
        text = f"{type(error).__name__}: {error}"
        return [Violation("every check can be made", check.__name__, text)]
