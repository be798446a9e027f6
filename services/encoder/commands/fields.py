"""Pictures that consist of two fields, of two moments, made whole pictures. Pure.

One picture becomes one: the frame grid is that of the source, and a picture shows the moment of
its first field. So film that was spread over fields for television (2:3 pulldown, flagged as
interlaced) is shown without combs, but with the uneven steps that it has; where the stream keeps
film's own pictures and only says which fields a player is to repeat, they are what is exported,
at film's rate.
"""

from __future__ import annotations

from services.common.geometry import upright_size
from services.encoder.commands.picture import padded
from videoexport.v1 import export_pb2 as pb

# How many pictures before the first that is wanted are decoded: the one before is looked at.
PICTURES_BEFORE = 2
# Broadcasts change from film to fields and back, whatever their beginning says.
_BROADCAST = ("h264", "mpeg2video")
# Decoders of these know nothing of fields, or not always; what the container says holds for all.
_TOLD_BY_CONTAINER = ("mjpeg", "jpeg2000")


def has_fields(info: pb.SourceInfo) -> bool:
    """Return whether pictures may consist of fields."""
    told = info.video.field_order in (pb.FIELD_ORDER_TOP_FIRST, pb.FIELD_ORDER_BOTTOM_FIRST)
    return told or (info.container == "mpegts" and info.video.codec in _BROADCAST)


def field_filters(info: pb.SourceInfo) -> list[str]:
    """Return the filters that make whole pictures of a source's fields; others they let pass."""
    if not has_fields(info):
        return []
    # It takes pictures of one size alone; those that have it pass untouched.
    chain = padded(*upright_size(info.video), "iw", "ih", "interl=-1:flags=bicubic")
    if info.video.codec in _TOLD_BY_CONTAINER:
        bottom = info.video.field_order == pb.FIELD_ORDER_BOTTOM_FIRST
        chain.append(f"setfield={'bff' if bottom else 'tff'}")
    # Not bwdif: what flickers from field to field it takes for standing still, and leaves combs.
    return [*chain, "yadif=mode=send_frame:parity=auto:deint=interlaced"]
