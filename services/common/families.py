"""Encoder families: which queue serves them, and which one an export gets."""

from __future__ import annotations

from dataclasses import dataclass

from services.common.errors import Reason
from services.common.subjects import Lane
from videoexport.v1 import export_pb2 as pb

LANE_OF_FAMILY = {pb.ENCODER_FAMILY_CPU: Lane.CPU, pb.ENCODER_FAMILY_NVENC: Lane.GPU}
FAMILY_OF_LANE = {lane: family for family, lane in LANE_OF_FAMILY.items()}


@dataclass(frozen=True, slots=True)
class FamilyChoice:
    """The encoder family for an export, and why."""

    family: pb.EncoderFamily.ValueType
    reason: str
    warnings: tuple[pb.ExportWarning, ...] = ()

    @property
    def lane(self) -> Lane:
        """The queue that encoders of this family serve."""
        return LANE_OF_FAMILY[self.family]


def choose_family(preference: pb.EncoderPreference.ValueType, *, gpu_live: bool) -> FamilyChoice:
    """Return the family for a preference, given whether any live encoder has a working GPU."""
    if preference == pb.ENCODER_PREFERENCE_CPU:
        return FamilyChoice(pb.ENCODER_FAMILY_CPU, "The CPU was requested.")
    if gpu_live:
        return FamilyChoice(pb.ENCODER_FAMILY_NVENC, "A GPU encoder is live.")
    if preference == pb.ENCODER_PREFERENCE_GPU:
        message = "A GPU was requested, but no GPU encoder is live, so the CPU encodes."
        warning = pb.ExportWarning(code=Reason.GPU_FALLBACK, message=message)
        return FamilyChoice(pb.ENCODER_FAMILY_CPU, message, (warning,))
    return FamilyChoice(pb.ENCODER_FAMILY_CPU, "No GPU encoder is live.")
