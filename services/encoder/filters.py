"""The filter graphs of an export, as text for FFmpeg. Pure.

Both graphs cut on the same integer grid. Pictures are laid on it by `fps`, whose
`start_time` drops what was decoded before the first frame and keeps the picture
that was showing then, so one chain serves constant and varying rates and any
first timestamp. Sound is cut in pieces of exactly one frame's length, so that one
expression over the frame number selects both, and is counted to the sample.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from services.common.frames import FrameRange
from services.encoder.readings import Reading
from videoexport.v1 import export_pb2 as pb

SAMPLE_RATE = 48_000
# Above this, sound is not cut by whole frames but every reading holds one range.
MAX_WORKING_RATE = 192_000


@dataclass(frozen=True, slots=True)
class Placement:
    """Where the fitted picture lies in the output, in pixels."""

    width: int
    height: int
    left: int
    top: int


@dataclass(frozen=True, slots=True)
class Timeline:
    """The grid on the source's own clock.

    Attributes:
        rate: frames per second of the grid.
        origin: seconds on the container's clock at which frame 0 begins.
    """

    rate: Fraction
    origin: Fraction

    def time(self, frame: int) -> Fraction:
        """Return when a frame begins, in seconds on the container's clock."""
        return self.origin + frame / self.rate


def place(video: pb.VideoStream, width: int, height: int) -> Placement:
    """Return where the picture goes: as large as fits, its aspect kept, centred.

    Sizes and offsets are even, because 4:2:0 shares chroma between pairs of pixels.
    """
    sar = Fraction(1)
    if video.sample_aspect_ratio.numerator > 0 and video.sample_aspect_ratio.denominator > 0:
        sar = Fraction(video.sample_aspect_ratio.numerator, video.sample_aspect_ratio.denominator)
    aspect = Fraction(video.width, video.height) * sar
    if video.rotation in (90, 270):
        aspect = 1 / aspect
    fitted_width = min(width, _even(height * aspect))
    fitted_height = min(height, _even(width / aspect))
    return Placement(
        fitted_width,
        fitted_height,
        (width - fitted_width) // 4 * 2,
        (height - fitted_height) // 4 * 2,
    )


def _even(length: Fraction) -> int:
    return max(2, round(length / 2) * 2)


def working_rate(rate: Fraction) -> int | None:
    """Return samples per second that give every frame a whole number of samples.

    The lowest multiple from 48 kHz on, such as 60 kHz for 30000/1001; None where
    the frame rate is too odd for one.
    """
    multiple = -(-SAMPLE_RATE // rate.numerator) * rate.numerator
    return multiple if multiple <= MAX_WORKING_RATE else None


def selection(ranges: Sequence[FrameRange], origin: int) -> str:
    """Return an expression over `n` that is 1 within the ranges, counted from `origin`.

    A balanced tree of comparisons: a sum of a thousand terms does not parse, and
    a thousand branches of `split` cost 10 ms a frame.
    """
    if len(ranges) == 1:
        return f"lt(n,{ranges[0].end - origin})"
    middle = len(ranges) // 2
    below, above = selection(ranges[:middle], origin), selection(ranges[middle:], origin)
    return f"if(lt(n,{ranges[middle].start - origin}),{below},{above})"


def video_graph(
    readings: Sequence[Reading],
    timeline: Timeline,
    stream: int,
    picture: Sequence[str],
    *,
    picture_first: bool = False,
) -> str:
    """Return the graph from the inputs' stream number `stream` to the pad `[v]`.

    Args:
        picture: filters that every frame of the output goes through.
        picture_first: whether frames go through them before they are laid on the
            grid. `fps` fills a pause with all its repeats at once: as references
            to one finished picture they cost nothing, while as inputs of a filter
            each becomes a picture of its own (a minute's pause took 6 GB). Last is
            cheaper where nothing is repeated, for it leaves out what is cut.
    """
    branches = []
    for index, reading in enumerate(readings):
        span = reading.end - reading.start
        chain = list(picture) if picture_first else []
        chain.append(f"fps={timeline.rate}:start_time={_seconds(timeline.time(reading.start))}")
        # Ends the input as soon as its last frame is out.
        chain.append(f"trim=end_frame={span}")
        if len(reading.ranges) > 1:
            chain.append(f"select='{selection(reading.ranges, reading.start)}'")
        chain.append("setpts=PTS-STARTPTS")
        branches.append(f"[{index}:{stream}]{','.join(chain)}[v{index}]")
    tick = 1 / timeline.rate
    tail = [f"settb={tick.numerator}/{tick.denominator}", "setpts=N"]
    if not picture_first:
        tail += picture
    return _join(branches, "v", "concat=n={}:v=1:a=0", tail)


def audio_graph(
    readings: Sequence[Reading], timeline: Timeline, stream: int, first_sample: int, samples: int
) -> str:
    """Return the graph from the inputs' stream number `stream` to the pad `[a]`.

    Args:
        first_sample: place of this part in the whole output, in samples at 48 kHz.
        samples: length of this part, in samples at 48 kHz.
    """
    shared = any(len(reading.ranges) > 1 for reading in readings)
    rate = (working_rate(timeline.rate) if shared else None) or SAMPLE_RATE
    branches = []
    done = 0
    for index, reading in enumerate(readings):
        start, end = timeline.time(reading.start), timeline.time(reading.end)
        # Rounded as places in the whole output, so that no error adds up.
        place = first_sample * Fraction(rate, SAMPLE_RATE) + done * rate / timeline.rate
        length = round(place + (reading.end - reading.start) * rate / timeline.rate) - round(place)
        done += reading.frame_count
        chain = [
            f"atrim={_seconds(start)}:{_seconds(end)}",
            f"asetpts=PTS-({_seconds(start)})/TB",
            # Silence where the sound begins later or has holes; jitter is left alone.
            # More channels are mixed into two without exceeding full scale.
            f"aresample={rate}:async=1:first_pts=0:min_hard_comp=0.03:rematrix_maxval=1",
            "aformat=sample_fmts=fltp:channel_layouts=stereo",
            f"apad=whole_len={length}",
            f"atrim=end_sample={length}",
        ]
        if len(reading.ranges) > 1:
            chain.append(f"asetnsamples={rate / timeline.rate}")
            chain.append(f"aselect='{selection(reading.ranges, reading.start)}'")
        chain.append("asetpts=N/SR/TB")
        branches.append(f"[{index}:{stream}]{','.join(chain)}[a{index}]")
    tail = [f"aresample={SAMPLE_RATE}"] if rate != SAMPLE_RATE else []
    tail += [f"apad=whole_len={samples}", f"atrim=end_sample={samples}", "asetpts=N/SR/TB"]
    return _join(branches, "a", "concat=n={}:v=0:a=1", tail)


def cpu_picture(video: pb.VideoStream, plan: pb.Plan) -> list[str]:
    """Return the filters that fit, pad and convert a frame on the CPU."""
    placement = place(video, plan.width, plan.height)
    return [
        f"scale={placement.width}:{placement.height}:flags=bicubic:{_colour(video)}",
        f"pad={plan.width}:{plan.height}:{placement.left}:{placement.top}",
        "setsar=1",
        "format=yuv420p",
    ]


def gpu_picture(video: pb.VideoStream, plan: pb.Plan) -> list[str]:
    """Return the filters that convert and upload a frame and fit and pad it on the GPU.

    Cutting stays on the CPU, where it only counts frames; so does decoding,
    because NVDEC refuses too many sources (10 bit H.264, 4:2:2, rotation) to be
    proven by a trial, and dozens of inputs would each take its surfaces.
    """
    placement = place(video, plan.width, plan.height)
    return [
        f"scale={_colour(video)}",
        "format=yuv420p",
        "hwupload_cuda",
        f"scale_cuda={placement.width}:{placement.height}:interp_algo=bicubic",
        f"pad_cuda={plan.width}:{plan.height}:{placement.left}:{placement.top}",
        "setsar=1",
    ]


def _colour(video: pb.VideoStream) -> str:
    """Return how `scale` is to convert: to the range that players expect of H.264.

    What the source says of its colours goes through with the frames. RGB says
    nothing, and becomes what is taken for granted at these sizes.
    """
    rgb = video.color_space == "gbr" or video.pixel_format.lstrip("a0x").startswith(
        ("rgb", "bgr", "gbr", "pal8")
    )
    return "out_range=tv:out_color_matrix=bt709" if rgb else "out_range=tv"


def _seconds(time: Fraction) -> str:
    """Return seconds with FFmpeg's precision: a millisecond would miss by half a frame."""
    return f"{float(time):.6f}"


def _join(branches: list[str], pad: str, concat: str, tail: Sequence[str]) -> str:
    """Return the graph of all branches one after the other and through `tail`."""
    pads = "".join(f"[{pad}{index}]" for index in range(len(branches)))
    chain = list(tail)
    if len(branches) > 1:
        chain.insert(0, concat.format(len(branches)))
    return ";\n".join([*branches, f"{pads}{','.join(chain)}[{pad}]"]) + "\n"
