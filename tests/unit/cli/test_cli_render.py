"""Answers on stdout: JSON in the proto's form for programs, lines for people."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from videoexport.cli import render, render_plan
from videoexport.cli.session import Session
from videoexport.cli.stages import Stage
from videoexport.cli.text import clock, details, plain, table, waiting_time
from videoexport.client import AsyncClient
from videoexport.v1 import export_pb2, export_service_pb2

EXPORT = export_pb2.Export(
    id="exp_1",
    source=export_pb2.Source(video_id="vid_1"),
    state=export_pb2.EXPORT_STATE_COMPLETED,
    progress=100,
    create_time=Timestamp(seconds=1_000_000),
    start_time=Timestamp(seconds=1_000_001, nanos=500_000_000),
    end_time=Timestamp(seconds=1_000_010),
    output=export_pb2.Output(
        size_bytes=4_200_000,
        frame_count=1375,
        duration=Duration(seconds=55),
        width=1280,
        height=720,
        encoder_family=export_pb2.ENCODER_FAMILY_CPU,
        encoder_name="libx264",
        encoder_reason="no GPU encoder is live",
        download_url="https://s3.example/" + "x" * 300,
    ),
)


def session(*, json: bool) -> Session:
    return Session(AsyncClient(user="ann"), json=json, given=["--user", "ann b"])


def test_answer_as_json_is_the_proto_form(capsys: pytest.CaptureFixture[str]) -> None:
    session(json=True).answer(EXPORT, lambda: "text")
    out, err = capsys.readouterr()
    answer = json.loads(out)
    assert answer["state"] == "EXPORT_STATE_COMPLETED"
    assert answer["source"] == {"videoId": "vid_1"}
    assert answer["output"]["frameCount"] == "1375"
    assert answer["output"]["duration"] == "55s"
    assert answer["createTime"] == "1970-01-12T13:46:40Z"
    assert err == ""


def test_answer_as_text_is_the_text_alone(capsys: pytest.CaptureFixture[str]) -> None:
    session(json=False).answer(EXPORT, lambda: "text")
    assert capsys.readouterr().out == "text\n"


def test_suggested_command_keeps_address_and_user() -> None:
    assert session(json=False).command("watch", "exp_1") == "videoexport watch exp_1 --user 'ann b'"


def test_summary_says_what_came_out() -> None:
    shown = render.summary(EXPORT, Path("cut.mp4"), {Stage.UPLOAD: 1.25, Stage.ENCODE: 7.0})
    for words in (
        "exp_1 completed",
        "1,375",
        "0:00:55.000",
        "4.2 MB",
        "1280 × 720",
        "libx264 on the CPU: no GPU encoder is live",
        "10.0 s, of which 1.5 s in the queue",
        "upload 1.2 s, encode 7.0 s",
        "cut.mp4",
    ):
        assert words in shown
    assert "https" not in shown


def test_summary_gives_the_link_in_one_piece_when_there_is_no_file() -> None:
    assert EXPORT.output.download_url in render.summary(EXPORT, None, {}).splitlines()[-1]


def test_export_details_list_what_is_wrong() -> None:
    failed = export_pb2.Export(id="exp_2", state=export_pb2.EXPORT_STATE_FAILED)
    failed.error.code = "INVALID_SEGMENTS"
    failed.error.message = "Segments do not fit."
    failed.error.violations.add(field="segments[3].end_time", description="is too late")
    shown = render.export_details(failed)
    assert "Segments do not fit. (INVALID_SEGMENTS)" in shown
    assert "segments[3].end_time: is too late" in shown


def test_warning_says_when() -> None:
    export = export_pb2.Export(id="exp_3", state=export_pb2.EXPORT_STATE_COMPLETED)
    warning = export.warnings.add(code="SOURCE_DAMAGED", message="The source is damaged.")
    for second in range(10):
        place = warning.time_ranges.add()
        place.start_time.seconds, place.end_time.seconds = 10 * second, 10 * second + 1
    lines = [line.strip() for line in render.export_details(export).splitlines()]
    at = next(n for n, line in enumerate(lines) if line.endswith("The source is damaged."))
    assert lines[at + 1] == "0:00:00.000 to 0:00:01.000"
    assert lines[at + 8] == "0:01:10.000 to 0:01:11.000"
    assert lines[at + 9] == "and 2 more"


def test_source_that_is_interlaced_or_incomplete_says_so() -> None:
    info = export_pb2.SourceInfo(missing_bytes=4000)
    info.video.field_order = export_pb2.FIELD_ORDER_BOTTOM_FIRST
    shown = render_plan.source_details(info)
    assert "bottom field first" in shown
    assert "4,000 bytes are missing" in shown
    plain = render_plan.source_details(export_pb2.SourceInfo())
    assert "Interlaced" not in plain
    assert "Incomplete" not in plain


def test_exports_table_has_a_line_each_and_the_total() -> None:
    page = export_service_pb2.ListExportsResponse(exports=[EXPORT, EXPORT], total_size=7)
    lines = render.exports_table(page).splitlines()
    assert lines[0].split() == ["ID", "STATE", "DONE", "CREATED", "DURATION", "SIZE", "SOURCE"]
    assert [line.split()[0] for line in lines[1:3]] == ["exp_1", "exp_1"]
    assert lines[3] == "2 of 7 exports"
    assert render.exports_table(export_service_pb2.ListExportsResponse()) == "0 of 0 exports"


def test_encoders_table_says_why_there_is_no_gpu() -> None:
    encoder = export_pb2.Encoder(id="enc", address="127.0.0.1:9")
    encoder.capabilities.add(
        family=export_pb2.ENCODER_FAMILY_CPU, available=True, slots=2, busy_slots=1
    )
    encoder.capabilities.add(
        family=export_pb2.ENCODER_FAMILY_NVENC, unavailable_reason="Cannot load libcuda.so.1"
    )
    shown = render.encoders_table([encoder])
    assert "1 of 2 busy" in shown
    assert "no: Cannot load libcuda.so.1" in shown
    assert render.encoders_table([]) == "no encoder is live"


def test_plan_details_show_snapped_segments() -> None:
    plan = export_pb2.Plan(
        frame_rate=export_pb2.Rational(numerator=30000, denominator=1001),
        frame_count=60,
        reusable_frame_count=15,
        duration=Duration(seconds=2, nanos=2_000_000),
        width=1280,
        height=720,
        estimated_size_bytes=1_500_000,
        estimated_processing_time=Duration(seconds=3),
        chunk_count=4,
    )
    plan.segments.add(start_frame=30, end_frame=90, start_time=Duration(seconds=1, nanos=1_000_000))
    shown = render_plan.plan_details(plan)
    assert shown.splitlines()[1].split() == ["1", "0:00:01.001", "0:00:00.000", "30", "60"]
    for words in ("60 at 30000/1001 a second", "0:00:02.002", "1.5 MB", "3 s", "15 frames, 25%"):
        assert words in shown
    assert "4 chunks" in shown
    plan.chunk_count = 0
    assert "one piece" in render_plan.plan_details(plan)
    assert "Sound       no" in shown


def test_plan_details_say_format_and_codec() -> None:
    plan = export_pb2.Plan(
        width=1280,
        height=720,
        format=export_pb2.FORMAT_WEBM,
        video_codec=export_pb2.VIDEO_CODEC_AV1,
        dynamic_range=export_pb2.DYNAMIC_RANGE_KEEP,
    )
    shown = render_plan.plan_details(plan)
    assert "Format      WebM" in shown
    assert "Codec       AV1, dynamic range kept" in shown
    # Of a service of before.
    assert "Codec       H.264" in render_plan.plan_details(export_pb2.Plan(width=1280, height=720))


def test_plan_details_say_how_pictures_are_made() -> None:
    plan = export_pb2.Plan(
        width=1280,
        height=720,
        quality=export_pb2.QUALITY_SOURCE,
        fit=export_pb2.FIT_CROP,
        rotation=90,
        measure_quality=True,
    )
    shown = render_plan.plan_details(plan)
    for line in (
        "Resolution  1280 × 720, filled and cropped\n",
        "Quality     the source's\n",
        "Turned      by 90°\n",
        "Compared    with the source (VMAF), ",
    ):
        assert line in shown
    plan.resolution = export_pb2.RESOLUTION_SOURCE
    assert "Resolution  1280 × 720\n" in render_plan.plan_details(plan)
    usual = render_plan.plan_details(export_pb2.Plan(width=1280, height=720))
    for word in ("Quality", "Turned", "Compared", "filled"):
        assert word not in usual


def test_sound_alone_is_told_without_pictures() -> None:
    shown = render_plan.plan_details(export_pb2.Plan(format=export_pb2.FORMAT_M4A, has_audio=True))
    assert "M4A, the sound alone" in shown
    assert "Resolution" not in shown
    assert "Reusable" not in shown
    output = export_pb2.Output(size_bytes=1000, encoder_name="aac")
    told = render.export_details(export_pb2.Export(output=output))
    assert "aac on the " in told
    assert "Resolution" not in told


def test_plan_details_say_what_the_sound_is_of() -> None:
    plan = export_pb2.Plan(has_audio=True)
    assert "Sound       yes" in render_plan.plan_details(plan)
    plan.audio_stream = 0
    assert "Sound       stream 0\n" in render_plan.plan_details(plan)
    plan.loudness_lufs = -16
    assert "stream 0, at -16 LUFS" in render_plan.plan_details(plan)


def test_details_of_an_export_say_how_loud_it_is() -> None:
    export = export_pb2.Export()
    export.CopyFrom(EXPORT)
    assert "Loudness" not in render.export_details(export)
    export.output.loudness.CopyFrom(
        export_pb2.Loudness(
            target_lufs=-16, measured_lufs=-23.04, delivered_lufs=-16.1, true_peak_dbtp=-1.53
        )
    )
    shown = render.export_details(export)
    assert "-16.1 LUFS, before -23.0; peaks of -1.5 dBTP" in shown


def test_details_of_an_export_say_how_it_was_verified() -> None:
    export = export_pb2.Export()
    export.CopyFrom(EXPORT)
    assert "Verified" not in render.export_details(export)
    found = export.output.verification
    found.planned_frame_count = found.frame_count = 1200
    found.video_codec, found.pixel_format, found.color_primaries = "h264", "yuv420p", "bt709"
    found.video_duration.FromSeconds(48)
    shown = render.export_details(export)
    assert "1,200 of 1,200 frames, h264 yuv420p, bt709/?/?/?\n" in shown
    found.rotation = 90
    found.largest_av_offset.FromMicroseconds(400)
    shown = render.export_details(export)
    assert "turned by 90°" in shown
    assert "sound at most 0.4 ms off" in shown
    alone = export_pb2.Verification()
    alone.audio_duration.FromMilliseconds(1680)
    found.CopyFrom(alone)
    assert "1.680 s of sound, as planned" in render.export_details(export)


def test_details_of_an_export_say_how_like_its_source_it_looks() -> None:
    export = export_pb2.Export()
    export.CopyFrom(EXPORT)
    assert "VMAF" not in render.export_details(export)
    export.output.verification.quality.CopyFrom(
        export_pb2.VideoQuality(
            vmaf_mean=94.26, vmaf_harmonic_mean=94.1, vmaf_min=80, frame_count=1500, model="m"
        )
    )
    shown = render.export_details(export)
    assert "VMAF 94.3 (harmonic mean 94.1, worst frame 80.0) over 1,500 frames, by m" in shown


def test_details_of_an_export_say_what_was_reused() -> None:
    export = export_pb2.Export()
    export.CopyFrom(EXPORT)
    assert "Reused" not in render.export_details(export)
    export.output.reused_frame_count, export.output.reused_share = 1100, 0.8
    assert "1,100 frames, 80%" in render.export_details(export)


def test_source_details_say_what_a_source_is() -> None:
    info = export_pb2.SourceInfo(container="mov", duration=Duration(seconds=61))
    info.video.codec = "h264"
    info.video.frame_rate.numerator = 30000
    info.video.frame_rate.denominator = 1001
    info.video.variable_frame_rate = True
    shown = render_plan.source_details(info)
    for words in ("0:01:01.000", "h264", "29.97 a second, varying", "Sound      none"):
        assert words in shown


def test_source_details_list_every_sound() -> None:
    info = export_pb2.SourceInfo()
    info.audio.CopyFrom(
        export_pb2.AudioStream(index=1, codec="aac", channel_layout="5.1", sample_rate=48_000)
    )
    assert "Sound 1    aac, 5.1, 48,000 Hz (default)" in render_plan.source_details(info)
    info.audio_streams.append(info.audio)
    info.audio_streams.add(
        index=2, codec="ac3", channels=9, sample_rate=44_100, language="deu", title="Kommentar"
    )
    shown = render_plan.source_details(info)
    assert shown.count("Sound") == 2
    assert "Sound 1    aac, 5.1, 48,000 Hz (default)" in shown
    assert "Sound 2    ac3, 9 channels, 44,100 Hz, deu, Kommentar\n" in shown


def test_plain_takes_the_power_over_the_terminal_away() -> None:
    assert plain("a\x1b[31mb\x9bc\u202ed\te") == "a\ufffd[31mb\ufffdc\ufffdd\te"
    assert "\x1b" not in details([("Name", "\x1b[2J")])
    assert "\x1b" not in table(["NAME"], [["\x1b[2J"]])


def test_table_neither_wraps_nor_reads_markup() -> None:
    shown = table(["A", "B"], [["[bold]x[/bold] :smile:", "y" * 200]])
    assert shown.splitlines()[1] == "[bold]x[/bold] :smile:  " + "y" * 200


@pytest.mark.parametrize(
    ("duration", "words"),
    [
        (timedelta(0), "1 second"),
        (timedelta(seconds=59.2), "60 seconds"),
        (timedelta(seconds=61), "2 minutes"),
        (timedelta(seconds=3601), "2 hours"),
    ],
)
def test_waiting_time_is_rounded_up(duration: timedelta, words: str) -> None:
    assert waiting_time(duration) == words


def test_clock_keeps_milliseconds() -> None:
    assert clock(Duration(seconds=3661, nanos=40_999_999)) == "1:01:01.040"
    assert clock(timedelta(milliseconds=40)) == "0:00:00.040"


def test_encoders_table_says_what_keeps_one_from_working() -> None:
    stuck = export_pb2.Encoder(id="enc-1", address="127.0.0.1:9", problem="Its disk is full.")
    lines = render.encoders_table([stuck, export_pb2.Encoder(id="enc-2")]).splitlines()
    assert [line.split()[2] for line in lines[1:2]] == ["stuck"]
    assert "ready" in lines[2]
    assert lines[3:] == ["enc-1: Its disk is full."]


def test_details_show_what_a_file_says_of_itself_in_few_words() -> None:
    tag = export_pb2.MetadataTag(key="comment", value="one\ntwo " + "x" * 90)
    info = export_pb2.SourceInfo(chapters=[export_pb2.Chapter()])
    info.metadata.tags.append(tag)
    info.metadata.location_and_device.add(key="make", value="Maker")
    shown = " ".join(render_plan.source_details(info).split())
    assert "Says comment one two xx" in shown
    assert "x… Recorded make Maker Chapters 1 " in shown
    plan = export_pb2.Plan()
    assert "Chapters" not in render_plan.plan_details(plan)
    plan.metadata.tags.append(tag)
    plan.metadata.chapters.add()
    assert "Says        comment one two " in render_plan.plan_details(plan)
    assert "Chapters    1" in render_plan.plan_details(plan)


def test_details_list_subtitles() -> None:
    info = export_pb2.SourceInfo()
    info.subtitle_streams.add(index=2, codec="srt", language="deu", text=True)
    info.subtitle_streams.add(index=3, codec="pgssub")
    shown = " ".join(render_plan.source_details(info).split())
    assert "Subtitles 2 srt, deu Subtitles 3 pgssub, pictures of text" in shown
    plan = export_pb2.Plan(subtitles=export_pb2.PlannedSubtitles(stream=2))
    assert "stream 2, kept as text" in render_plan.plan_details(plan)
    plan.subtitles.mode = export_pb2.SUBTITLE_MODE_BURN_IN
    assert "stream 2, burnt in" in render_plan.plan_details(plan)


def test_plan_details_say_where_the_watermark_is() -> None:
    plan = export_pb2.Plan()
    plan.watermark.position = export_pb2.WATERMARK_POSITION_TOP_LEFT
    plan.watermark.width, plan.watermark.opacity = 0.15, 0.5
    assert "top left, 15% of the width, 50% opaque" in render_plan.plan_details(plan)


def test_details_show_stills() -> None:
    plan = export_pb2.Plan(
        poster=export_pb2.PlannedPoster(width=640, height=360),
        sprites=export_pb2.PlannedSprites(
            tile_count=1234, tile_width=160, tile_height=90, sheet_count=13
        ),
    )
    shown = render_plan.plan_details(plan)
    assert "640 × 360, not black" in shown
    assert "1,234 of 160 × 90, sheets: 13" in shown
    plan.poster.frame = 25
    assert "640 × 360, frame 25" in render_plan.plan_details(plan)
    export = export_pb2.Export()
    export.output.poster.download_url = "https://s3/poster"
    export.output.sprites.vtt_url = "https://s3/vtt"
    export.output.sprites.sheet_urls.append("https://s3/sheet")
    told = render.export_details(export)
    assert all(f"https://s3/{name}" in told for name in ("poster", "vtt", "sheet"))
