"""Files that FFmpeg writes: their names, and the options of their formats. Pure."""

from __future__ import annotations

from pathlib import Path

from services.common.codecs import container_of
from videoexport.v1 import export_pb2 as pb
from videoexport.v1 import task_pb2

# How FFmpeg names the demuxers of mov and mp4, and of matroska and webm.
MP4_FORMAT = "mov,mp4,m4a,3gp,3g2,mj2"
WEBM_FORMAT = "matroska,webm"

# The index, or the cues, in front: so that playing can begin before the whole file is there.
_MUXERS = {
    ".mp4": ("-movflags", "+faststart", "-f", "mp4"),
    ".mov": ("-movflags", "+faststart", "-f", "mov"),
    ".m4a": ("-movflags", "+faststart", "-f", "ipod"),
    ".webm": ("-cues_to_front", "1", "-f", "webm"),
}


def output_file(folder: Path, stem: str, form: pb.Format.ValueType) -> Path:
    """Return where a file of a format goes."""
    return folder / f"{stem}.{container_of(form).suffix}"


def draft_file(folder: Path, stem: str) -> Path:
    """Return where an intermediate step to a file of any format goes."""
    return folder / f"{stem}.mp4"


def form_of_sound(codec: task_pb2.AudioCodec.ValueType) -> pb.Format.ValueType:
    """Return the format of a soundtrack that is joined with pictures later.

    Only WebM tells to the sample where Opus begins and ends.
    """
    return pb.FORMAT_WEBM if codec == task_pb2.AUDIO_CODEC_OPUS else pb.FORMAT_MP4


def clean_output(output: Path, *, draft: bool = False, described_by: int = -1) -> list[str]:
    """Return the options of an output that tells nothing of the source but its picture.

    Args:
        draft: whether it is only an intermediate step; its index need not be in front.
        described_by: number of the input that has its metadata and chapters; -1 is none.
    """
    muxer = ("-f", "mp4") if draft else _MUXERS[output.suffix]
    told = str(described_by)
    clean = ["-map_metadata", told, "-map_chapters", told, "-fflags", "+bitexact"]
    return [*clean, *muxer, str(output)]


def demuxer_of(path: Path) -> str:
    """Return the demuxer of a file that we have written, as FFmpeg names it."""
    return WEBM_FORMAT if path.suffix == ".webm" else MP4_FORMAT
