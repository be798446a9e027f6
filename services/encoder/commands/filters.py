"""The filter graphs of an export, as text for FFmpeg. Pure.

Both graphs cut on the same integer grid. Pictures are laid on it by `fps`, whose
`start_time` drops what was decoded before the first frame and keeps the picture
that was showing then, so one chain serves constant and varying rates and any
first timestamp. Sound is cut to the sample, at the places that its frames have in the
whole output.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from services.common.frames import FrameRange
from services.encoder.commands.pieces import Piece
from services.encoder.commands.readings import Reading

SAMPLE_RATE = 48_000
FADE_SAMPLES = 192  # 4 ms: too short to be heard as a fade, long enough not to click


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
class Drawn:
    """What is drawn onto the frames of an output.

    Attributes:
        mark: filters that make the picture of a watermark; empty where there is none.
        place: where it is, as `overlay` is told.
        filters: that draw by a frame's time.
        after: that every frame goes through afterwards.
    """

    mark: Sequence[str] = ()
    place: str = ""
    filters: Sequence[str] = ()
    after: Sequence[str] = ()


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

    def of(self, piece: Piece | None) -> Timeline:
        """Return the grid on the clock of a piece of the source."""
        return self if piece is None else replace(self, origin=piece.origin)


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
    first_input: int = 0,
    pad: str = "v",
    fields: Sequence[str] = (),
    fill: bool = False,
) -> str:
    """Return the graph from the inputs' stream number `stream` to one pad.

    Args:
        picture: filters that every frame of the output goes through.
        picture_first: whether frames go through them before they are laid on the
            grid. `fps` fills a pause with all its repeats at once: as references
            to one finished picture they cost nothing, while as inputs of a filter
            each becomes a picture of its own (a minute's pause took 6 GB). Last is
            cheaper where nothing is repeated, for it leaves out what is cut.
        first_input: number of the input of the first reading.
        pad: its name, which those on the way to it begin with.
        fields: filters that make whole pictures of two fields each. They look at the pictures
            before and after, and so come before anything is cut.
        fill: whether pictures that are missing are filled, wherever they are.
    """
    branches = []
    for number, reading in enumerate(readings):
        span = reading.end - reading.start
        start = _seconds(timeline.of(reading.piece).time(reading.start))
        chain = [*fields, *picture] if picture_first else [*fields]
        if fill:
            # Laid on the grid, held at the end, and at the beginning held or left out.
            chain += [f"setpts=PTS-({start})/TB", f"fps={timeline.rate}"]
            chain += ["tpad=stop=-1:stop_mode=clone", f"fps={timeline.rate}:start_time=0"]
            chain.append(f"trim=end_frame={span}")
        elif reading.start == reading.begins:
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
        branches.append(f"[{first_input + number}:{stream}]{','.join(chain)}[{pad}{number}]")
    tick = 1 / timeline.rate
    tail = [f"settb={tick.numerator}/{tick.denominator}", "setpts=N"]
    if not picture_first:
        tail += picture
    return _join(branches, pad, len(readings), "concat=n={}:v=1:a=0", tail)


def drawn_graph(drawn: Drawn) -> str:
    """Return the graph that draws onto frames, from the pad `[bare]` to the pad `[v]`.

    A graph of its own: FFmpeg hands frames from one to another a few at a time. Within one, all
    repeats of a pause become pictures of their own before the first of them is encoded, for each
    is drawn onto: a minute's pause of 1920×1080 took 4.9 GB.
    """
    if not drawn.mark:
        return f"[bare]{','.join([*drawn.filters, *drawn.after])}[v]\n"
    chain = [f"overlay={drawn.place}:format=yuv420", *drawn.filters, *drawn.after]
    return f"{','.join(drawn.mark)}[mark];\n[bare][mark]{','.join(chain)}[v]\n"


def audio_graph(
    readings: Sequence[Reading],
    timeline: Timeline,
    streams: Sequence[int],
    cut: SoundCut,
    fold: Sequence[str] = (),
    *,
    fill: bool = False,
    evened: int | None = None,
) -> str:
    """Return the graph from the inputs' sound to the pad `[a]`.

    Every range is a branch that ends at a sample of its own, and fades where it meets one
    that is not its neighbour in the source: a jump in the waveform would be heard as a click.

    Args:
        streams: number of the stream in each input; two are its left and its right.
        fold: filters that make two channels of the stream's, where FFmpeg does not do so itself.
        fill: whether every hole is filled, not those alone that cannot come of rounding.
        evened: number of the first of the inputs that have the readings' sound made even: `streams`
            are theirs, and begin with the readings.
    """
    rate = timeline.rate
    # Shorter than any codec's frame but for the shortest of Opus, one of which may be lost, and
    # longer than what timestamps are off in sources that are whole.
    least_hole = 0.005 if fill or evened is not None else 0.015
    branches = []
    frame = cut.first_frame
    count = 0
    for index, reading in enumerate(readings):
        pieces = []
        for frames in reading.ranges:
            # Rounded as places in the whole output, so that no error adds up.
            length = samples_of(frame + frames.frame_count, rate) - samples_of(frame, rate)
            skip = samples_of(frames.start - reading.start, rate)
            fades = _fades(
                length, fade_in=frame > 0, fade_out=frame + frames.frame_count < cut.total
            )
            pieces.append((skip, length, fades))
            frame += frames.frame_count
        whole = max(skip + length for skip, length, _ in pieces)
        clock = timeline.of(reading.piece)
        begun = begun_at(clock.time(reading.start), clock.time(reading.end))
        source = index if evened is None else evened + index
        chain = [
            *(begun if evened is None else []),
            *fold,
            # Silence where the sound begins later or has holes; jitter is left alone.
            # More channels are mixed into two without exceeding full scale.
            f"aresample={SAMPLE_RATE}:async=1:first_pts=0:min_hard_comp={least_hole}"
            ":rematrix_maxval=1",
            f"aformat=sample_fmts=fltp:channel_layouts={'mono' if len(streams) > 1 else 'stereo'}",
            f"apad=whole_len={whole}",
        ]
        if len(streams) > 1:
            sides = [f"side{index}_{number}" for number in range(len(streams))]
            for side, stream in zip(sides, streams, strict=True):
                branches.append(f"[{source}:{stream}]{','.join(chain)}[{side}]")
            pads = "".join(f"[{side}]" for side in sides)
            sound = f"{pads}join=inputs=2:channel_layout=stereo:map=0.0-FL|1.0-FR"
        else:
            sound = f"[{source}:{streams[0]}]{','.join(chain)}"
        shared = len(pieces) > 1
        if shared:
            pads = "".join(f"[r{index}_{number}]" for number in range(len(pieces)))
            branches.append(f"{sound},asplit={len(pieces)}{pads}")
        for number, (skip, length, fades) in enumerate(pieces):
            piece = f"[r{index}_{number}]" if shared else f"{sound},"
            steps = [f"atrim=start_sample={skip}:end_sample={skip + length}", "asetpts=N/SR/TB"]
            branches.append(f"{piece}{','.join([*steps, *fades])}[a{count}]")
            count += 1
    samples = samples_of(frame, rate) - samples_of(cut.first_frame, rate)
    tail = [f"apad=whole_len={samples}", f"atrim=end_sample={samples}", "asetpts=N/SR/TB"]
    return _join(branches, "a", count, "concat=n={}:v=0:a=1", tail)


def begun_at(start: Fraction, end: Fraction) -> list[str]:
    """Return the filters that leave sound of a time alone, counted from its start.

    Args:
        start, end: in seconds on the container's clock.
    """
    return [f"atrim={_seconds(start)}:{_seconds(end)}", f"asetpts=PTS-({_seconds(start)})/TB"]


def _fades(length: int, *, fade_in: bool, fade_out: bool) -> list[str]:
    """Return the fades of a piece of sound; one of a single frame has room for both."""
    fade = min(FADE_SAMPLES, length // 2)
    fades = []
    if fade_in:
        fades.append(f"afade=t=in:start_sample=0:nb_samples={fade}")
    if fade_out:
        fades.append(f"afade=t=out:start_sample={length - fade}:nb_samples={fade}")
    return fades


def samples_of(frames: int, rate: Fraction) -> int:
    """Return how many samples of sound so many frames last, of so many a second."""
    return round(frames * SAMPLE_RATE / rate)


def _seconds(time: Fraction) -> str:
    """Return seconds with FFmpeg's precision: a millisecond would miss by half a frame."""
    return f"{float(time):.6f}"


def _join(
    branches: list[str], pad: str, count: int, concat: str, tail: Sequence[str], out: str = ""
) -> str:
    """Return the graph of all branches, the pads of `count` one after the other through `tail`.

    Args:
        out: the pad that they end in; by default the one that they are named after.
    """
    pads = "".join(f"[{pad}{index}]" for index in range(count))
    chain = list(tail)
    if count > 1:
        chain.insert(0, concat.format(count))
    return ";\n".join([*branches, f"{pads}{','.join(chain)}[{out or pad}]"]) + "\n"
