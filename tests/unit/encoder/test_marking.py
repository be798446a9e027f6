"""Where a watermark is, and in which colours."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from services.encoder.commands.builder import Site, video_commands
from services.encoder.commands.marking import mark_filters, place_of
from services.encoder.commands.picture import picture_filters
from services.encoder.tasks.watermark import mark_command
from videoexport.v1 import export_pb2 as pb
from videoexport.v1 import task_pb2

PLACES = {
    pb.WATERMARK_POSITION_TOP_LEFT: (20, 20),
    pb.WATERMARK_POSITION_TOP_RIGHT: (878, 20),
    pb.WATERMARK_POSITION_BOTTOM_LEFT: (20, 430),
    pb.WATERMARK_POSITION_BOTTOM_RIGHT: (878, 430),
    pb.WATERMARK_POSITION_UNSPECIFIED: (878, 430),
    pb.WATERMARK_POSITION_CENTER: (448, 224),
}


@pytest.mark.parametrize(("position", "place"), PLACES.items())
def test_place_is_on_even_pixels(
    position: pb.WatermarkPosition.ValueType, place: tuple[int, int]
) -> None:
    text = place_of(pb.Watermark(position=position, margin=0.0203), 1000)
    sizes = {"W": 1000, "H": 500, "w": 101, "h": 50}
    found = []
    for option in text.split(":"):
        expression = option.split("=")[1].strip("'").replace("floor", "int")
        found.append(eval(expression, {"int": int}, sizes))
    assert tuple(found) == place


def test_mark_is_in_the_matrix_of_the_output() -> None:
    plan = pb.Plan(width=1280, height=720)
    assert mark_filters(Path("/scratch"), plan, pb.VideoStream()) == []
    plan.watermark.SetInParent()
    for video, matrix in (
        (pb.VideoStream(height=1080), "bt709"),
        (pb.VideoStream(height=576), "bt601"),
        (pb.VideoStream(height=480), "smpte170m"),
        (pb.VideoStream(height=480, color_transfer="smpte2084"), "bt709"),
        (pb.VideoStream(height=480, pixel_format="rgb24"), "bt709"),
    ):
        filters = mark_filters(Path("/scratch"), plan, video)
        assert filters[0] == "movie=filename=/scratch/mark.png:format_name=png_pipe"
        assert filters[1] == f"scale=out_color_matrix={matrix}:out_range=tv"


def test_frame_that_is_drawn_onto_stays_on_the_cpu_until_then() -> None:
    video = pb.VideoStream(width=1280, height=720)
    plan = pb.Plan(width=1280, height=720)
    cpu = picture_filters(pb.ENCODER_FAMILY_CPU, video, plan)
    assert picture_filters(pb.ENCODER_FAMILY_NVENC, video, plan) != cpu
    burnt, marked = pb.Plan(), pb.Plan()
    burnt.CopyFrom(plan)
    burnt.subtitles.mode = pb.SUBTITLE_MODE_BURN_IN
    marked.CopyFrom(plan)
    marked.watermark.SetInParent()
    for drawn in (burnt, marked):
        assert picture_filters(pb.ENCODER_FAMILY_NVENC, video, drawn) == cpu


def test_image_is_read_as_one_still_picture_of_few_formats() -> None:
    watermark = pb.Watermark(width=0.1, margin=0.05, opacity=0.5)
    command = mark_command(Path("/f"), "http://x", watermark, (1000, 500), Path("/scratch"))
    text = " ".join(command.arguments)
    assert "-max_alloc 536870912 -protocol_whitelist http,tcp" in text
    assert "-format_whitelist png_pipe,jpeg_pipe,webp_pipe -max_pixels 67108864" in text
    assert "scale=w=100:h=400:force_original_aspect_ratio=decrease" in text
    assert "colorchannelmixer=aa=0.500000" in text
    assert command.output == Path("/scratch/mark.png")


@pytest.mark.parametrize("family", [pb.ENCODER_FAMILY_CPU, pb.ENCODER_FAMILY_NVENC])
def test_drawing_is_the_last_but_for_the_way_to_the_gpu(family: pb.EncoderFamily.ValueType) -> None:
    rate = pb.Rational(numerator=25, denominator=1)
    chunk = task_pb2.VideoChunk(
        info=pb.SourceInfo(video=pb.VideoStream(width=640, height=360, frame_rate=rate)),
        frame_rate=rate,
        end_frame=50,
        width=640,
        height=360,
        family=family,
    )
    chunk.watermark.margin = 0.05
    site = Site(Path("/ffmpeg"), "http://127.0.0.1/x", 1, Path("/scratch"))
    [command] = video_commands(site=site, chunk=chunk)
    bare = command.scripts[Path("/scratch/output.video.txt")]
    drawn = command.scripts[Path("/scratch/output.drawn.txt")]
    assert bare.endswith("[bare]\n")
    assert "cuda" not in bare
    upload = ",hwupload_cuda" if family == pb.ENCODER_FAMILY_NVENC else ""
    assert drawn.endswith(f":format=yuv420{upload}[v]\n")
    assert "[bare][mark]overlay=" in drawn
    graphs = [each for option, each in pairwise(command.arguments) if option == "-/filter_complex"]
    assert graphs == ["/scratch/output.video.txt", "/scratch/output.drawn.txt"]
