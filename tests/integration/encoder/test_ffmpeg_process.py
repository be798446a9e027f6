"""FFmpeg as a child: progress, failures with their reasons, and nothing left running."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from aiohttp import web

from services.encoder.capabilities import prove_encoder
from services.encoder.commands.builder import whole_commands
from services.encoder.commands.ffmpeg_command import FfmpegCommand, Site
from services.encoder.commands.look import look_of_joined
from services.encoder.errors import (
    EncoderFailed,
    EncodeStalled,
    InvalidSource,
    MediaError,
    MemoryExceeded,
    OutputMismatch,
    ScratchFull,
    SourceChanged,
    SourceNotFound,
    TimeLimitExceeded,
)
from services.encoder.ffmpeg.process import FfmpegProcess, Progress, ffmpeg_build, find_ffmpeg
from services.encoder.inspection.output_facts import check_output
from services.encoder.inspection.probe import probe, verify_output
from services.encoder.sources.gateway import SourceGateway, SourceHandle
from tests.integration.encoder.conftest import MakeClip
from tests.media.exporting import plan_of
from tests.media.frame_codes import Clip
from tests.media.object_server import ObjectServer, status
from videoexport.v1 import export_pb2 as pb

FFMPEG = str(find_ffmpeg())
REPORTING = (
    FFMPEG,
    "-nostdin",
    "-loglevel",
    "error",
    "-progress",
    "pipe:1",
    "-stats_period",
    "0.1",
)
ENDLESS = (*REPORTING, "-re", "-f", "lavfi", "-i", "testsrc2=size=64x36:rate=25", "-f", "null", "-")
# The codes compress well; filler makes the file as large as it claims to be.
PADDED = ("-b:v", "4M", "-maxrate", "4M", "-bufsize", "1M", "-x264-params", "nal-hrd=cbr")
LARGE = Clip(frames=250, encoder=("-c:v", "libx264", "-preset", "ultrafast", "-g", "25", *PADDED))


_before: set[int] = set()


@pytest.fixture(autouse=True)
def _servers_of_other_tests() -> None:
    """Note who runs already: the session's servers are our children too."""
    _before.clear()
    _before.update(child.pid for child in psutil.Process().children())


def children() -> list[psutil.Process]:
    """Return the processes that the test has started, with their descendants."""
    started = [child for child in psutil.Process().children() if child.pid not in _before]
    family = [*started, *(each for child in started for each in _descendants(child))]
    return [child for child in family if _alive(child)]


def _descendants(process: psutil.Process) -> list[psutil.Process]:
    try:
        return process.children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def _alive(process: psutil.Process) -> bool:
    try:
        command = " ".join(process.cmdline())
        return process.status() != psutil.STATUS_ZOMBIE and "fork_server" not in command
    except psutil.NoSuchProcess:
        return False


def script(body: str) -> list[str]:
    """A child that behaves as `body` says."""
    return [sys.executable, "-c", f"import os, signal, subprocess, sys, time\n{body}"]


async def test_progress_is_reported_and_the_run_measured() -> None:
    reports: list[Progress] = []
    encode = ("-f", "lavfi", "-i", "testsrc2=size=320x180:rate=25", "-frames:v", "500")
    process = FfmpegProcess(
        (*REPORTING, *encode, "-c:v", "libx264", "-f", "null", "-"), on_progress=reports.append
    )
    result = await process.run()
    await asyncio.sleep(0)
    assert reports[-1] == result.progress
    assert result.progress.frame == 500
    assert result.progress.out_time == pytest.approx(20, abs=0.2)
    assert result.progress.speed > 0
    assert [report.frame for report in reports] == sorted(report.frame for report in reports)
    assert result.cpu_seconds > 0.05
    assert result.peak_memory_bytes > 10_000_000
    assert result.wall_seconds > 0.05


async def test_failure_says_the_reason_without_the_place(tmp_path: Path) -> None:
    process = FfmpegProcess((*REPORTING, "-i", str(tmp_path / "missing.mp4"), "-f", "null", "-"))
    with pytest.raises(EncoderFailed) as failed:
        await process.run()
    assert str(tmp_path) not in failed.value.message
    assert failed.value.message


async def test_full_disk_is_told_as_such() -> None:
    line = "[out#0/mp4 @ 0x1] Error writing: No space left on device"
    with pytest.raises(ScratchFull):
        await FfmpegProcess(script(f"sys.exit({line!r})")).run()


@pytest.mark.skipif(sys.platform != "linux", reason="no other kernel limits it")
async def test_memory_beyond_the_limit_ends_the_run_with_its_reason() -> None:
    large = ("-f", "lavfi", "-i", "testsrc2=size=4096x4096:rate=25", "-frames:v", "20")
    process = FfmpegProcess(
        (*REPORTING, *large, "-c:v", "libx264", "-f", "null", "-"), memory_limit=300 << 20
    )
    with pytest.raises(MemoryExceeded, match=r"the 0\.3 GiB"):
        await process.run()
    assert children() == []


async def test_no_progress_stops_it() -> None:
    lines = "frame=1\\nfps=1\\nout_time_us=N/A\\ntotal_size=10\\nprogress=continue"
    body = f"while True:\n  print('{lines}', flush=True)\n  time.sleep(0.05)"
    with pytest.raises(EncodeStalled):
        await FfmpegProcess(script(body), stall_timeout=0.4).run()
    assert children() == []


async def test_progress_without_end_is_stopped_by_the_time_limit() -> None:
    with pytest.raises(TimeLimitExceeded):
        await FfmpegProcess(ENDLESS, stall_timeout=10, time_limit=0.5).run()
    assert children() == []


async def test_silence_from_the_start_is_a_stall() -> None:
    with pytest.raises(EncodeStalled):
        await FfmpegProcess(script("time.sleep(60)"), stall_timeout=0.3).run()
    assert children() == []


async def test_cancelling_ends_it() -> None:
    running = asyncio.create_task(FfmpegProcess(ENDLESS).run())
    await asyncio.sleep(0.5)
    assert children()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert children() == []


async def test_child_that_ignores_term_is_killed_with_its_group(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("services.encoder.ffmpeg.process.TERM_GRACE", 0.2)
    body = (
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        "time.sleep(60)"
    )
    running = asyncio.create_task(FfmpegProcess(script(body)).run())
    await asyncio.sleep(0.7)
    family = children()
    assert len(family) == 2
    running.cancel()
    async with asyncio.timeout(10):
        with pytest.raises(asyncio.CancelledError):
            await running
    # The grandchild is no longer below us, so it is asked for by itself.
    _, alive = await asyncio.to_thread(psutil.wait_procs, family, 2)
    assert alive == []


async def test_flood_of_output_does_not_block_or_grow() -> None:
    body = (
        "for n in range(20000):\n"
        "  sys.stderr.write('x' * 100 + '\\n')\n"
        "  print('y' * 100)\n"
        "sys.stderr.write('z' * 10_000_000)\n"
        "sys.exit(3)"
    )
    with pytest.raises(EncoderFailed) as failed:
        await FfmpegProcess(script(body), stall_timeout=20).run()
    assert len(failed.value.message) <= 1000


async def test_reason_is_not_lost_behind_what_others_still_write() -> None:
    damaged = (
        "[vist#0:0/h264 @ 0x1] [dec:h264 @ 0x2] Task finished with error code: -1094995529"
        " (Invalid data found when processing input)"
    )
    noise = "[h264 @ 0x3] missing picture in access unit with size 152"
    body = f"sys.stderr.write({damaged!r} + '\\n' + 1000 * ({noise!r} + '\\n'))\nsys.exit(183)"
    with pytest.raises(InvalidSource, match="some of its pictures cannot be decoded"):
        await FfmpegProcess(script(body)).run()


async def test_report_that_raises_does_not_stop_the_run() -> None:
    def explode(_: Progress) -> None:
        raise RuntimeError("a fault of the listener")

    loop = asyncio.get_running_loop()
    seen: list[object] = []
    loop.set_exception_handler(lambda _, context: seen.append(context["exception"]))
    try:
        encode = ("-f", "lavfi", "-i", "testsrc2=size=64x36", "-frames:v", "50", "-f", "null", "-")
        result = await FfmpegProcess((*REPORTING, *encode), on_progress=explode).run()
        await asyncio.sleep(0)
    finally:
        loop.set_exception_handler(None)
    assert result.progress.frame == 50
    assert seen


async def test_build_is_named_and_digested() -> None:
    build = await ffmpeg_build(find_ffmpeg())
    assert build.version
    assert len(build.sha256) == 64
    assert build == await ffmpeg_build(find_ffmpeg())


@pytest.mark.parametrize("package", ["manimgx-fonts", "manimgx-fonts-cjk", "av"])
async def test_build_is_another_with_other_fonts_and_another_pyav(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    before = await ffmpeg_build(find_ffmpeg())
    # Installed in front of the real one, as an upgrade is.
    installed = tmp_path / f"{package.replace('-', '_')}-99.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 99\n")
    monkeypatch.syspath_prepend(tmp_path)
    after = await ffmpeg_build(find_ffmpeg())
    assert after.version == before.version
    assert after.sha256 != before.sha256


async def test_what_is_no_ffmpeg_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        find_ffmpeg(tmp_path / "missing")
    with pytest.raises(EncoderFailed):
        await ffmpeg_build(Path("/bin/echo"))


async def test_libx264_is_proven_by_a_trial() -> None:
    assert await prove_encoder(find_ffmpeg(), pb.ENCODER_FAMILY_CPU) is None


async def test_nvenc_without_a_gpu_has_a_reason() -> None:
    reason = await prove_encoder(find_ffmpeg(), pb.ENCODER_FAMILY_NVENC)
    if not Path("/dev/nvidia0").exists():
        assert reason is not None
        assert reason.startswith("a trial encode with h264_nvenc failed: ")
        assert "Error" not in reason, "the aftermath instead of the cause"


async def test_old_ffmpeg_is_refused(tmp_path: Path) -> None:
    old = tmp_path / "ffmpeg"
    old.write_text("#!/bin/sh\necho '-reconnect <boolean> ...'\n")
    old.chmod(0o755)
    reason = await prove_encoder(old, pb.ENCODER_FAMILY_CPU)
    assert reason is not None
    assert "version 9" in reason


@asynccontextmanager
async def encoding(
    content: bytes, folder: Path, **gateway_options: float
) -> AsyncIterator[tuple[ObjectServer, SourceHandle, FfmpegCommand, pb.Plan]]:
    """A source that has been probed, and the command that would export all of it."""
    async with ObjectServer.serving(content) as server, SourceGateway(**gateway_options) as gateway:
        async with gateway.expose(server.source()) as handle:
            info = await probe(handle.url, size_bytes=len(content), etag=server.etag)
        plan = plan_of(info, [(0, info.video.frame_count)])
        async with gateway.expose(server.source()) as handle:
            (command,) = whole_commands(
                site=Site(find_ffmpeg(), handle.url, 1, folder),
                info=info,
                plan=plan,
                family=pb.ENCODER_FAMILY_CPU,
            )
            command.write_scripts()
            yield server, handle, command, plan


async def make(command: FfmpegCommand, plan: pb.Plan) -> None:
    await FfmpegProcess(command.arguments, stall_timeout=20, time_limit=60).run()
    check_output(await verify_output(command.output), plan, look_of_joined(plan))


def passes(_server: ObjectServer, _request: web.Request) -> None:
    """No fault."""


def changes(server: ObjectServer, _request: web.Request) -> None:
    """Another version from here on."""
    server.etag = "another"


@pytest.mark.parametrize("container", ["mp4", "mkv", "ts", "flv"])
async def test_source_that_is_lost_on_the_way_never_makes_a_short_output(
    clip: MakeClip, tmp_path: Path, container: str
) -> None:
    content = clip(replace(LARGE, container=container)).read_bytes()
    assert len(content) > 2_000_000
    async with encoding(content, tmp_path, give_up_after=0.3) as (server, handle, command, plan):
        # Some of it is served; then the object is gone.
        server.faults = [passes] * 8 + [status(404)] * 1000
        with pytest.raises(MediaError):
            await make(command, plan)
        assert isinstance(handle.failure, SourceNotFound)


async def test_source_that_changes_on_the_way_never_makes_an_output(
    clip: MakeClip, tmp_path: Path
) -> None:
    async with encoding(clip(LARGE).read_bytes(), tmp_path) as (server, handle, command, plan):
        server.faults = [passes] * 8 + [changes]
        with pytest.raises(MediaError):
            await make(command, plan)
        assert isinstance(handle.failure, SourceChanged)


async def test_faults_that_pass_do_not_change_the_output(clip: MakeClip, tmp_path: Path) -> None:
    async with encoding(clip(LARGE).read_bytes(), tmp_path) as (server, handle, command, plan):
        server.faults = [status(503), status(403), status(500), status(429)]
        server.cut_after = 30_000
        await make(command, plan)
        assert handle.failure is None


async def test_file_that_is_short_of_frames_is_a_mismatch(clip: MakeClip, tmp_path: Path) -> None:
    async with encoding(clip(Clip(frames=50)).read_bytes(), tmp_path) as (_, _, command, plan):
        plan.frame_count += 1
        with pytest.raises(OutputMismatch, match="50 frames instead of 51"):
            await make(command, plan)


async def test_presigned_url_is_in_no_process(clip: MakeClip, tmp_path: Path) -> None:
    async with encoding(clip(LARGE).read_bytes(), tmp_path) as (_, _, command, plan):
        running = asyncio.create_task(make(command, plan))
        arguments: list[str] = []
        while not arguments:
            await asyncio.sleep(0.01)
            arguments = [word for child in children() for word in child.cmdline()]
        assert not any("X-Amz" in word for word in arguments)
        await running


async def test_killed_ffmpeg_is_a_failure(clip: MakeClip) -> None:
    running = asyncio.create_task(FfmpegProcess(ENDLESS).run())
    await asyncio.sleep(0.5)
    (child,) = children()
    os.kill(child.pid, signal.SIGKILL)
    with pytest.raises(EncoderFailed):
        await running


async def test_process_that_gives_way_has_a_low_priority_and_others_the_usual_one(
    clip: MakeClip,
) -> None:
    for nice in (0, 10):
        running = asyncio.create_task(FfmpegProcess(ENDLESS, nice=nice).run())
        await asyncio.sleep(0.5)
        (child,) = children()
        assert child.nice() == os.getpriority(os.PRIO_PROCESS, 0) + nice
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


@pytest.fixture
def silent_program(tmp_path: Path) -> Path:
    """A program that is asked what it is and says nothing."""
    program = tmp_path / "ffmpeg"
    program.write_text("#!/bin/sh\nexec sleep 61.5\n")
    program.chmod(0o755)
    return program


async def test_program_that_does_not_answer_is_given_up_and_stopped(silent_program: Path) -> None:
    with pytest.raises(EncoderFailed, match="within 0"):
        await ffmpeg_build(silent_program, timeout=0.3)
    problem = await prove_encoder(silent_program, pb.ENCODER_FAMILY_CPU, timeout=0.3)
    assert problem == "FFmpeg does not say what it is within 0.3 s"
    left = [child.cmdline() for child in psutil.Process().children(recursive=True)]
    assert ["sleep", "61.5"] not in left
