"""Plans of what an output has beside its pictures and its sound, or on them."""

from __future__ import annotations

from dataclasses import replace

import pytest
from api_long import LONG_INFO, seconds
from api_parts import Parts
from api_planning import order

from services.api.store.records import Planned
from services.common.errors import DomainError
from services.common.subjects import Lane
from videoexport.v1 import export_pb2 as pb
from videoexport.v1 import task_pb2

TOLD = pb.SourceInfo(
    metadata=pb.SourceMetadata(
        tags=[pb.MetadataTag(key="title", value="Talk")],
        location_and_device=[pb.MetadataTag(key="make", value="Maker")],
    ),
    chapters=[pb.Chapter(end_time=seconds(0, 50).end_time, title="One")],
)
TOLD.MergeFrom(LONG_INFO)


async def test_what_an_output_says_of_itself_changes_no_part_but_the_output(parts: Parts) -> None:
    async def keys(info: pb.SourceInfo, *, keep: bool = False) -> tuple[set[bytes | None], bytes]:
        settings = pb.ExportSettings(keep_location_and_device=keep)
        planned = await parts.planner.plan(replace(order(), settings=settings), info)
        return {task.part_key for task in planned.work}, planned.fingerprint

    plain, told = await keys(LONG_INFO), await keys(TOLD)
    kept = await keys(TOLD, keep=True)
    assert plain[0] == told[0] == kept[0]
    assert len({plain[1], told[1], kept[1]}) == 3
    other = pb.SourceInfo()
    other.CopyFrom(TOLD)
    other.chapters[0].title = "Another"
    assert (await keys(other))[1] != told[1]


async def test_assembly_says_what_the_output_is_to_say_of_itself(parts: Parts) -> None:
    planned = await parts.planner.plan(order(seconds(40, 90), seconds(0, 20)), TOLD)
    work = task_pb2.Task.FromString(planned.work[-1].message).assemble
    assert [(each.start_frame, each.end_frame) for each in work.plan.metadata.chapters] == [
        (0, 250),
        (1250, 1750),
    ]
    assert [tag.value for tag in work.plan.metadata.tags] == ["Talk"]


@pytest.mark.parametrize("lane", [Lane.CPU, Lane.MUX])
async def test_place_and_device_wait_until_whoever_may_write_them_knows_them(
    parts: Parts, lane: Lane
) -> None:
    wanted = replace(order(), settings=pb.ExportSettings(keep_location_and_device=True))
    assert (await parts.planner.plan(wanted, TOLD)).plan.metadata.has_location_and_device
    with pytest.raises(DomainError, match="does not tell all of it yet"):
        await parts.planner.plan(wanted, LONG_INFO)
    old = pb.Encoder(id="old", ffmpeg_build="build", encoder_threads=1)
    if lane is Lane.CPU:
        old.capabilities.add(family=pb.ENCODER_FAMILY_CPU, available=True, slots=1)
    else:
        old.mux_slots = 1
    parts.encoders.heard(old)
    with pytest.raises(DomainError, match="knows keep_location_and_device yet"):
        await parts.planner.plan(wanted, TOLD)
    with pytest.raises(DomainError, match="knows tags, chapters and languages yet"):
        await parts.planner.plan(order(), TOLD)
    assert await parts.planner.plan(order(), LONG_INFO)


SPOKEN = pb.SourceInfo(
    subtitle_streams=[pb.SubtitleStream(index=number, text=True) for number in (2, 3)],
    metadata=pb.SourceMetadata(),
)
SPOKEN.MergeFrom(LONG_INFO)


async def test_burnt_subtitles_are_in_the_chunks_keys_and_kept_ones_are_not(parts: Parts) -> None:
    async def planned(*segments: pb.Segment, **subtitles: int) -> Planned:
        settings = pb.ExportSettings()
        if subtitles:
            settings.subtitles.CopyFrom(pb.SubtitleSettings(**subtitles))  # type: ignore[arg-type]
        return await parts.planner.plan(replace(order(*segments), settings=settings), SPOKEN)

    def pictures(found: Planned) -> set[bytes | None]:
        return {task.part_key for task in found.work if task.kind == "VIDEO"}

    plain, kept = await planned(), await planned(stream=2)
    assert pictures(kept) == pictures(plain)
    assert kept.fingerprint != plain.fingerprint
    work = task_pb2.Task.FromString(kept.work[-1].message).assemble
    assert [(span.start_frame, span.end_frame) for span in work.subtitles.spans] == [(0, 2400)]
    assert not task_pb2.Task.FromString(plain.work[-1].message).assemble.HasField("subtitles")
    burn_in = pb.SUBTITLE_MODE_BURN_IN
    burnt, other = await planned(stream=2, mode=burn_in), await planned(stream=3, mode=burn_in)
    assert not pictures(burnt) & (pictures(plain) | pictures(other))
    assert burnt.fingerprint not in (kept.fingerprint, other.fingerprint)
    chunk = task_pb2.Task.FromString(burnt.work[0].message).video.chunk
    assert chunk.burnt_subtitles == 2
    assert not chunk.info.subtitle_streams
    # What is cut elsewhere leaves them as they are.
    cut = await planned(seconds(0, 40), seconds(41, 96), stream=2, mode=burn_in)
    assert len(pictures(cut) & pictures(burnt)) >= len(pictures(burnt)) - 2


@pytest.mark.parametrize("lane", [Lane.CPU, Lane.MUX])
async def test_subtitles_wait_until_whoever_may_make_them_knows_them(
    parts: Parts, lane: Lane
) -> None:
    settings = pb.ExportSettings(subtitles=pb.SubtitleSettings(stream=2))
    wanted = replace(order(), settings=settings)
    assert (await parts.planner.plan(wanted, SPOKEN)).plan.subtitles.stream == 2
    old = pb.Encoder(id="old", ffmpeg_build="build", encoder_threads=1)
    if lane is Lane.CPU:
        old.capabilities.add(family=pb.ENCODER_FAMILY_CPU, available=True, slots=1)
    else:
        old.mux_slots = 1
    parts.encoders.heard(old)
    with pytest.raises(DomainError, match="knows subtitles yet"):
        await parts.planner.plan(wanted, SPOKEN)


async def test_watermark_is_in_the_chunks_keys_with_the_version_of_its_image(parts: Parts) -> None:
    async def keys(**watermark: object) -> tuple[frozenset[bytes | None], bytes]:
        settings = pb.ExportSettings()
        if watermark:
            settings.watermark.CopyFrom(pb.Watermark(**watermark))  # type: ignore[arg-type]
        planned = await parts.planner.plan(replace(order(), settings=settings), LONG_INFO)
        pictures = {task.part_key for task in planned.work if task.kind == "VIDEO"}
        return frozenset(pictures), planned.fingerprint

    plain, image = await keys(), pb.Source(video_id="vid_1")
    marked = await keys(image=image, etag="1")
    assert marked == await keys(image=image, etag="1", width=0.15, opacity=1.0)
    others = [
        await keys(image=image, etag="2"),
        await keys(image=image, etag="1", opacity=0.5),
        await keys(image=image, etag="1", width=0.2),
        await keys(image=image, etag="1", margin=0.0),
        await keys(image=image, etag="1", position=pb.WATERMARK_POSITION_CENTER),
    ]
    found = [plain, marked, *others]
    assert len({pictures for pictures, _ in found}) == len(found)
    assert len({fingerprint for _, fingerprint in found}) == len(found)


async def test_watermark_waits_until_whoever_may_draw_it_knows_it(parts: Parts) -> None:
    watermark = pb.Watermark(image=pb.Source(video_id="vid_1"))
    wanted = replace(order(), settings=pb.ExportSettings(watermark=watermark))
    assert (await parts.planner.plan(wanted, LONG_INFO)).plan.watermark.opacity == 1
    old = pb.Encoder(id="old", ffmpeg_build="build", encoder_threads=1)
    old.capabilities.add(family=pb.ENCODER_FAMILY_CPU, available=True, slots=1)
    parts.encoders.heard(old)
    with pytest.raises(DomainError, match="knows watermark yet"):
        await parts.planner.plan(wanted, LONG_INFO)


@pytest.mark.parametrize("name", ["poster", "sprites"])
@pytest.mark.parametrize("lane", [Lane.CPU, Lane.MUX])
async def test_stills_change_no_part_and_wait_until_whoever_may_make_them_knows_them(
    parts: Parts, name: str, lane: Lane
) -> None:
    settings = pb.ExportSettings()
    getattr(settings, name).SetInParent()
    plain = await parts.planner.plan(order(), LONG_INFO)
    planned = await parts.planner.plan(replace(order(), settings=settings), LONG_INFO)
    assert {task.part_key for task in planned.work} == {task.part_key for task in plain.work}
    assert planned.fingerprint != plain.fingerprint
    work = task_pb2.Task.FromString(planned.work[-1].message).assemble
    assert work.plan.HasField(name)  # type: ignore[arg-type]
    old = pb.Encoder(id="old", ffmpeg_build="build", encoder_threads=1)
    if lane is Lane.CPU:
        old.capabilities.add(family=pb.ENCODER_FAMILY_CPU, available=True, slots=1)
    else:
        old.mux_slots = 1
    parts.encoders.heard(old)
    with pytest.raises(DomainError, match=f"knows {name} yet"):
        await parts.planner.plan(replace(order(), settings=settings), LONG_INFO)
