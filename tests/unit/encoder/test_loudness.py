"""What measures a sound and brings it to a loudness, and what is told of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.encoder.commands.loudness import (
    Aim,
    Draft,
    Measured,
    level_command,
    level_filters,
    loudness_warnings,
    measure_command,
    read_measured,
    read_tag,
    tag_command,
)
from services.encoder.errors import OutputMismatch
from videoexport.v1 import export_pb2 as pb

FFMPEG, FOLDER = Path("/opt/ffmpeg"), Path("/scratch/run_1")
MOV = "mov,mp4,m4a,3gp,3g2,mj2"
GLOBAL = [
    *("/opt/ffmpeg", "-nostdin", "-y", "-hide_banner", "-loglevel", "error", "-nostats"),
    *("-progress", "pipe:1", "-stats_period", "0.5", "-xerror", "-max_alloc", "536870912"),
]
LOCAL = ["-protocol_whitelist", "file", "-format_whitelist", MOV]
CLEAN = ["-map_metadata", "-1", "-map_chapters", "-1", "-fflags", "+bitexact"]
CLEAN += ["-movflags", "+faststart", "-f", "mp4"]
AAC = ["-c:a", "aac", "-b:a", "192k", "-flags:a", "+bitexact"]
TOLD = pb.Loudness(
    target_lufs=-16, measured_lufs=-23.125, delivered_lufs=-16.25, true_peak_dbtp=-1.5
)


def test_measuring_reads_the_sound_alone_and_tells_the_last_block() -> None:
    command = measure_command(FFMPEG, FOLDER / "draft.mp4", 100_000)
    graph = FOLDER / "draft.loudness.graph.txt"
    assert list(command.arguments) == [
        *GLOBAL,
        *LOCAL,
        *("-i", "/scratch/run_1/draft.mp4", "-/filter_complex", str(graph)),
        *("-map", "[a]", "-f", "null", "-"),
    ]
    assert command.scripts == {
        graph: "[0:a:0]apad=whole_len=100800,ebur128=peak=true:metadata=1:framelog=quiet,"
        "atrim=start_sample=96000,"
        "ametadata=mode=print:file=/scratch/run_1/draft.loudness.txt[a]\n"
    }
    assert command.output == FOLDER / "draft.loudness.txt"


def test_path_in_a_graph_is_quoted() -> None:
    odd = Path("/scr:a'tch,1/run")
    [text] = measure_command(FFMPEG, odd / "draft.mp4", 4800).scripts.values()
    assert r"file=/scr\\:a\\\'tch\,1/run/draft.loudness.txt" in text


def test_what_ffmpeg_tells_is_read() -> None:
    told = "frame:0    pts:96000   pts_time:2\nlavfi.r128.M=-12.892\nlavfi.r128.I=-12.103\n"
    told += "lavfi.r128.true_peaks_ch0=0.500\nlavfi.r128.true_peak=0.891\n"
    measured = read_measured(told)
    assert measured == Measured(-12.103, 0.891)
    assert measured.true_peak == pytest.approx(-1.0, abs=0.01)
    assert not measured.silent


@pytest.mark.parametrize("lufs", ["-70.000", "-inf", "nan", "-120.691"])
def test_nothing_to_hear_is_silence(lufs: str) -> None:
    measured = read_measured(f"lavfi.r128.I={lufs}\nlavfi.r128.true_peak=0.000\n")
    assert (measured.lufs, measured.true_peak, measured.silent) == (-70, -100, True)


@pytest.mark.parametrize("told", ["", "lavfi.r128.I=-20.0\n", "lavfi.r128.true_peak=0.1\n"])
def test_what_ffmpeg_does_not_tell_is_not_made_up(told: str) -> None:
    with pytest.raises(OutputMismatch, match="could not be measured"):
        read_measured(told)


@pytest.mark.parametrize(
    ("measured", "target", "wanted"),
    [
        (Measured(-23.0, 0.1), -16.0, ["volume=7.000dB"]),
        (Measured(-10.5, 1.2), -23.0, ["volume=-12.500dB"]),
        (
            Measured(-23.0, 0.5),
            -16.0,
            [
                "volume=7.000dB",
                "aresample=192000",
                "alimiter=limit=0.8414:level=0:latency=1",
                "aresample=48000",
            ],
        ),
        # Down, and yet too high.
        (
            Measured(-16.0, 1.0),
            -17.0,
            [
                "volume=-1.000dB",
                "aresample=192000",
                "alimiter=limit=0.8414:level=0:latency=1",
                "aresample=48000",
            ],
        ),
        (Measured(-70.0, 0.0), -16.0, []),
    ],
)
def test_one_gain_and_a_limiter_only_where_peaks_would_exceed(
    measured: Measured, target: float, wanted: list[str]
) -> None:
    assert level_filters(measured, Aim(target)) == wanted


@pytest.mark.parametrize(
    ("peak", "delivered", "following"),
    [
        # As it should be.
        (0.1, Measured(-16.0, 0.5), None),
        (0.1, Measured(-15.95, 0.891), None),
        # Compressing has cost some.
        (0.1, Measured(-16.25, 0.5), Aim(-15.75, -1.5)),
        (0.1, Measured(-15.75, 0.5), Aim(-16.25, -1.5)),
        # Peaks are higher than those that were compressed, by half a dB.
        (0.9, Measured(-16.0, 10 ** (-0.5 / 20)), Aim(-16.0, -2.1)),
        (0.9, Measured(-17.0, 10 ** (-0.5 / 20)), Aim(-16.0, -2.1)),
        # Holding peaks has cost some: no more is to be had.
        (0.9, Measured(-17.0, 0.8), None),
    ],
)
def test_aim_is_taken_again_where_that_brings_it_nearer(
    peak: float, delivered: Measured, following: Aim | None
) -> None:
    found = Aim(-16.0).after(Measured(-23.0, peak), delivered, -16.0)
    assert (found is None) == (following is None)
    if found is not None and following is not None:
        assert found.lufs == pytest.approx(following.lufs)
        assert found.ceiling == pytest.approx(following.ceiling)


def test_silence_is_aimed_at_once() -> None:
    assert Aim(-16.0).after(Measured(-70, 0), Measured(-70, 0), -16.0) is None


@pytest.mark.parametrize("pictures", [pb.VIDEO_CODEC_UNSPECIFIED, pb.VIDEO_CODEC_AV1, None])
def test_levelling_copies_pictures_and_keeps_every_sample(
    pictures: pb.VideoCodec.ValueType | None,
) -> None:
    draft = Draft(FOLDER / "draft.mp4", 96_000, pictures)
    command = level_command(
        FFMPEG, draft, FOLDER / "levelled.mp4", Measured(-23.0, 0.1), Aim(-16.0)
    )
    assert list(command.arguments) == [
        *GLOBAL,
        *LOCAL,
        *("-i", "/scratch/run_1/draft.mp4"),
        *(("-map", "0:v:0", "-c:v", "copy") if pictures is not None else ()),
        *("-map", "0:a:0", "-filter:a"),
        "volume=7.000dB,asetpts=N/SR/TB,apad=whole_len=96000,atrim=end_sample=96000",
        *AAC,
        *CLEAN,
        "/scratch/run_1/levelled.mp4",
    ]
    assert (command.scripts, command.frame_count) == ({}, 0)


def test_soundtrack_says_how_loud_it_is() -> None:
    command = tag_command(FFMPEG, FOLDER / "levelled.mp4", FOLDER / "output.mp4", TOLD)
    tag = "comment=loudness -16.000 -23.125 -16.250 -1.500"
    assert list(command.arguments) == [
        *GLOBAL,
        *LOCAL,
        *("-i", "/scratch/run_1/levelled.mp4", "-map", "0:a:0", "-c:a", "copy"),
        *CLEAN,
        *("-metadata", tag, "/scratch/run_1/output.mp4"),
    ]
    assert read_tag(f";FFMETADATA1\nmajor_brand=isom\n{tag}\nencoder=x\n") == TOLD
    assert read_tag(";FFMETADATA1\ncomment=something else\n") is None


@pytest.mark.parametrize(
    ("delivered", "warned"), [(-16.25, False), (-16.5, False), (-16.6, True), (-15.4, True)]
)
def test_loudness_that_is_missed_is_told(delivered: float, warned: bool) -> None:
    output = pb.Output(loudness=TOLD)
    output.loudness.delivered_lufs = delivered
    warnings = loudness_warnings(output)
    assert [warning.code for warning in warnings] == ["LOUDNESS_MISSED"] * warned
    if delivered == -16.6:
        assert warnings[0].message == (
            "The sound has -16.6 LUFS instead of -16.0: its peaks would have exceeded -1 dBTP."
        )


def test_silence_and_sound_as_it_is_warn_of_nothing() -> None:
    silence = pb.Loudness(
        target_lufs=-16, measured_lufs=-70, delivered_lufs=-70, true_peak_dbtp=-100
    )
    assert loudness_warnings(pb.Output(loudness=silence)) == []
    assert loudness_warnings(pb.Output()) == []
