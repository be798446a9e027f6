"""Sound that changes its channels or its rate on the way, made even before it is cut. Pure.

Broadcasts go from stereo to 5.1 and back. FFmpeg begins the graph of filters anew then, and what
counts samples in it begins at zero. So a run of its own, whose filters go by timestamps alone,
makes each reading's sound stereo of one rate, each stretch as it would be by itself, and the run
that cuts reads that.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from services.common.sound import pair_of
from services.encoder.commands.codecs import audio_codec
from services.encoder.commands.ffmpeg_command import FfmpegCommand, Site
from services.encoder.commands.filters import SAMPLE_RATE, Timeline, begun_at
from services.encoder.commands.options import first_read, global_options, source_input
from services.encoder.commands.readings import Reading
from videoexport.v1 import export_pb2 as pb
from videoexport.v1 import task_pb2

# Its timestamps are as exact as samples.
_FORMAT = "nut"


def even_command(
    site: Site, info: pb.SourceInfo, timeline: Timeline, reading: Reading, output: Path
) -> FfmpegCommand:
    """Return the run that makes the sound of a reading even, from the reading's start on."""
    pair = pair_of(info)
    clock = timeline.of(reading.piece)
    first = first_read(
        info, timeline.rate, reading.start, sound=True, least_margin=site.least_margin
    )
    chain = [
        *begun_at(clock.time(reading.start), clock.time(reading.end)),
        # More channels are mixed into two without exceeding full scale.
        f"aresample={SAMPLE_RATE}:rematrix_maxval=1",
        f"aformat=sample_fmts=flt:channel_layouts={'mono' if pair else 'stereo'}",
    ]
    # Where it changes, some of it may be there twice, which would end a strict run; the run that
    # cuts leaves it out. What is damaged is told by what decoders say.
    arguments = [*global_options(site.ffmpeg, tolerant=True, quiet=True), "-copyts"]
    arguments += source_input(
        *(reading.url(site.url), info, clock, first),
        threads=site.threads,
        on_cpu=True,
        begins=reading.begins,
    )
    for stream in pair or [info.audio.index]:
        arguments += ["-map", f"0:{stream}"]
    arguments += ["-filter:a", ",".join(chain)]
    arguments += audio_codec(task_pb2.AUDIO_CODEC_UNSPECIFIED, lossless=True)
    arguments += ["-map_metadata", "-1", "-map_chapters", "-1", "-fflags", "+bitexact"]
    return FfmpegCommand((*arguments, "-f", _FORMAT, str(output)), {}, output, 0)


def even_inputs(commands: Sequence[FfmpegCommand]) -> list[str]:
    """Return the inputs of the run that reads what those have made."""
    options = []
    for command in commands:
        options += ["-protocol_whitelist", "file", "-f", _FORMAT, "-i", str(command.output)]
    return options
