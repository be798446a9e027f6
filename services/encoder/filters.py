"""The filter graphs of an export, as text for FFmpeg. Pure.

Both graphs cut on the same integer grid. Pictures are laid on it by `fps`, whose
`start_time` drops what was decoded before the first frame and keeps the picture
that was showing then, so one chain serves constant and varying rates and any
first timestamp. Sound is cut to the sample, at the places that its frames have in the
whole output.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from services.common.frames import FrameRange
from services.encoder.readings import Reading
from videoexport.v1 import export_pb2 as pb

SAMPLE_RATE = 48_000
FADE_SAMPLES = 192  # 4 ms: too short to be heard as a fade, long enough not to click


@dataclass(frozen=True, slots=True)
class Placement:
    """Where the fitted picture lies in the output, in pixels."""

    width: int
    height: int
    left: int
    top: int


@dataclass(frozen=True, slots=True)
class SoundCut:
    """Which part of an output's sound a graph makes.

    Attributes:
        first_frame: where the part begins, in frames of the output.
        total: frames of the whole output.
    """

    first_frame: int
    total: int


@dataclass(frozen=True, slots=True)
class Timeline:
    """The grid on the source's own clock.

    Attributes:
        rate: frames per second of the grid.
        origin: seconds on the container's clock at which frame 0 begins.
    """

    rate: Fraction
    origin: Fraction

    def time(self, frame: int | Fraction) -> Fraction:
        """Return when a frame begins, in seconds on the container's clock."""
        return self.origin + frame / self.rate


def place(video: pb.VideoStream, width: int, height: int) -> Placement:
    """Return where the picture goes: as large as fits, its aspect kept, centred.

    Sizes and offsets are even, because 4:2:0 shares chroma between pairs of pixels.
    """
    sar = _upright_sar(video)
    upright = (video.height, video.width) if _turned(video) else (video.width, video.height)
    aspect = Fraction(*upright) * sar
    fitted_width = min(width, _even(height * aspect))
    fitted_height = min(height, _even(width / aspect))
    return Placement(
        fitted_width,
        fitted_height,
        (width - fitted_width) // 4 * 2,
        (height - fitted_height) // 4 * 2,
    )


def _turned(video: pb.VideoStream) -> bool:
    return video.rotation in (90, 270)


def _upright_sar(video: pb.VideoStream) -> Fraction:
    ratio = video.sample_aspect_ratio
    if ratio.numerator <= 0 or ratio.denominator <= 0:
        return Fraction(1)
    sar = Fraction(ratio.numerator, ratio.denominator)
    return 1 / sar if _turned(video) else sar


def _even(length: Fraction) -> int:
    return max(2, round(length / 2) * 2)


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
        start = _seconds(timeline.time(reading.start))
        chain = list(picture) if picture_first else []
        if reading.start == 0:
            # What a damaged beginning lacks is filled with the first picture there is.
            chain.append(f"fps={timeline.rate}:start_time={start}")
            chain.append(f"trim=end_frame={span}")
        else:
            # Not filled: a picture that is missing here could not be decoded from where the
            # reading began. The count then tells, and it is read from further ahead.
            chain += [f"setpts=PTS-({start})/TB", f"fps={timeline.rate}"]
            # Ends the input as soon as its last frame is out.
            chain.append(f"trim=start_pts=0:end_pts={span}")
        if len(reading.ranges) > 1:
            chain.append(f"select='{selection(reading.ranges, reading.start)}'")
        chain.append("setpts=PTS-STARTPTS")
        branches.append(f"[{index}:{stream}]{','.join(chain)}[v{index}]")
    tick = 1 / timeline.rate
    tail = [f"settb={tick.numerator}/{tick.denominator}", "setpts=N"]
    if not picture_first:
        tail += picture
    return _join(branches, "v", len(readings), "concat=n={}:v=1:a=0", tail)


def audio_graph(readings: Sequence[Reading], timeline: Timeline, stream: int, cut: SoundCut) -> str:
    """Return the graph from the inputs' stream number `stream` to the pad `[a]`.

    Every range is a branch that ends at a sample of its own, and fades where it meets one
    that is not its neighbour in the source: a jump in the waveform would be heard as a click.
    """
    branches = []
    frame = cut.first_frame
    count = 0
    for index, reading in enumerate(readings):
        pieces = []
        for frames in reading.ranges:
            # Rounded as places in the whole output, so that no error adds up.
            length = samples_of(frame + frames.frame_count, timeline) - samples_of(frame, timeline)
            skip = samples_of(frames.start - reading.start, timeline)
            fades = _fades(
                length, fade_in=frame > 0, fade_out=frame + frames.frame_count < cut.total
            )
            pieces.append((skip, length, fades))
            frame += frames.frame_count
        whole = max(skip + length for skip, length, _ in pieces)
        start, end = timeline.time(reading.start), timeline.time(reading.end)
        chain = [
            f"atrim={_seconds(start)}:{_seconds(end)}",
            f"asetpts=PTS-({_seconds(start)})/TB",
            # Silence where the sound begins later or has holes; jitter is left alone.
            # More channels are mixed into two without exceeding full scale.
            f"aresample={SAMPLE_RATE}:async=1:first_pts=0:min_hard_comp=0.03:rematrix_maxval=1",
            "aformat=sample_fmts=fltp:channel_layouts=stereo",
            f"apad=whole_len={whole}",
        ]
        shared = len(pieces) > 1
        if shared:
            pads = "".join(f"[r{index}_{number}]" for number in range(len(pieces)))
            branches.append(f"[{index}:{stream}]{','.join(chain)},asplit={len(pieces)}{pads}")
        for number, (skip, length, fades) in enumerate(pieces):
            source = f"[r{index}_{number}]" if shared else f"[{index}:{stream}]"
            steps = [] if shared else list(chain)
            steps += [f"atrim=start_sample={skip}:end_sample={skip + length}", "asetpts=N/SR/TB"]
            branches.append(f"{source}{','.join([*steps, *fades])}[a{count}]")
            count += 1
    samples = samples_of(frame, timeline) - samples_of(cut.first_frame, timeline)
    tail = [f"apad=whole_len={samples}", f"atrim=end_sample={samples}", "asetpts=N/SR/TB"]
    return _join(branches, "a", count, "concat=n={}:v=0:a=1", tail)


def _fades(length: int, *, fade_in: bool, fade_out: bool) -> list[str]:
    """Return the fades of a piece of sound; one of a single frame has room for both."""
    fade = min(FADE_SAMPLES, length // 2)
    fades = []
    if fade_in:
        fades.append(f"afade=t=in:start_sample=0:nb_samples={fade}")
    if fade_out:
        fades.append(f"afade=t=out:start_sample={length - fade}:nb_samples={fade}")
    return fades


def samples_of(frames: int, timeline: Timeline) -> int:
    """Return how many samples of sound so many frames last."""
    return round(frames * SAMPLE_RATE / timeline.rate)


def cpu_picture(video: pb.VideoStream, plan: pb.Plan) -> list[str]:
    """Return the filters that fit, pad and convert a frame on the CPU.

    They do as `place` does for every frame's own size: broadcasts and recordings of calls
    change it on the way.
    """
    width, height, sar = plan.width, plan.height, _upright_sar(video)
    wide, high = f"iw*{sar.numerator}", f"ih*{sar.denominator}"
    size = (
        f"w='min({width},max(2,2*round({height}*{wide}/({high})/2)))'"
        f":h='min({height},max(2,2*round({width}*{high}/({wide})/2)))'"
    )
    return [
        f"scale={size}:eval=frame:flags=bicubic:{_colour(video)}",
        f"pad={width}:{height}:'2*floor((ow-iw)/4)':'2*floor((oh-ih)/4)':eval=frame",
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


def _join(branches: list[str], pad: str, count: int, concat: str, tail: Sequence[str]) -> str:
    """Return the graph of all branches, the pads of `count` one after the other through `tail`."""
    pads = "".join(f"[{pad}{index}]" for index in range(count))
    chain = list(tail)
    if count > 1:
        chain.insert(0, concat.format(count))
    return ";\n".join([*branches, f"{pads}{','.join(chain)}[{pad}]"]) + "\n"
