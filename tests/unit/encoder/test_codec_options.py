"""Options of every codec, as whole lists: whatever changes them changes the bytes of outputs."""

from __future__ import annotations

from pathlib import Path

import pytest
from google.protobuf.duration_pb2 import Duration

from services.common.codecs import CONTAINERS, NAMES
from services.encoder.commands.builder import (
    audio_commands,
    trial_command,
    video_commands,
    whole_commands,
)
from services.encoder.commands.codecs import (
    CQ,
    CRF,
    ENCODER_NAMES,
    audio_codec,
    encoder_name,
    video_codec,
)
from services.encoder.commands.containers import clean_output
from services.encoder.commands.ffmpeg_command import FfmpegCommand, Site
from services.encoder.tasks.assembly import assemble_command
from videoexport.v1 import export_pb2 as pb
from videoexport.v1 import task_pb2

CPU, GPU = pb.ENCODER_FAMILY_CPU, pb.ENCODER_FAMILY_NVENC
HEVC, AV1, VP9 = pb.VIDEO_CODEC_HEVC, pb.VIDEO_CODEC_AV1, pb.VIDEO_CODEC_VP9
SITE = Site(Path("/opt/ffmpeg"), "http://127.0.0.1:4567/token", 3, Path("/scratch/run_1"))
COUNTED = ["-fps_mode:v", "passthrough", "-flags:v", "+bitexact"]
# In a join, where one or two pictures do not know of the delay of the others.
COUNTED_ANEW = "-bsf:v setts=pts=PTS:dts=round((N-2)/(25)/TB)"
MOV = "mov,mp4,m4a,3gp,3g2,mj2"
RATE = pb.Rational(numerator=25, denominator=1)
PAIRS = [(family, codec) for family, codecs in ENCODER_NAMES.items() for codec in codecs]


def words(text: str) -> list[str]:
    return text.split()


def info(bits: int = 8) -> pb.SourceInfo:
    return pb.SourceInfo(
        container=MOV,
        video=pb.VideoStream(
            width=1280,
            height=720,
            frame_rate=RATE,
            frame_count=100,
            bit_depth=bits,
            pixel_format="yuv420p" if bits == 8 else "yuv420p10le",
            max_keyframe_interval=Duration(seconds=2),
        ),
        audio=pb.AudioStream(index=1, sample_rate=48_000, channels=2),
    )


def plan(form: pb.Format.ValueType, codec: pb.VideoCodec.ValueType = AV1) -> pb.Plan:
    made = pb.Plan(
        segments=[pb.PlannedSegment(start_frame=0, end_frame=50)],
        frame_rate=RATE,
        frame_count=50,
        has_audio=True,
        format=form,
    )
    if form != pb.FORMAT_M4A:
        made.width, made.height, made.video_codec = 640, 360, codec
    return made


@pytest.mark.parametrize(
    ("family", "codec", "wanted"),
    [
        (
            *(CPU, HEVC),
            "-c:v libx265 -preset fast -crf {crf} -x265-params pools=3:frame-threads=3:"
            "aq-mode=1:aq-strength=0.8:sao=0:open-gop=0:info=0:log-level=error "
            "-dolbyvision 0 -tag:v hvc1",
        ),
        (
            *(CPU, AV1),
            "-c:v libsvtav1 -preset 8 -g 250 -svtav1-params "
            "crf={crf}:lp=3:tune=0:enable-variance-boost=1:variance-boost-strength=3:enable-cdef=0:"
            "enable-restoration=0:hierarchical-levels=3 -dolbyvision 0",
        ),
        (
            *(CPU, VP9),
            "-c:v libvpx-vp9 -deadline good -cpu-used 4 -crf {crf} -b:v 0 -g 250 "
            "-auto-alt-ref 1 -lag-in-frames 25 "
            "-tile-columns 6 -row-mt 0 -threads:v 3",
        ),
        (
            *(GPU, HEVC),
            "-c:v hevc_nvenc -preset p5 -tune hq -profile:v main -rc vbr -cq {cq} -b:v 0 -g 250 "
            "-tag:v hvc1",
        ),
        (*(GPU, AV1), "-c:v av1_nvenc -preset p5 -tune hq -rc vbr -cq {cq} -b:v 0 -g 250"),
    ],
)
def test_options_of_a_codec(
    family: pb.EncoderFamily.ValueType, codec: pb.VideoCodec.ValueType, wanted: str
) -> None:
    for quality, crf in CRF[codec].items():
        # Joined or not: each codec makes files that can be.
        for stitchable in (True, False):
            found = video_codec(family, codec, quality, threads=3, stitchable=stitchable)
            told = wanted.format(crf=crf, cq=CQ.get(codec, {}).get(quality))
            assert found == [*words(told), *COUNTED]
    usual = video_codec(family, codec, pb.QUALITY_UNSPECIFIED, threads=3, stitchable=True)
    assert usual == video_codec(family, codec, pb.QUALITY_MEDIUM, threads=3, stitchable=True)


def test_threads_are_no_more_than_a_codec_takes() -> None:
    x265 = video_codec(CPU, HEVC, pb.QUALITY_LOW, threads=64, stitchable=True)
    assert any("pools=64:frame-threads=4:" in option for option in x265)
    svt = video_codec(CPU, AV1, pb.QUALITY_LOW, threads=64, stitchable=True)
    assert any(":lp=3:" in option for option in svt)


def test_ten_bits_are_told_to_nvenc_which_does_not_see_them() -> None:
    found = video_codec(GPU, HEVC, pb.QUALITY_LOW, threads=1, stitchable=True, ten_bit=True)
    assert found[found.index("-profile:v") + 1] == "main10"


def test_versions_of_before_mean_h264() -> None:
    unspecified = pb.VIDEO_CODEC_UNSPECIFIED
    for family in (CPU, GPU):
        assert encoder_name(family, unspecified) == encoder_name(family, pb.VIDEO_CODEC_H264)
        assert video_codec(
            family, unspecified, pb.QUALITY_HIGH, threads=1, stitchable=True
        ) == video_codec(family, pb.VIDEO_CODEC_H264, pb.QUALITY_HIGH, threads=1, stitchable=True)


def test_every_quality_of_every_codec_is_measured() -> None:
    assert set(CRF) == set(NAMES) == {codec for _, codec in PAIRS}
    assert set(CQ) == set(ENCODER_NAMES[GPU])
    for scale in (*CRF.values(), *CQ.values()):
        assert list(scale) == [pb.QUALITY_HIGH, pb.QUALITY_MEDIUM, pb.QUALITY_LOW]
        assert sorted(scale.values()) == list(scale.values())


@pytest.mark.parametrize(
    ("form", "name", "muxer", "sound"),
    [
        (pb.FORMAT_UNSPECIFIED, "output.mp4", "-movflags +faststart -f mp4", "aac -b:a 192k"),
        (pb.FORMAT_MP4, "output.mp4", "-movflags +faststart -f mp4", "aac -b:a 192k"),
        (pb.FORMAT_MOV, "output.mov", "-movflags +faststart -f mov", "aac -b:a 192k"),
        (pb.FORMAT_WEBM, "output.webm", "-cues_to_front 1 -f webm", "libopus -b:a 160k"),
        (pb.FORMAT_M4A, "output.m4a", "-movflags +faststart -f ipod", "aac -b:a 192k"),
    ],
)
def test_container_has_its_muxer_and_its_sound(
    form: pb.Format.ValueType, name: str, muxer: str, sound: str
) -> None:
    (command,) = whole_commands(site=SITE, info=info(), plan=plan(form), family=CPU)
    output = SITE.folder / name
    assert command.output == output
    ending = [*words(f"-map [a] -c:a {sound} -flags:a +bitexact"), *clean_output(output)]
    assert list(command.arguments)[-len(ending) :] == ending
    assert ending[-len(words(muxer)) - 1 :] == [*words(muxer), str(output)]
    assert ("-c:v" in command.arguments) == (form != pb.FORMAT_M4A)
    graphs = {path.name for path in command.scripts}
    assert graphs == {"output.audio.txt"} | (
        set() if form == pb.FORMAT_M4A else {"output.video.txt"}
    )


def test_containers_have_suffixes_and_types_of_their_own() -> None:
    found = [(each.suffix, each.content_type) for each in CONTAINERS.values()]
    assert found == [
        ("mp4", "video/mp4"),
        ("mov", "video/quicktime"),
        ("webm", "video/webm"),
        ("m4a", "audio/mp4"),
    ]


def chunk(codec: pb.VideoCodec.ValueType, **more: pb.DynamicRange.ValueType) -> FfmpegCommand:
    (command,) = video_commands(
        site=SITE,
        chunk=task_pb2.VideoChunk(
            info=info(10),
            frame_rate=RATE,
            end_frame=50,
            width=640,
            height=360,
            family=CPU,
            video_codec=codec,
            **more,  # type: ignore[arg-type]
        ),
    )
    return command


def test_chunk_is_made_with_its_codec_into_a_file_that_counts_exactly() -> None:
    command = chunk(VP9)
    wanted = video_codec(CPU, VP9, pb.QUALITY_MEDIUM, threads=3, stitchable=True)
    assert " ".join(wanted) in " ".join(command.arguments)
    # WebM rounds to milliseconds.
    assert command.output.name == "output.mp4"
    [graph] = command.scripts.values()
    assert graph.endswith("setsar=1,format=yuv420p[v]\n")


def test_chunk_of_a_deep_source_has_ten_bits_where_its_range_is_kept() -> None:
    [graph] = chunk(AV1, dynamic_range=pb.DYNAMIC_RANGE_KEEP).scripts.values()
    assert graph.endswith("setsar=1,format=yuv420p10le[v]\n")


def test_opus_part_is_in_webm_which_tells_where_it_ends() -> None:
    track = task_pb2.Soundtrack(
        info=info(),
        frame_rate=RATE,
        spans=[task_pb2.FrameSpan(end_frame=50)],
        codec=task_pb2.AUDIO_CODEC_OPUS,
    )
    (command,) = audio_commands(site=SITE, soundtrack=track)
    assert command.output.name == "output.webm"
    assert " ".join(audio_codec(task_pb2.AUDIO_CODEC_OPUS)) in " ".join(command.arguments)


@pytest.mark.parametrize(
    ("form", "codec", "demuxer", "copied"),
    [
        (pb.FORMAT_MP4, HEVC, MOV, f"-c:v copy -tag:v hvc1 {COUNTED_ANEW}"),
        (pb.FORMAT_MOV, HEVC, MOV, f"-c:v copy -tag:v hvc1 {COUNTED_ANEW}"),
        (pb.FORMAT_MP4, pb.VIDEO_CODEC_H264, MOV, f"-c:v copy {COUNTED_ANEW}"),
        (pb.FORMAT_MP4, AV1, MOV, "-c:v copy"),
        (pb.FORMAT_WEBM, VP9, "matroska,webm", "-c:v copy"),
    ],
)
def test_assembly_copies_into_the_container(
    form: pb.Format.ValueType, codec: pb.VideoCodec.ValueType, demuxer: str, copied: str
) -> None:
    command = assemble_command(
        ffmpeg=SITE.ffmpeg,
        urls=["http://127.0.0.1:4567/parts/0"],
        frame_counts=[50],
        sound_url="http://127.0.0.1:4567/sound/0",
        plan=plan(form, codec),
        folder=SITE.folder,
    )
    told = " ".join(command.arguments)
    assert f"-protocol_whitelist http,tcp -format_whitelist {demuxer} -rw_timeout" in told
    assert f"-map 0:v:0 {copied} -map 1:a:0 -c:a copy" in told
    assert command.output.name == f"output.{CONTAINERS[form].suffix}"


@pytest.mark.parametrize(("family", "codec"), PAIRS)
@pytest.mark.parametrize("ten_bit", [False, True])
def test_trial_is_of_the_codec_and_its_depth(
    family: pb.EncoderFamily.ValueType, codec: pb.VideoCodec.ValueType, ten_bit: bool
) -> None:
    told = " ".join(trial_command(SITE.ffmpeg, family, codec, ten_bit=ten_bit))
    wanted = video_codec(
        *(family, codec, pb.QUALITY_MEDIUM), threads=1, stitchable=False, ten_bit=ten_bit
    )
    assert " ".join(wanted) in told
    ten = "p010le" if family == GPU else "yuv420p10le"
    assert (f"format={ten}" in told) == ten_bit
    assert ("hwupload_cuda" in told) == (family == GPU)
