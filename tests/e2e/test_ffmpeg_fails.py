"""FFmpeg that fails on every try fails the export with its own words, and leaves nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import pytest

from services.encoder.ffmpeg.process import find_ffmpeg
from services.local.cluster import LocalCluster
from tests.e2e.conftest import Leftovers
from tests.media.frame_codes import Clip
from videoexport.client import AsyncClient, ExportFailed
from videoexport.v1 import export_pb2 as pb

MakeClip = Callable[[Clip], Path]
SHORT = Clip(rate=Fraction(25), frames=50)

# FFmpeg as it is, but for encodes of a source: these write some of the output and fail.
FAILING = """#!/bin/sh
case "$*" in
*http://*)
    for output; do :; done
    echo half a file > "$output"
    echo >> "{folder}/runs"
    cat "{folder}/words" >&2
    exit 1 ;;
esac
exec "{ffmpeg}" "$@"
"""
TRIES = 2


async def test_export_fails_with_the_words_of_ffmpeg_and_leaves_nothing(
    scratch: Path, clip: MakeClip, tmp_path: Path
) -> None:
    program = tmp_path / "ffmpeg"
    program.write_text(FAILING.format(folder=tmp_path, ffmpeg=find_ffmpeg()))
    program.chmod(0o755)
    settings = {
        "api": {
            "VIDEOEXPORT_API_TASK_ATTEMPTS": str(TRIES),
            "VIDEOEXPORT_API_RETRY_DELAY": "0.1",
        },
        "encoder": {"VIDEOEXPORT_ENCODER_FFMPEG": str(program)},
    }

    async def failure(words: str) -> tuple[pb.ExportError, int]:
        """Return the error of an export whose FFmpeg says this, and how often it ran."""
        (tmp_path / "words").write_text(words)
        (tmp_path / "runs").write_text("")
        export = await client.create_export(video_id)
        async with asyncio.timeout(60):
            with pytest.raises(ExportFailed) as failed:
                await client.wait(export.id)
        assert failed.value.export.state == pb.EXPORT_STATE_FAILED
        assert leftovers.objects() == leftovers.parts() == leftovers.scratch_files() == []
        return failed.value.export.error, len((tmp_path / "runs").read_text())

    async with (
        LocalCluster(
            scratch / "failing", encoders=1, encoder_threads=1, extra_env=settings, fsync=False
        ) as cluster,
        AsyncClient(cluster.api.address, user="unlucky") as client,
    ):
        leftovers = Leftovers(cluster, client.user)
        video_id = await client.upload(clip(SHORT))
        passing, runs = await failure(
            f"[libx264 @ 0x55d0c0de] cannot read {tmp_path}/tables\nConversion failed!\n"
        )
        assert (passing.code, passing.retryable, runs) == ("ENCODER_FAILED", True, TRIES)
        assert passing.message == "Cannot read a file."
        lasting, runs = await failure("[libx264 @ 0x55d0c0de] malloc of size 99 failed\n")
        assert (lasting.code, lasting.retryable, runs) == ("MEMORY_LIMIT", False, 1)
