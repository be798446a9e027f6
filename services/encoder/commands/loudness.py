"""How loud a sound is, and what brings it to another loudness (EBU R 128). Pure: no I/O.

In two passes over a draft, whose sound is uncompressed: it is measured, then made louder or
quieter by one gain and compressed, and what came of it is measured again.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from services.common.errors import Reason
from services.encoder.commands.codecs import audio_codec, copied_pictures
from services.encoder.commands.containers import clean_output, demuxer_of
from services.encoder.commands.extras import NO_EXTRAS, Extras
from services.encoder.commands.ffmpeg_command import FfmpegCommand
from services.encoder.commands.filters import SAMPLE_RATE
from services.encoder.commands.options import escaped, global_options
from services.encoder.errors import OutputMismatch
from videoexport.v1 import export_pb2 as pb
from videoexport.v1 import task_pb2

# Below this nothing counts as sound (ITU-R BS.1770-5, annex 1).
SILENCE_LUFS = -70.0
SILENCE_DBTP = -100.0
MOST_TRUE_PEAK = -1.0
# Peaks are held a little lower, for what AAC makes of them is not quite what it is given.
FIRST_CEILING = MOST_TRUE_PEAK - 0.5
# What is said to be reached: EBU R 128 allows half a unit where no better is possible.
TOLERANCE_LU = 0.5
# What is tried again: AAC leaves out a quarter of a unit of noise, and next to nothing of music.
CLOSE_LU = 0.1

# FFmpeg measures in blocks of 100 ms.
_BLOCK = SAMPLE_RATE // 10
# The filter tells peaks as they are, with three decimals.
_PEAK_ROUNDING = 0.0005
# Between samples, peaks are found at four times their rate.
_OVERSAMPLED = 4 * SAMPLE_RATE
_TAG = "loudness"


@dataclass(frozen=True, slots=True)
class Measured:
    """How loud a sound is.

    Attributes:
        lufs: integrated loudness; SILENCE_LUFS where there is nothing to hear.
        peak: the highest true peak, 1 being full scale.
    """

    lufs: float
    peak: float

    @property
    def silent(self) -> bool:
        """Whether there is nothing to make louder."""
        return self.lufs <= SILENCE_LUFS

    @property
    def true_peak(self) -> float:
        """The highest true peak in dBTP."""
        return max(SILENCE_DBTP, 20 * math.log10(self.peak)) if self.peak > 0 else SILENCE_DBTP


@dataclass(frozen=True, slots=True)
class Aim:
    """What a sound is levelled to before it is compressed.

    Attributes:
        lufs: loudness that one gain brings it to.
        ceiling: in dBTP, below which true peaks are held.
    """

    lufs: float
    ceiling: float = FIRST_CEILING

    def after(self, before: Measured, delivered: Measured, target: float) -> Aim | None:
        """Return the next aim, given what came of this one; None where it is as good as can be.

        Args:
            before: the draft.
            target: in LUFS, what was asked for.
        """
        excess = delivered.true_peak - MOST_TRUE_PEAK
        missed = target - delivered.lufs
        if before.silent:
            return None
        if excess > 0:
            return Aim(self.lufs, self.ceiling - excess - CLOSE_LU)
        if abs(missed) > CLOSE_LU and not exceeds(before, self):
            return Aim(self.lufs + missed, self.ceiling)
        return None


@dataclass(frozen=True, slots=True)
class Draft:
    """A finished file but for the loudness of its sound, which is uncompressed.

    Attributes:
        samples: of its sound.
        pictures: codec of those beside it; None where there are none.
        codec: of the sound once it is levelled.
        extras: what the finished file has beside them.
    """

    path: Path
    samples: int
    pictures: pb.VideoCodec.ValueType | None
    codec: task_pb2.AudioCodec.ValueType = task_pb2.AUDIO_CODEC_AAC
    extras: Extras = NO_EXTRAS


def measure_command(ffmpeg: Path, file: Path, samples: int) -> FfmpegCommand:
    """Return the run that measures a file's sound; its output is read by `read_measured`."""
    output = file.with_name(f"{file.stem}.loudness.txt")
    graph = file.with_name(f"{file.stem}.loudness.graph.txt")
    # Up to the end of the last block, which would not be measured otherwise, and of what the
    # filter tells the last.
    whole = -(-samples // _BLOCK) * _BLOCK
    filters = [
        f"apad=whole_len={whole}",
        "ebur128=peak=true:metadata=1:framelog=quiet",
        f"atrim=start_sample={whole - _BLOCK}",
        f"ametadata=mode=print:file={escaped(output)}",
    ]
    arguments = [*_read(ffmpeg, file), "-/filter_complex", str(graph)]
    arguments += ["-map", "[a]", "-f", "null", "-"]
    text = f"[0:a:0]{','.join(filters)}[a]\n"
    return FfmpegCommand(tuple(arguments), {graph: text}, output, 0)


def read_measured(text: str) -> Measured:
    """Return what a run of `measure_command` has written.

    Raises:
        OutputMismatch: it has not written what it should.
    """
    values = dict(re.findall(r"^lavfi\.r128\.(I|true_peak)=(\S+)$", text, re.MULTILINE))
    if values.keys() != {"I", "true_peak"}:
        raise OutputMismatch("the sound's loudness could not be measured")
    lufs, peak = float(values["I"]), float(values["true_peak"])
    return Measured(max(SILENCE_LUFS, lufs) if math.isfinite(lufs) else SILENCE_LUFS, peak)


def level_command(
    ffmpeg: Path, draft: Draft, output: Path, measured: Measured, aim: Aim
) -> FfmpegCommand:
    """Return the run that levels the sound of a draft and compresses it."""
    filters = [
        *level_filters(measured, aim),
        "asetpts=N/SR/TB",
        f"apad=whole_len={draft.samples}",
        f"atrim=end_sample={draft.samples}",
    ]
    arguments = [*_read(ffmpeg, draft.path), *draft.extras.inputs(output.parent)]
    if draft.pictures is not None:
        arguments += ["-map", "0:v:0", *copied_pictures(draft.pictures)]
    codec = audio_codec(draft.codec)
    arguments += ["-map", "0:a:0", "-filter:a", ",".join(filters), *codec]
    arguments += draft.extras.options(1)
    arguments += clean_output(output, described_by=draft.extras.described_by(1))
    return FfmpegCommand(tuple(arguments), draft.extras.scripts(output.parent), output, 0)


def level_filters(measured: Measured, aim: Aim) -> list[str]:
    """Return the filters that bring a sound to a loudness: one gain, and a limiter where needed."""
    if measured.silent:
        return []
    filters = [f"volume={aim.lufs - measured.lufs:.3f}dB"]
    if exceeds(measured, aim):
        filters += [
            f"aresample={_OVERSAMPLED}",
            # As loud after it as before, and not later.
            f"alimiter=limit={_linear(aim.ceiling):.4f}:level=0:latency=1",
            f"aresample={SAMPLE_RATE}",
        ]
    return filters


def exceeds(measured: Measured, aim: Aim) -> bool:
    """Return whether peaks have to be held for a sound to be brought to a loudness."""
    gain = _linear(aim.lufs - measured.lufs)
    return (measured.peak + _PEAK_ROUNDING) * gain > _linear(aim.ceiling)


def _linear(decibels: float) -> float:
    return 10 ** (decibels / 20)


def tag_command(ffmpeg: Path, file: Path, output: Path, loudness: pb.Loudness) -> FfmpegCommand:
    """Return the run that copies a soundtrack and writes into it how loud it is.

    A part is found by its key alone: what is to be known of it must be in it.
    """
    values = (
        loudness.target_lufs,
        loudness.measured_lufs,
        loudness.delivered_lufs,
        loudness.true_peak_dbtp,
    )
    tag = f"comment={_TAG} {' '.join(f'{value:.3f}' for value in values)}"
    arguments = [*_read(ffmpeg, file), "-map", "0:a:0", "-c:a", "copy"]
    arguments += [*clean_output(output)[:-1], "-metadata", tag, str(output)]
    return FfmpegCommand(tuple(arguments), {}, output, 0)


def read_tag(text: str) -> pb.Loudness | None:
    """Return what `tag_command` has written, from FFmpeg's description of the file's tags."""
    # Matroska writes names of tags in capitals.
    wanted = rf"^(?:comment|COMMENT)={_TAG} (\S+) (\S+) (\S+) (\S+)$"
    found = re.search(wanted, text, re.MULTILINE)
    if found is None:
        return None
    target, measured, delivered, true_peak = map(float, found.groups())
    return pb.Loudness(
        target_lufs=target,
        measured_lufs=measured,
        delivered_lufs=delivered,
        true_peak_dbtp=true_peak,
    )


def loudness_warnings(output: pb.Output) -> Sequence[pb.ExportWarning]:
    """Return what the owner should know of an output's loudness."""
    told = output.loudness
    if told.measured_lufs <= SILENCE_LUFS or not output.HasField("loudness"):
        return []
    if abs(told.delivered_lufs - told.target_lufs) <= TOLERANCE_LU:
        return []
    message = (
        f"The sound has {told.delivered_lufs:.1f} LUFS instead of {told.target_lufs:.1f}: its peaks"
        f" would have exceeded {MOST_TRUE_PEAK:g} dBTP."
    )
    return [pb.ExportWarning(code=Reason.LOUDNESS_MISSED, message=message)]


def _read(ffmpeg: Path, file: Path) -> list[str]:
    local = ["-protocol_whitelist", "file", "-format_whitelist", demuxer_of(file)]
    return [*global_options(ffmpeg), *local, "-i", str(file)]
