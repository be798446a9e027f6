"""Filter graphs: what is selected, how many samples there are."""

import re
from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from services.common.frames import FrameRange
from services.encoder.commands.filters import (
    SoundCut,
    Timeline,
    audio_graph,
    selection,
    video_graph,
)
from services.encoder.commands.readings import Reading, group_ranges

NTSC = Fraction(30000, 1001)


def evaluate(expression: str, n: int) -> bool:
    """FFmpeg's meaning of an expression made of if() and lt()."""
    if match := re.fullmatch(r"lt\(n,(\d+)\)", expression):
        return n < int(match[1])
    match = re.match(r"if\(lt\(n,(\d+)\),", expression)
    assert match is not None, expression
    depth, start = 0, match.end()
    for position in range(start, len(expression)):
        character = expression[position]
        depth += (character == "(") - (character == ")")
        if character == "," and depth == 0:
            below, above = expression[start:position], expression[position + 1 : -1]
            return evaluate(below if n < int(match[1]) else above, n)
    raise AssertionError(expression)


@given(
    st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=40),
    st.integers(0, 50),
)
def test_selection_is_true_within_the_ranges_alone(
    gaps_and_lengths: list[tuple[int, int]], origin: int
) -> None:
    ranges: list[FrameRange] = []
    position = origin
    for gap, length in gaps_and_lengths:
        start = position + gap if ranges else position
        ranges.append(FrameRange(start, start + length))
        position = start + length
    expression = selection(ranges, origin)
    wanted = {frame - origin for each in ranges for frame in range(each.start, each.end)}
    # FFmpeg ends the stream after the last range, so nothing is asked beyond it.
    assert {n for n in range(position - origin) if evaluate(expression, n)} == wanted


def test_selection_of_a_thousand_ranges_is_shallow() -> None:
    expression = selection([FrameRange(10 * n, 10 * n + 5) for n in range(1000)], 0)
    depth = deepest = 0
    for character in expression:
        depth += (character == "(") - (character == ")")
        deepest = max(deepest, depth)
    assert deepest <= 12


BRANCH = re.compile(r"atrim=start_sample=(\d+):end_sample=(\d+),asetpts=N/SR/TB(.*)\[a\d+\]")
FADE = re.compile(r"afade=t=(in|out):start_sample=(\d+):nb_samples=(\d+)")


@given(
    st.lists(st.tuples(st.integers(0, 900), st.integers(1, 50)), min_size=1, max_size=20),
    st.sampled_from([Fraction(25), NTSC, Fraction(25, 2), Fraction(24000, 1001), Fraction(120)]),
    st.integers(0, 1000),
    st.integers(0, 60),
)
def test_sound_has_exactly_the_samples_of_the_frames(
    segments: list[tuple[int, int]], rate: Fraction, first_frame: int, gap: int
) -> None:
    ranges = [FrameRange(start, start + length) for start, length in segments]
    readings = group_ranges(ranges, gap)
    frame_count = sum(each.frame_count for each in ranges)
    timeline = Timeline(rate, Fraction(0))
    graph = audio_graph(readings, timeline, [1], SoundCut(first_frame, first_frame + frame_count))
    first = round(first_frame * 48_000 / rate)
    samples = round((first_frame + frame_count) * 48_000 / rate) - first
    pieces = [(int(a), int(b)) for a, b, _ in BRANCH.findall(graph)]
    assert sum(end - start for start, end in pieces) == samples
    assert graph.endswith(f"atrim=end_sample={samples},asetpts=N/SR/TB[a]\n")
    # Each begins where its first frame does, to the sample.
    wanted = [
        round((frames.start - reading.start) * 48_000 / rate)
        for reading in readings
        for frames in reading.ranges
    ]
    assert [start for start, _ in pieces] == wanted


@given(
    st.lists(st.tuples(st.integers(0, 900), st.integers(1, 50)), min_size=2, max_size=20),
    st.sampled_from([Fraction(25), NTSC, Fraction(120)]),
    st.sampled_from([0, 60]),
)
def test_sound_fades_at_real_cuts_alone(
    segments: list[tuple[int, int]], rate: Fraction, gap: int
) -> None:
    ranges = [FrameRange(start, start + length) for start, length in segments]
    readings = group_ranges(ranges, gap)
    joined = [frames for reading in readings for frames in reading.ranges]
    total = sum(each.frame_count for each in ranges)
    graph = audio_graph(readings, Timeline(rate, Fraction(0)), [1], SoundCut(0, total))
    faded = [{kind for kind, _, _ in FADE.findall(rest)} for _, _, rest in BRANCH.findall(graph)]
    # Neighbours in the source are one range by now, so every join left is a real cut.
    assert all(a.end != b.start for a, b in pairwise(joined))
    last = len(joined) - 1
    assert faded == [
        {kind for kind, wanted in (("in", number > 0), ("out", number < last)) if wanted}
        for number in range(len(joined))
    ]
    for start, end, rest in BRANCH.findall(graph):
        length = int(end) - int(start)
        for kind, at, samples in FADE.findall(rest):
            assert 144 <= int(samples) <= 240  # 3 to 5 ms
            assert int(at) == (0 if kind == "in" else length - int(samples))


def test_video_graph_of_one_range_selects_nothing() -> None:
    timeline = Timeline(Fraction(25), Fraction(3, 2))
    assert video_graph([Reading((FrameRange(10, 20),))], timeline, 0, ["null"]) == (
        "[0:0]setpts=PTS-(1.900000)/TB,fps=25,trim=start_pts=0:end_pts=10,setpts=PTS-STARTPTS[v0];\n"
        "[v0]settb=1/25,setpts=N,null[v]\n"
    )


PIECES = [Reading((FrameRange(10, 20), FrameRange(25, 30)))]
FROM_SOURCE = (
    "atrim=0.400000:1.200000,asetpts=PTS-(0.400000)/TB,{fold}"
    "aresample=48000:async=1:first_pts=0:min_hard_comp=0.015:rematrix_maxval=1,"
    "aformat=sample_fmts=fltp:channel_layouts={layout},apad=whole_len=38400"
)
TO_OUTPUT = (
    "[r0_0]atrim=start_sample=0:end_sample=19200,asetpts=N/SR/TB,"
    "afade=t=out:start_sample=19008:nb_samples=192[a0];\n"
    "[r0_1]atrim=start_sample=28800:end_sample=38400,asetpts=N/SR/TB,"
    "afade=t=in:start_sample=0:nb_samples=192[a1];\n"
    "[a0][a1]concat=n=2:v=0:a=1,apad=whole_len=28800,atrim=end_sample=28800,asetpts=N/SR/TB[a]\n"
)


def sound_graph(*streams: int, fold: Sequence[str] = ()) -> str:
    return audio_graph(PIECES, Timeline(Fraction(25), Fraction(0)), streams, SoundCut(0, 15), fold)


def test_sound_of_a_stream() -> None:
    chain = FROM_SOURCE.format(fold="", layout="stereo")
    assert sound_graph(3) == f"[0:3]{chain},asplit=2[r0_0][r0_1];\n{TO_OUTPUT}"


def test_sound_that_is_folded_before_anything_else_is_made_of_it() -> None:
    chain = FROM_SOURCE.format(fold="pan=stereo|c0=c0|c1=c1,", layout="stereo")
    wanted = f"[0:1]{chain},asplit=2[r0_0][r0_1];\n{TO_OUTPUT}"
    assert sound_graph(1, fold=["pan=stereo|c0=c0|c1=c1"]) == wanted


def test_sound_of_a_left_and_a_right_stream() -> None:
    chain = FROM_SOURCE.format(fold="", layout="mono")
    assert sound_graph(4, 2) == (
        f"[0:4]{chain}[side0_0];\n[0:2]{chain}[side0_1];\n"
        "[side0_0][side0_1]join=inputs=2:channel_layout=stereo:map=0.0-FL|1.0-FR,"
        f"asplit=2[r0_0][r0_1];\n{TO_OUTPUT}"
    )


def test_sound_of_one_piece_is_not_split() -> None:
    readings = [Reading((FrameRange(0, 5),))]
    graph = audio_graph(readings, Timeline(Fraction(25), Fraction(0)), [1], SoundCut(0, 5))
    assert graph == (
        "[0:1]atrim=0.000000:0.200000,asetpts=PTS-(0.000000)/TB,"
        "aresample=48000:async=1:first_pts=0:min_hard_comp=0.015:rematrix_maxval=1,"
        "aformat=sample_fmts=fltp:channel_layouts=stereo,apad=whole_len=9600,"
        "atrim=start_sample=0:end_sample=9600,asetpts=N/SR/TB[a0];\n"
        "[a0]apad=whole_len=9600,atrim=end_sample=9600,asetpts=N/SR/TB[a]\n"
    )
