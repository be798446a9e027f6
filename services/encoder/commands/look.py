"""What the pictures of an output are: their codec, format and colours. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from services.common.codecs import AV1, H264, HEVC, VP9, is_ten_bit
from services.encoder.commands.colour import Tags, is_carried, tags_of_output
from videoexport.v1 import export_pb2 as pb

# As FFmpeg names them.
CODEC_NAMES = {H264: "h264", HEVC: "hevc", AV1: "av1", VP9: "vp9"}
EIGHT_BITS, TEN_BITS = "yuv420p", "yuv420p10le"


@dataclass(frozen=True, slots=True)
class Look:
    """What the pictures of a file must be, by FFmpeg's names.

    Attributes:
        pixel_formats: one of these.
        tags: what the file says of their colours; of what is empty it may say anything. None
            where that was checked of what it was joined of.
        carried: whether they are the source's own, which may be others further on in it than
            where it was examined.
    """

    codec: str
    pixel_formats: tuple[str, ...]
    tags: Tags | None = None
    carried: bool = False

    def faults(self, codec: str, pixel_format: str, tags: Tags) -> list[str]:
        """Return what pictures are instead."""
        faults = []
        if codec != self.codec:
            faults.append(f"pictures in {codec or 'no codec'} instead of {self.codec}")
        if pixel_format not in self.pixel_formats:
            wanted = " or ".join(self.pixel_formats)
            faults.append(f"pictures of {pixel_format or 'no format'} instead of {wanted}")
        if self.tags is None:
            return faults
        if self.carried and self.tags.usual and tags.usual and tags.range == self.tags.range:
            return faults
        for name, found, wanted in (
            ("primaries", tags.primaries, self.tags.primaries),
            ("transfer", tags.transfer, self.tags.transfer),
            ("matrix", tags.matrix, self.tags.matrix),
            ("range", tags.range, self.tags.range),
        ):
            if wanted and found != wanted:
                faults.append(f"colours of {name} {found or 'unsaid'} instead of {wanted}")
        return faults


def look_of(video: pb.VideoStream, plan: pb.Plan) -> Look:
    """Return how pictures come out that are made of a source's."""
    codec = CODEC_NAMES[plan.video_codec or H264]
    if plan.quality == pb.QUALITY_SOURCE:
        # Nothing is changed, beside pictures that are copied.
        said = (video.color_primaries, video.color_transfer, video.color_space, video.color_range)
        return Look(codec, (video.pixel_format,), Tags(*said))
    ten_bit = is_ten_bit(video, plan.dynamic_range)
    keep = plan.dynamic_range == pb.DYNAMIC_RANGE_KEEP
    return Look(
        codec,
        (TEN_BITS if ten_bit else EIGHT_BITS,),
        tags_of_output(video, keep=keep),
        is_carried(video, keep=keep),
    )


def look_of_joined(plan: pb.Plan) -> Look:
    """Return how pictures look that were made in parts, by what is known without their source."""
    formats = [EIGHT_BITS]
    if plan.quality == pb.QUALITY_SOURCE:
        formats.append("yuvj420p")  # a phone's, in full range
    elif plan.dynamic_range == pb.DYNAMIC_RANGE_KEEP:
        formats.append(TEN_BITS)
    return Look(CODEC_NAMES[plan.video_codec or H264], tuple(formats))
