"""Processes of the cluster: each runs until it is stopped."""

from __future__ import annotations

from faults.checks.evidence import Evidence
from faults.journal import Violation


async def no_part_dies(evidence: Evidence) -> list[Violation]:
    """No part has ended but by our hand: the supervisor would start it again unnoticed."""
    return [
        Violation("no part dies by itself", each.part, f"at {each.at}: {each.how}")
        for each in evidence.faulty.deaths.unexplained(evidence.began)
    ]
