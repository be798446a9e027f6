"""What goes with pictures and sound, through the real cluster."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import aiohttp
import av
import pytest
from google.protobuf.duration_pb2 import Duration

from conformance.marks import mark_problems, read_mark
from conformance.told import read_subtitles, read_told
from services.local.cluster import LocalCluster
from tests.e2e.small_exports import finished
from tests.e2e.test_export_sound import LONG, kinds_of_runs
from tests.media.frame_codes import Clip, Image, read_frame
from tests.media.images import image
from tests.media.recipes.making import make
from tests.media.recipes.recipe import Changed, Remade
from tests.media.recipes.telling import CHAPTERS, CREATED, KEPT, PLACE, source
from videoexport.client import AsyncClient, ExportFailed
from videoexport.v1 import export_pb2 as pb

MakeClip = Callable[[Clip], Path]


async def test_outputs_say_of_themselves_what_their_source_does(
    client: AsyncClient, tmp_path: Path
) -> None:
    file = make(source("mp4", {**KEPT, **CREATED}, chapters=CHAPTERS), tmp_path, tmp_path)
    video_id = await client.upload(file)
    info = await client.probe(video_id)
    assert [chapter.title for chapter in info.chapters] == ["One", "Two # 2", "Three"]
    done = await finished(client, video_id, [(0.4, 1.4), (3, 3.4)], loudness_lufs=-20)
    assert done.output.HasField("loudness")
    await client.download(done, tmp_path / "out.mp4")
    says = read_told(tmp_path / "out.mp4")
    assert says.tags == {**KEPT, **CREATED}
    assert says.languages == ("ita", "deu")
    assert says.chapters == (
        (0, Fraction(3, 5), "One"),
        (Fraction(3, 5), 1, "Two # 2"),
        (1, Fraction(7, 5), "Three"),
    )
    [listed] = [export async for export in client.list(video_id=video_id)]
    assert not listed.plan.HasField("metadata")


async def test_long_output_with_other_metadata_is_joined_anew_of_the_same_parts(
    client: AsyncClient, clip: MakeClip, cluster: LocalCluster, tmp_path: Path
) -> None:
    tagged = Remade(
        of=(LONG,),
        arguments=(
            *("-map", "0", "-c", "copy", "-movflags", "use_metadata_tags"),
            *(part for pair in PLACE.items() for part in ("-metadata", "=".join(pair))),
        ),
        container="mov",
    )
    video_id = await client.upload(make(tagged, tmp_path, tmp_path))
    first = await finished(client, video_id, [])
    assert await kinds_of_runs(cluster, first) >= {"VIDEO", "AUDIO", "ASSEMBLE"}
    kept = await finished(client, video_id, [], keep_location_and_device=True)
    assert await kinds_of_runs(cluster, kept) == {"ASSEMBLE"}
    for export, tags in ((first, {}), (kept, PLACE)):
        await client.download(export, tmp_path / f"{export.id}.mp4")
        assert read_told(tmp_path / f"{export.id}.mp4").tags == tags
    again = await finished(client, video_id, [], keep_location_and_device=True)
    assert await kinds_of_runs(cluster, again) == {"COPY"}
    assert again.output.sha256 == kept.output.sha256


async def test_subtitles_of_a_long_output_are_kept_or_burnt_into_chunks_that_are_used_again(
    client: AsyncClient, clip: MakeClip, cluster: LocalCluster, tmp_path: Path
) -> None:
    lines = [
        f"{n}\n00:00:{n * 4:02},000 --> 00:00:{n * 4 + 1:02},000\nText {n}\n" for n in range(10)
    ]
    text = Changed(of=(), how=lambda: "\n".join(lines).encode(), container="srt")
    arguments = ("-map", "0", "-map", "1", "-c", "copy", "-c:s", "srt")
    spoken = Remade(of=(LONG, text), arguments=arguments, container="mkv")
    video_id = await client.upload(make(spoken, tmp_path, tmp_path))
    plain = await finished(client, video_id, [(1, 40)])
    kept = await finished(client, video_id, [(1, 40)], subtitles=pb.SubtitleSettings(stream=2))
    assert await kinds_of_runs(cluster, kept) == {"ASSEMBLE"}
    await client.download(kept, tmp_path / "kept.mp4")
    # The first one ends where the segment begins.
    assert read_subtitles(tmp_path / "kept.mp4") == tuple(
        (n * 4 - 1, n * 4, f"Text {n}") for n in range(1, 10)
    )
    burn_in = pb.SubtitleSettings(stream=2, mode=pb.SUBTITLE_MODE_BURN_IN)
    burnt = await finished(client, video_id, [(1, 40)], subtitles=burn_in)
    assert await kinds_of_runs(cluster, burnt) == {"VIDEO", "ASSEMBLE"}
    assert burnt.output.reused_frame_count == 0
    await client.download(burnt, tmp_path / "burnt.mp4")
    assert burnt.output.sha256 != plain.output.sha256
    moved = await finished(client, video_id, [(1, 39.4)], subtitles=burn_in)
    assert moved.output.reused_frame_count >= 100


async def test_subtitles_that_a_source_lacks_fail_its_export_with_what_there_is(
    client: AsyncClient, clip: MakeClip
) -> None:
    video_id = await client.upload(clip(Clip(frames=25)))
    with pytest.raises(ExportFailed, match=r"no subtitles 2; there is none"):
        await finished(client, video_id, [], subtitles=pb.SubtitleSettings(stream=2))


async def test_watermark_is_on_every_part_and_gone_where_its_image_is(
    client: AsyncClient, clip: MakeClip, tmp_path: Path
) -> None:
    logo = tmp_path / "logo.png"
    logo.write_bytes(image("png", "64x64", "0x00c000"))
    video_id, image_id = await client.upload(clip(LONG)), await client.upload(logo)
    named = pb.Source(video_id=image_id)
    watermark = pb.Watermark(image=named, position=pb.WATERMARK_POSITION_CENTER, width=0.1)
    large = pb.RESOLUTION_480P
    for segments in ([(0.0, 36.0)], [(0.0, 4.0)]):
        done = await finished(client, video_id, segments, watermark=watermark, resolution=large)
        await client.download(done, tmp_path / f"{done.id}.mp4")
        middle = (done.output.width // 2 - 20, done.output.height // 2 - 20, 40, 40)
        seen = read_mark(tmp_path / f"{done.id}.mp4", middle)
        assert len(seen) == done.output.frame_count
        assert mark_problems((0, 192, 0), seen) == []
    words = tmp_path / "words.txt"
    words.write_text("no image")
    watermark.image.video_id = await client.upload(words)
    with pytest.raises(ExportFailed, match="not a PNG, JPEG or WebP image"):
        await finished(client, video_id, [(0.0, 4.0)], watermark=watermark)


@pytest.mark.parametrize("seconds", [8.0, 36.0])
async def test_stills_come_with_an_output_whole_or_in_parts_and_with_its_copy(
    client: AsyncClient, clip: MakeClip, cluster: LocalCluster, tmp_path: Path, seconds: float
) -> None:
    video_id = await client.upload(clip(LONG))
    stills = {
        "poster": pb.PosterSettings(time=Duration(seconds=7), width=320),
        "sprites": pb.SpriteSettings(interval=Duration(seconds=2), columns=2),
    }
    first = await finished(client, video_id, [(0.0, seconds)], **stills)
    again = await finished(client, video_id, [(0.0, seconds)], **stills)
    assert await kinds_of_runs(cluster, again) == {"COPY"}
    for number, export in enumerate((first, again)):
        output = export.output
        sheets = math.ceil(seconds / 2 / 4)
        assert output.poster.time == Duration(seconds=7)
        assert output.sprites.sheet_count == len(output.sprites.sheet_urls) == sheets
        poster, vtt, *pictures = [
            await fetched(url, tmp_path / f"{number}-{place}")
            for place, url in enumerate(
                [output.poster.download_url, output.sprites.vtt_url, *output.sprites.sheet_urls]
            )
        ]
        assert read_frame(grey(poster)).number == 35
        assert vtt.read_text().count("sprites-1.jpg#xywh=") == 4
        assert vtt.stat().st_size + sum(each.stat().st_size for each in pictures) == (
            output.sprites.size_bytes
        )
        assert read_frame(grey(pictures[0])[:90, 160:]).number == 10
    await client.delete(first.id)
    async with asyncio.timeout(20):
        while await status_of(first.output.poster.download_url) == 200:
            await asyncio.sleep(0.2)
    assert await status_of(again.output.poster.download_url) == 200


async def fetched(url: str, path: Path) -> Path:
    async with aiohttp.ClientSession() as http, http.get(url) as response:
        assert response.status == 200
        await asyncio.to_thread(path.write_bytes, await response.read())
    return path


async def status_of(url: str) -> int:
    async with aiohttp.ClientSession() as http, http.get(url) as response:
        return response.status


def grey(path: Path) -> Image:
    with av.open(str(path)) as file:
        return next(file.decode(video=0)).to_ndarray(format="gray")
