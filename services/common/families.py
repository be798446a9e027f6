"""Encoder families: which queue serves them, and which one an export gets."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from services.common.codecs import H264, NAMES
from services.common.errors import Reason, as_sentence
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


def choose_family(
    preference: pb.EncoderPreference.ValueType, *, gpu_live: bool, gpu_problem: str | None = None
) -> FamilyChoice:
    """Return the family for a preference.

    Args:
        gpu_live: whether any live encoder has a working GPU.
        gpu_problem: why such a one cannot make the export, as a clause; None where it can.
    """
    if not gpu_live:
        gpu_problem = "no GPU encoder is live"
    if preference == pb.ENCODER_PREFERENCE_CPU:
        return FamilyChoice(pb.ENCODER_FAMILY_CPU, "The CPU was requested.")
    if gpu_problem is None:
        return FamilyChoice(pb.ENCODER_FAMILY_NVENC, "A GPU encoder is live.")
    if preference == pb.ENCODER_PREFERENCE_GPU:
        message = f"A GPU was requested, but {gpu_problem}, so the CPU encodes."
        warning = pb.ExportWarning(code=Reason.GPU_FALLBACK, message=message)
        return FamilyChoice(pb.ENCODER_FAMILY_CPU, message, (warning,))
    return FamilyChoice(pb.ENCODER_FAMILY_CPU, as_sentence(gpu_problem))


SOUND_ALONE = FamilyChoice(pb.ENCODER_FAMILY_CPU, "Sound is encoded on the CPU.")


def lacking_codec(
    capabilities: Iterable[pb.EncoderCapability],
    family: pb.EncoderFamily.ValueType,
    codec: pb.VideoCodec.ValueType,
    *,
    ten_bit: bool,
) -> str | None:
    """Return what an encoder cannot make with a family, such as `HEVC of 10 bits`.

    None where it can make pictures of the codec, or does not have the family at all. What its
    trial encodes said is for operators, and told with the encoder alone.

    Args:
        ten_bit: whether they have 10 bits.
    """
    codec = codec or H264
    for capability in capabilities:
        if capability.family != family or not capability.available:
            continue
        # Encoders of before do not tell of codecs, and have the one.
        known = {each.video_codec: each for each in capability.codecs} or {
            H264: pb.CodecCapability(video_codec=H264, available=True)
        }
        found = known.get(codec)
        if found is None or not found.available:
            return f"{NAMES[codec]} on the {LANE_OF_FAMILY[family].upper()}"
        if ten_bit and not found.ten_bit:
            return f"{NAMES[codec]} of 10 bits on the {LANE_OF_FAMILY[family].upper()}"
    return None
