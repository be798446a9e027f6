"""Still pictures are of the frames that they must be of."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import cast

import av
import numpy as np
import pytest
from google.protobuf.duration_pb2 import Duration
from prometheus_client import CollectorRegistry

from services.common import ids
from services.common.subjects import Lane
from services.encoder.board import Run
from services.encoder.deadline import Deadline
from services.encoder.errors import OutputMismatch
from services.encoder.ffmpeg.process import find_ffmpeg
from services.encoder.inspection.probe import verify_output
from services.encoder.metrics import EncoderMetrics
from services.encoder.settings import EncoderSettings
from services.encoder.storage import StorageClient
from services.encoder.tasks.ffmpeg_runs import FfmpegRuns
from services.encoder.tasks.stills import MadeStills, Shown, Stills, poster_command, sprites_command
from tests.integration.encoder.conftest import MakeClip, run_ffmpeg
from tests.media.colour import Tags
from tests.media.frame_codes import Clip, Image, read_frame
from tests.media.patches import SRGB, X265, make_patches
from videoexport.v1 import export_pb2 as pb
from videoexport.v1 import storage_service_pb2 as storage

FRAMES = 200


@dataclass
class Kept:
    """The StorageService as far as it is asked here."""

    names: list[str] = field(default_factory=list)

    async def store(
        self, _user_id: str, upload: storage.CreateUploadRequest, path: Path
    ) -> storage.ObjectStat:
        """Note what is stored."""
        self.names.append(upload.export_output.file)
        assert path.name == upload.export_output.file
        return storage.ObjectStat(size_bytes=path.stat().st_size)


@pytest.fixture
def stills(tmp_path: Path) -> Stills:
    settings = EncoderSettings(
        nats_url="nats://unused", storage_address="unused", scratch_dir=tmp_path
    )
    runs = FfmpegRuns(settings, find_ffmpeg(), EncoderMetrics(CollectorRegistry()))
    return Stills(runs, cast(StorageClient, Kept()))


@pytest.fixture
def video(clip: MakeClip, tmp_path: Path) -> Path:
    """Return an output whose frames carry their numbers."""
    path = tmp_path / "output.mp4"
    path.write_bytes(clip(Clip(frames=FRAMES, width=256, height=144, gop=50)).read_bytes())
    return path


def plan_of(**stills: object) -> pb.Plan:
    return pb.Plan(
        frame_rate=pb.Rational(numerator=25, denominator=1),
        frame_count=FRAMES,
        width=256,
        height=144,
        **stills,  # type: ignore[arg-type]
    )


async def made(stills: Stills, plan: pb.Plan, video: Path) -> MadeStills:
    run = Run(ids.run_id(), 1, Lane.CPU, pb.RunningTask())
    facts = await verify_output(video)
    return await stills.make(run, plan, video, facts, Deadline.after(Duration(seconds=60)))


def luma_of(path: Path) -> Image:
    with av.open(str(path)) as file:
        picture = next(file.decode(video=0))
        assert picture.format.name == "yuvj420p"
        return picture.to_ndarray(format="gray")


@pytest.mark.parametrize("frame", [0, 1, 49, 50, 137, FRAMES - 1])
async def test_poster_is_of_its_frame(stills: Stills, video: Path, frame: int) -> None:
    plan = plan_of(poster=pb.PlannedPoster(frame=frame, width=128, height=72))
    done = await made(stills, plan, video)
    assert done.poster_time == Fraction(frame, 25)
    luma = luma_of(video.with_name("poster.jpg"))
    assert luma.shape == (72, 128)
    assert read_frame(luma).number == frame


@pytest.mark.parametrize(
    ("black", "shown"), [("0", 0), ("lt(N,33)", 33), ("1", 0), ("between(N,1,99)", 0)]
)
async def test_poster_is_of_the_first_frame_that_is_not_black(
    stills: Stills, video: Path, black: str, shown: int
) -> None:
    darker = video.with_name("darker.mp4")
    expression = f"if({black},17,lum(X,Y))"
    await run_ffmpeg(
        *("-i", video, "-vf", f"geq=lum='{expression}':cb=128:cr=128", "-c:v", "libx264", darker)
    )
    plan = plan_of(poster=pb.PlannedPoster(width=256, height=144))
    done = await made(stills, plan, darker)
    assert done.poster_time == Fraction(shown, 25)
    luma = luma_of(video.with_name("poster.jpg"))
    if black != "1":
        assert read_frame(luma).number == shown
    else:
        assert int(luma.max()) < 30


async def test_sprites_are_of_frames_at_equal_distances(stills: Stills, video: Path) -> None:
    sprites = pb.PlannedSprites(
        interval_frames=30, tile_count=7, columns=2, tile_width=128, tile_height=72, sheet_count=2
    )
    done = await made(stills, plan_of(sprites=sprites), video)
    assert [file.name for file in done.files] == ["sprites.vtt", "sprites-1.jpg", "sprites-2.jpg"]
    tiles = []
    for file in done.files[1:]:
        sheet = luma_of(file)
        assert sheet.shape == (144, 256)
        tiles += [sheet[y : y + 72, x : x + 128] for y in (0, 72) for x in (0, 128)]
    assert [read_frame(tile).number for tile in tiles[:7]] == [0, 30, 60, 90, 120, 150, 180]
    assert int(np.asarray(tiles[7]).max()) < 20, "what is left over is black"
    text = done.files[0].read_text()
    assert "00:00:06.000 --> 00:00:07.200\nsprites-2.jpg#xywh=128,0,128,72\n" in text


async def test_stills_are_the_same_bytes_each_time(stills: Stills, video: Path) -> None:
    sprites = pb.PlannedSprites(
        interval_frames=50, tile_count=4, columns=2, tile_width=64, tile_height=36, sheet_count=1
    )
    plan = plan_of(sprites=sprites, poster=pb.PlannedPoster(width=256, height=144))
    first, second = [
        [file.read_bytes() for file in (await made(stills, plan, video)).files] for _ in range(2)
    ]
    assert first == second


async def test_output_without_all_its_sheets_is_not_delivered(stills: Stills, video: Path) -> None:
    sprites = pb.PlannedSprites(
        interval_frames=100, tile_count=9, columns=2, tile_width=64, tile_height=36, sheet_count=3
    )
    with pytest.raises(OutputMismatch, match=r"lacks sprites-2\.jpg, sprites-3\.jpg"):
        await made(stills, plan_of(sprites=sprites), video)


async def test_what_is_stored_is_noted_in_the_output(stills: Stills, video: Path) -> None:
    sprites = pb.PlannedSprites(
        interval_frames=50, tile_count=4, columns=2, tile_width=64, tile_height=36, sheet_count=1
    )
    plan = plan_of(sprites=sprites, poster=pb.PlannedPoster(frame=25, width=256, height=144))
    done = await made(stills, plan, video)
    output = pb.Output()
    upload = storage.CreateUploadRequest(export_output=storage.ExportOutput(run_id="run"))
    await stills.store("anna", upload, done, output)
    sizes = {file.name: file.stat().st_size for file in done.files}
    assert output.poster == pb.Poster(time=Duration(seconds=1), size_bytes=sizes.pop("poster.jpg"))
    assert output.sprites == pb.Sprites(sheet_count=1, size_bytes=sum(sizes.values()))
    assert upload.export_output.file == ""


@pytest.mark.parametrize(
    ("tags", "least", "most"),
    [
        (Tags("bt2020", "smpte2084", "bt2020nc"), 0.82, 0.86),
        (Tags("bt2020", "arib-std-b67", "bt2020nc"), 0.83, 0.87),
        (Tags("bt2020", "bt2020-10", "bt2020nc"), 0.99, 1.0),
        (Tags(), 0.99, 1.0),
    ],
    ids=str,
)
async def test_stills_of_kept_hdr_are_as_bright_as_sdr_of_it(
    stills: Stills, tmp_path: Path, tags: Tags, least: float, most: float
) -> None:
    output = tmp_path / "output.mp4"
    make_patches(output, SRGB, tags, "yuv420p10le", codec=X265)
    sprites = pb.PlannedSprites(
        interval_frames=5, tile_count=1, columns=1, tile_width=144, tile_height=96, sheet_count=1
    )
    plan = plan_of(poster=pb.PlannedPoster(width=144, height=96), sprites=sprites)
    done = await made(stills, plan, output)
    for file in done.files:
        if file.suffix == ".jpg":
            white = luma_of(file)[84, 132] / 255
            assert least <= white <= most


async def test_stills_are_made_with_as_many_threads_as_an_encode(video: Path) -> None:
    plan = plan_of(poster=pb.PlannedPoster(), sprites=pb.PlannedSprites(columns=1))
    shown = Shown(find_ffmpeg(), video, plan, await verify_output(video), threads=3)
    for command in (poster_command(shown, 5), sprites_command(shown)):
        before = command.arguments[: command.arguments.index("-i")]
        for option in ("-threads", "-filter_threads"):
            assert before[before.index(option) + 1] == "3"
        assert command.arguments[command.arguments.index("-threads:v") + 1] == "1"
