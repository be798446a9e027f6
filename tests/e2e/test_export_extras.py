"""What goes with pictures and sound, through the real cluster."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

from conformance.told import read_told
from services.local.cluster import LocalCluster
from tests.e2e.test_export_sound import LONG, finished, kinds_of_runs
from tests.media.frame_codes import Clip
from tests.media.recipes.making import make
from tests.media.recipes.recipe import Remade
from tests.media.recipes.telling import CHAPTERS, CREATED, KEPT, PLACE, source
from videoexport.client import AsyncClient

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
