"""The command for the GPU is compared with the one for the CPU, down to the pixel."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest

from conformance import gpu
from conformance.gpu import command_problems, gpu_problems
from conformance.placement import UnknownFilter, placement
from services.encoder.commands.ffmpeg_command import FfmpegCommand
from videoexport.v1 import export_pb2 as pb

WHOLE = (0, 0, 1, 1)


def info(**video: int) -> pb.SourceInfo:
    found = pb.SourceInfo(container="mov,mp4,m4a,3gp,3g2,mj2")
    found.video.CopyFrom(
        pb.VideoStream(**{"width": 128, "height": 72, "frame_count": 100, **video})
    )
    found.video.frame_rate.CopyFrom(pb.Rational(numerator=25, denominator=1))
    return found


def plan(fit: pb.Fit.ValueType = pb.FIT_PAD) -> pb.Plan:
    made = pb.Plan(width=256, height=144, fit=fit, quality=pb.QUALITY_MEDIUM, frame_count=10)
    made.frame_rate.CopyFrom(pb.Rational(numerator=25, denominator=1))
    made.segments.add(start_frame=5, end_frame=15)
    return made


@pytest.mark.parametrize(
    ("filters", "shown", "area"),
    [
        (["scale=w=256:h=144:flags=bicubic"], WHOLE, (0, 0, 256, 144)),
        (
            ["scale_cuda=80:144:interp_algo=bicubic", "pad_cuda=256:144:88:0"],
            WHOLE,
            (88, 0, 80, 144),
        ),
        (
            ["scale=w='min(256,2*round(144*iw/(ih)/2))':h=144", "pad=256:144:'(ow-iw)/2':0"],
            WHOLE,
            (0, 0, 256, 144),
        ),
        (
            ["crop=64:36:32:18", "format=yuv420p", "scale=w=256:h=144"],
            (Fraction(1, 4), Fraction(1, 4), Fraction(1, 2), Fraction(1, 2)),
            (0, 0, 256, 144),
        ),
        (
            ["scale=out_range=tv", "hwupload_cuda", "scale_cuda=256:144", "setsar=1"],
            WHOLE,
            (0, 0, 256, 144),
        ),
    ],
)
def test_place_of_a_picture_is_that_of_its_filters(
    filters: list[str],
    shown: tuple[Fraction, Fraction, Fraction, Fraction],
    area: tuple[int, int, int, int],
) -> None:
    found = placement(filters, 128, 72)
    assert (found.shown, found.area, found.frame) == (shown, area, (256, 144))


@pytest.mark.parametrize("filters", [["rotate=1"], ["zscale=w=256:h=n"], ["scale=w=`ls`:h=2"]])
def test_what_is_not_known_is_not_taken_for_granted(filters: list[str]) -> None:
    with pytest.raises((UnknownFilter, NameError)):
        placement(filters, 128, 72)


@pytest.mark.parametrize("fit", [pb.FIT_PAD, pb.FIT_CROP, pb.FIT_STRETCH])
@pytest.mark.parametrize(
    "video", [{}, {"width": 96, "height": 128}, {"height": 96, "rotation": 90}]
)
def test_both_families_place_pictures_alike(fit: pb.Fit.ValueType, video: dict[str, int]) -> None:
    assert gpu_problems(info(**video), plan(fit)) == []


@pytest.mark.parametrize(
    ("was", "instead", "words"),
    [
        ("pad_cuda=256:144:0:0", "pad_cuda=256:144:2:0", "the GPU places the picture at 2, 0"),
        ("scale_cuda=256:144", "scale_cuda=254:144", "(254 × 144)"),
        ("format=yuv420p", "crop=100:72:0:0", "shown"),
        ("format=yuv420p", "transpose_cuda=1", "what does transpose_cuda do"),
    ],
)
def test_picture_that_the_gpu_places_otherwise_is_found(
    was: str, instead: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = gpu.picture_filters

    def changed(
        family: pb.EncoderFamily.ValueType, video: pb.VideoStream, made: pb.Plan
    ) -> list[str]:
        filters = real(family, video, made)
        if family == pb.ENCODER_FAMILY_CPU:
            return filters
        assert any(was in text for text in filters)
        return [text.replace(was, instead) for text in filters]

    monkeypatch.setattr(gpu, "picture_filters", changed)
    assert any(words in problem for problem in gpu_problems(info(), plan()))


@pytest.mark.parametrize("missing", ["h264_nvenc", "-init_hw_device"])
def test_command_without_the_gpu_is_found(missing: str) -> None:
    (command,) = gpu._commands(info(), plan(), pb.ENCODER_FAMILY_NVENC)
    assert command_problems((command,), info(), plan()) == []
    arguments = tuple(word for word in command.arguments if word != missing)
    assert command_problems((replace(command, arguments=arguments),), info(), plan()) == [
        f"the GPU's command has no {missing}"
    ]


def test_command_without_the_filters_is_found() -> None:
    needed = ("-init_hw_device", "h264_nvenc")
    command = FfmpegCommand(needed, {Path("a"): "[0:0]null[v]"}, Path("b"), 1)
    assert command_problems((command,), info(), plan()) == ["the GPU's graph lacks its filters"]


def test_command_of_other_frames_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    real = gpu._commands

    def changed(
        source: pb.SourceInfo, made: pb.Plan, family: pb.EncoderFamily.ValueType
    ) -> tuple[FfmpegCommand, ...]:
        commands = real(source, made, family)
        if family == pb.ENCODER_FAMILY_CPU:
            return commands
        return tuple(replace(command, frame_count=9) for command in commands)

    monkeypatch.setattr(gpu, "_commands", changed)
    assert gpu_problems(info(), plan()) == ["the GPU makes other frames"]
