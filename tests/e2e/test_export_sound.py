"""Sound through the real cluster: the stream that is asked for, as loud as asked for."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import psycopg
import pytest

from services.local.cluster import LocalCluster
from tests.e2e.small_exports import finished
from tests.media.frame_codes import Clip, audio_click_times, read_frame_numbers
from tests.media.sounds import RATE, Track, clip_with, read_stereo
from videoexport.client import AsyncClient, ExportFailed, Refused
from videoexport.v1 import export_pb2 as pb

MakeClip = Callable[[Clip], Path]
# The cluster of the tests makes everything in parts that is longer than 30 s.
LONG = Clip(rate=Fraction(5), frames=200, gop=10, clicks=0.5)


async def kinds_of_runs(cluster: LocalCluster, export: pb.Export) -> set[str]:
    """Return the kinds of tasks of an export that were run."""
    url = cluster.infrastructure.postgres.url
    async with await psycopg.AsyncConnection.connect(url) as connection:
        cursor = await connection.execute(
            "SELECT DISTINCT kind FROM tasks JOIN runs ON runs.task_id = tasks.id"
            " WHERE export_id = %s",
            [export.id],
        )
        return {str(kind) for (kind,) in await cursor.fetchall()}


async def test_stream_and_loudness_are_those_that_are_asked_for(
    client: AsyncClient, tmp_path: Path
) -> None:
    seconds = np.arange(3 * RATE) / RATE
    tones = [
        (level * np.sin(2 * np.pi * hertz * seconds)).astype(np.float32)[:, None]
        for hertz, level in ((300, 0.5), (1000, 0.02))
    ]
    tracks = [Track(tones[0], "mono", default=True), Track(tones[1], "mono")]
    video_id = await client.upload(clip_with(tracks, tmp_path / "two.mkv"))
    info = await client.probe(video_id)
    assert [stream.index for stream in info.audio_streams] == [1, 2]
    done = await finished(client, video_id, [(0, 2), (1, 2.5)], audio_stream=2, loudness_lufs=-20)
    assert (done.plan.audio_stream, done.plan.loudness_lufs) == (2, -20)
    told = done.output.loudness
    assert told.target_lufs == -20
    assert told.measured_lufs < -30
    assert told.delivered_lufs == pytest.approx(-20, abs=0.2)
    assert told.true_peak_dbtp < -1
    assert not done.warnings
    await client.download(done, tmp_path / "out.mp4")
    left = read_stereo(tmp_path / "out.mp4")[RATE // 2 : RATE, 0]
    assert round(float(np.argmax(np.abs(np.fft.rfft(left))))) * 2 == 1000
    # The same again is taken over, and says the same.
    again = await finished(client, video_id, [(0, 2), (1, 2.5)], audio_stream=2, loudness_lufs=-20)
    assert again.output.reused_share == 1
    assert again.output.loudness == told
    with pytest.raises(Refused, match="the source has no audio stream 3; there is 1 "):
        await finished(client, video_id, [(0, 2)], audio_stream=3)


async def test_stream_that_an_unknown_source_lacks_fails_its_export_with_what_there_is(
    client: AsyncClient, clip: MakeClip
) -> None:
    video_id = await client.upload(clip(Clip(frames=25)))
    with pytest.raises(ExportFailed, match=r"no audio stream 0; there is 1 \(aac, stereo\)"):
        await finished(client, video_id, [], audio_stream=0)


async def test_other_loudness_of_a_long_export_makes_its_sound_anew_and_no_pictures(
    client: AsyncClient, clip: MakeClip, cluster: LocalCluster, tmp_path: Path
) -> None:
    video_id = await client.upload(clip(LONG))
    segments = [(0.0, 20.0), (22.0, 36.0)]
    first = await finished(client, video_id, segments, loudness_lufs=-30)
    assert await kinds_of_runs(cluster, first) >= {"VIDEO", "AUDIO", "ASSEMBLE"}
    assert first.output.loudness.delivered_lufs == pytest.approx(-30, abs=0.3)

    louder = await finished(client, video_id, segments, loudness_lufs=-5)
    assert await kinds_of_runs(cluster, louder) == {"AUDIO", "ASSEMBLE"}
    told = louder.output.loudness
    # Clicks are nothing but peaks.
    assert told.true_peak_dbtp <= -1
    assert told.delivered_lufs < -5.5
    assert told.measured_lufs == pytest.approx(first.output.loudness.measured_lufs, abs=0.01)
    assert [warning.code for warning in louder.warnings] == ["LOUDNESS_MISSED"]
    await client.download(louder, tmp_path / "out.mp4")
    wanted = [*range(100), *range(110, 180)]
    assert read_frame_numbers(tmp_path / "out.mp4") == wanted
    heard = audio_click_times(tmp_path / "out.mp4")
    expected = [n * 0.5 for n in range(1, 68) if n not in (40,)]
    assert all(min(abs(time - click) for click in heard) < 0.005 for time in expected)

    # Found by its key, the sound still says how loud it is.
    shorter = await finished(client, video_id, segments, loudness_lufs=-30, audio_stream=1)
    assert shorter.output.loudness == first.output.loudness
