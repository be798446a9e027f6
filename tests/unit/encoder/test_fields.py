"""Which sources have their fields made whole pictures, and from where they are read for it."""

from __future__ import annotations

from fractions import Fraction

import pytest

from services.encoder.commands.fields import field_filters
from services.encoder.commands.options import first_read
from services.encoder.commands.picture import padded
from videoexport.v1 import export_pb2 as pb

TOP, BOTTOM = pb.FIELD_ORDER_TOP_FIRST, pb.FIELD_ORDER_BOTTOM_FIRST
ONE_SIZE = padded(720, 576, "iw", "ih", "interl=-1:flags=bicubic")
WHOLE = "yadif=mode=send_frame:parity=auto:deint=interlaced"


def source(
    container: str = "matroska,webm",
    codec: str = "h264",
    fields: pb.FieldOrder.ValueType = pb.FIELD_ORDER_UNSPECIFIED,
) -> pb.SourceInfo:
    info = pb.SourceInfo(container=container)
    info.video.codec, info.video.field_order = codec, fields
    info.video.width, info.video.height = 720, 576
    return info


@pytest.mark.parametrize(
    ("info", "filters"),
    [
        (source(), []),
        (source(fields=pb.FIELD_ORDER_PROGRESSIVE), []),
        (source(fields=TOP), [*ONE_SIZE, WHOLE]),
        (source(fields=BOTTOM), [*ONE_SIZE, WHOLE]),
        # Broadcasts change on the way.
        (
            source("mpegts", fields=pb.FIELD_ORDER_PROGRESSIVE),
            [*ONE_SIZE, WHOLE],
        ),
        (source("mpegts", "hevc", pb.FIELD_ORDER_PROGRESSIVE), []),
        # The decoder does not say it of each picture.
        (
            source(codec="mjpeg", fields=BOTTOM),
            [*ONE_SIZE, "setfield=bff", WHOLE],
        ),
    ],
)
def test_fields_become_whole_pictures_where_there_are_any(
    info: pb.SourceInfo, filters: list[str]
) -> None:
    assert field_filters(info) == filters


@pytest.mark.parametrize(("fields", "first"), [(pb.FIELD_ORDER_PROGRESSIVE, 50), (TOP, 25)])
def test_picture_before_the_first_one_is_read_with_fields(
    fields: pb.FieldOrder.ValueType, first: int
) -> None:
    info = source(fields=fields)
    info.video.frame_rate.CopyFrom(pb.Rational(numerator=25, denominator=1))
    info.video.max_keyframe_interval.seconds = 1
    info.video.keyframes.extend([0, 25, 50, 75])
    # In matroska, keyframes up to 17 pictures away are gone to.
    where = first_read(info, Fraction(25), 50, sound=False, least_margin=Fraction(0))
    assert where == (50 if first == 50 else 50 - 17)
