"""Plans for other codecs and formats, and for encoders that have them or not."""

from __future__ import annotations

from dataclasses import replace

import pytest
from api_long import LONG_INFO, seconds
from api_parts import Parts
from api_rig import INFO, SOURCE

from services.api.store.records import Planned
from services.api.work import Order
from services.common.content_key import RECIPE_VERSION
from services.common.errors import DomainError, Reason
from services.common.planner import FRAMES_PER_SOUND
from services.common.subjects import Lane
from videoexport.v1 import export_pb2 as pb
from videoexport.v1 import task_pb2

VERSION = task_pb2.TaskSource(source=SOURCE, etag="etag", size_bytes=1000)
CPU, GPU = pb.ENCODER_FAMILY_CPU, pb.ENCODER_FAMILY_NVENC
HEVC, AV1, VP9 = pb.VIDEO_CODEC_HEVC, pb.VIDEO_CODEC_AV1, pb.VIDEO_CODEC_VP9


def order(**settings: object) -> Order:
    return Order("", "anna", VERSION, (), pb.ExportSettings(**settings))  # type: ignore[arg-type]


def encoder(
    name: str,
    *,
    cpu: tuple[pb.VideoCodec.ValueType, ...] = (),
    gpu: tuple[pb.VideoCodec.ValueType, ...] | None = None,
    ten_bit: bool = True,
) -> pb.Encoder:
    """An encoder with H.264 and other codecs."""
    told = pb.Encoder(id=name, mux_slots=1, recipe_version=RECIPE_VERSION)
    for family, codecs in ((CPU, cpu), (GPU, gpu)):
        if codecs is None:
            continue
        capability = told.capabilities.add(family=family, available=True, slots=1)
        capability.codecs.add(video_codec=pb.VIDEO_CODEC_H264, available=True)
        for codec in codecs:
            capability.codecs.add(video_codec=codec, available=True, ten_bit=ten_bit)
    return told


async def refusal(parts: Parts, wanted: Order, info: pb.SourceInfo = INFO) -> DomainError:
    with pytest.raises(DomainError) as refused:
        await parts.planner.plan(wanted, info)
    return refused.value


def messages(planned: Planned) -> list[task_pb2.Task]:
    return [task_pb2.Task.FromString(task.message) for task in planned.work]


async def test_webm_in_parts_is_of_vp9_and_opus(parts: Parts) -> None:
    planned = await parts.planner.plan(order(format=pb.FORMAT_WEBM), LONG_INFO)
    *video, sound, assembly = messages(planned)
    assert {task.video.chunk.video_codec for task in video} == {VP9}
    assert sound.audio.soundtrack.codec == task_pb2.AUDIO_CODEC_OPUS
    assert assembly.assemble.plan.format == pb.FORMAT_WEBM
    assert assembly.assemble.plan.video_codec == VP9


async def test_pictures_differ_by_codec_and_range_and_not_by_container(parts: Parts) -> None:
    async def keys(**settings: object) -> tuple[frozenset[bytes | None], bytes | None, bytes]:
        planned = await parts.planner.plan(order(**settings), LONG_INFO)
        *video, sound, _ = planned.work
        return frozenset(task.part_key for task in video), sound.part_key, planned.fingerprint

    made = [
        await keys(),
        await keys(format=pb.FORMAT_MOV),
        await keys(video_codec=HEVC),
        await keys(video_codec=HEVC, dynamic_range=pb.DYNAMIC_RANGE_KEEP),
        await keys(format=pb.FORMAT_WEBM, video_codec=AV1),
        await keys(video_codec=AV1),
    ]
    pictures, sounds, files = zip(*made, strict=True)
    assert pictures[0] == pictures[1]
    assert pictures[4] == pictures[5]
    assert len(set(pictures)) == 4
    assert len(set(sounds)) == 2
    assert len(set(files)) == len(made)


async def test_sound_alone_is_one_light_task_on_the_cpu_however_long(parts: Parts) -> None:
    parts.encoders.heard(encoder("a", gpu=()))
    planned = await parts.planner.plan(order(format=pb.FORMAT_M4A), LONG_INFO)
    [task] = planned.work
    assert (task.kind, task.lane) == ("WHOLE", Lane.CPU)
    assert task.frames == planned.plan.frame_count // FRAMES_PER_SOUND
    whole = messages(planned)[0].whole
    assert (whole.family, whole.family_reason) == (CPU, "Sound is encoded on the CPU.")
    assert not planned.warnings
    refused = await refusal(parts, order(format=pb.FORMAT_M4A), INFO)
    assert [item.field for item in refused.violations] == ["settings.format"]


@pytest.mark.parametrize(
    "settings", [{"video_codec": HEVC}, {"format": pb.FORMAT_MOV}, {"format": pb.FORMAT_M4A}]
)
async def test_what_older_encoders_would_pass_over_waits_for_them(
    parts: Parts, settings: dict[str, int]
) -> None:
    wanted = order(**settings)
    assert await parts.planner.plan(wanted, LONG_INFO)
    for old in (
        pb.Encoder(
            id="old", capabilities=[pb.EncoderCapability(family=CPU, available=True, slots=1)]
        ),
        # One that joins, or copies a finished file.
        pb.Encoder(id="old", mux_slots=1),
    ):
        parts.encoders.heard(old)
        refused = await refusal(parts, wanted, LONG_INFO)
        assert refused.reason is Reason.NO_ENCODER
        assert "are being upgraded" in refused.message
        assert await parts.planner.plan(order(), LONG_INFO)


async def test_codec_that_an_encoder_lacks_is_refused_with_the_reason(parts: Parts) -> None:
    parts.encoders.heard(encoder("a", cpu=(HEVC, AV1)))
    assert await parts.planner.plan(order(video_codec=AV1), INFO)
    parts.encoders.heard(encoder("b", cpu=(HEVC,), ten_bit=False))
    refused = await refusal(parts, order(video_codec=AV1))
    assert refused.reason is Reason.NO_ENCODER
    assert refused.message == "Not every live encoder makes AV1 on the CPU."
    # Of 10 bits only where the source has as many.
    deep = pb.SourceInfo()
    deep.CopyFrom(INFO)
    deep.video.bit_depth = 10
    keep = order(video_codec=HEVC, dynamic_range=pb.DYNAMIC_RANGE_KEEP)
    assert await parts.planner.plan(keep, INFO)
    assert "of 10 bits" in (await refusal(parts, keep, deep)).message
    gone = encoder("b")
    gone.draining = True
    parts.encoders.heard(gone)
    assert await parts.planner.plan(keep, deep)


async def test_gpu_makes_the_codecs_that_all_of_them_have(parts: Parts) -> None:
    parts.encoders.heard(encoder("a", cpu=(HEVC, AV1), gpu=(HEVC, AV1)))
    for codec in (pb.VIDEO_CODEC_H264, HEVC, AV1):
        planned = await parts.planner.plan(order(video_codec=codec), INFO)
        assert planned.work[0].lane is Lane.GPU
    parts.encoders.heard(encoder("b", cpu=(HEVC, AV1), gpu=(HEVC,)))
    asked = order(video_codec=AV1, encoder=pb.ENCODER_PREFERENCE_GPU)
    planned = await parts.planner.plan(asked, INFO)
    assert planned.work[0].lane is Lane.CPU
    [warning] = planned.warnings
    assert warning.code == "GPU_FALLBACK"
    assert "not every live encoder makes AV1 on the GPU" in warning.message
    planned = await parts.planner.plan(order(video_codec=AV1), INFO)
    assert (planned.work[0].lane, planned.warnings) == (Lane.CPU, ())
    planned = await parts.planner.plan(order(video_codec=HEVC), INFO)
    assert planned.work[0].lane is Lane.GPU


async def test_segments_and_settings_are_refused_together(parts: Parts) -> None:
    wanted = replace(order(format=pb.FORMAT_M4A), segments=(seconds(0, 1000),))
    refused = await refusal(parts, wanted, INFO)
    fields = [item.field for item in refused.violations]
    assert fields == ["segments[0].end_time", "settings.format"]
