"""The command line against the whole cluster: what it answers, and its exit status."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sysconfig
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import Leftovers
from tests.media.frame_codes import Clip, read_frame_numbers
from videoexport.client import AsyncClient

MakeClip = Callable[[Clip], Path]

SHORT = Clip(rate=Fraction(25), frames=100)
LONG = Clip(rate=Fraction(25), frames=1500, width=320, height=180, gop=50)
SLOW = ("--resolution", "1080p", "--quality", "high")
UNKNOWN_EXPORT = "exp_" + "0" * 32
UNKNOWN_VIDEO = "vid_" + "0" * 32


@dataclass(frozen=True)
class Ended:
    """What one run of the program gave."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one JSON object on stdout."""
        return json.loads(self.out)


class Program:
    """`videoexport` as one user of the cluster."""

    def __init__(self, address: str, user: str, folder: Path) -> None:
        self._folder = folder
        self._environment = os.environ | {
            "VIDEOEXPORT_ADDRESS": address,
            "VIDEOEXPORT_USER": user,
            "COLUMNS": "100",
        }

    async def start(
        self, *arguments: str | Path, limit: str = "-f unlimited"
    ) -> asyncio.subprocess.Process:
        """Start it, under a limit of the shell's `ulimit`."""
        """Start it, under a limit of the shell's `ulimit`."""
        return await asyncio.create_subprocess_exec(
            *("sh", "-c", f'ulimit {limit}; exec "$@"', "sh"),
            Path(sysconfig.get_path("scripts")) / "videoexport",
            *map(str, arguments),
            cwd=self._folder,
            env=self._environment,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )

    async def end(self, process: asyncio.subprocess.Process) -> Ended:
        """Wait for its end; no end is a traceback."""
        async with asyncio.timeout(120):
            out, err = await process.communicate()
        assert process.returncode is not None
        ended = Ended(process.returncode, out.decode(), err.decode())
        assert "Traceback" not in ended.err
        return ended

    async def __call__(self, *arguments: str | Path, limit: str = "-f unlimited") -> Ended:
        """Run it to its end, under a limit of the shell's `ulimit`."""
        return await self.end(await self.start(*arguments, limit=limit))


@pytest.fixture
def videoexport(cluster_address: str, client: AsyncClient, tmp_path: Path) -> Program:
    """The program, as the user of `client`, in an empty folder."""
    return Program(cluster_address, client.user, tmp_path)


async def test_export_of_a_file_answers_with_the_export_and_saves_it(
    videoexport: Program, clip: MakeClip, tmp_path: Path
) -> None:
    ended = await videoexport(
        "export", clip(SHORT), "--segment", "2-3", "--segment", "00:00:00.4-0:0.8",
        "--output", "cut.mp4", "--json",
    )  # fmt: skip
    assert ended.status == 0
    assert ended.json["state"] == "EXPORT_STATE_COMPLETED"
    assert ended.json["output"]["frameCount"] == "35"
    saved = (tmp_path / "cut.mp4").read_bytes()
    assert sha256(saved).hexdigest() == ended.json["output"]["sha256"]
    assert read_frame_numbers(tmp_path / "cut.mp4") == [*range(50, 75), *range(10, 20)]
    for stage in ("Upload: 100%", "Verify: 100%", "Download: 100%"):
        assert stage in ended.err


async def test_export_without_json_prints_a_summary(
    videoexport: Program, clip: MakeClip, tmp_path: Path
) -> None:
    (tmp_path / "results").mkdir()
    source = tmp_path / "talk.mp4"
    source.write_bytes(clip(SHORT).read_bytes())
    ended = await videoexport("export", source, "--segment", "1-2", "--output", "results")
    assert ended.status == 0
    for words in ("25", "0:00:01.000", "1280 × 720", "libx264 on the CPU", "talk-export.mp4"):
        assert words in ended.out
    assert (tmp_path / "results" / "talk-export.mp4").is_file()


async def test_export_from_an_allowed_bucket_gives_a_link(
    videoexport: Program, clip: MakeClip, leftovers: Leftovers, client: AsyncClient
) -> None:
    key = f"{client.user}/talk 1.mp4"
    leftovers.put("videoexport-imports", key, clip(SHORT).read_bytes())
    ended = await videoexport(
        "export", f"s3://videoexport-imports/{key}", "--segment", "0-1", "--quality", "low"
    )
    assert ended.status == 0
    assert "http://127.0.0.1" in ended.out


async def test_upload_probe_and_plan_say_what_is_exact(
    videoexport: Program, clip: MakeClip
) -> None:
    uploaded = await videoexport("upload", clip(SHORT), "--json")
    video_id = uploaded.json["videoId"]
    assert (await videoexport("upload", clip(SHORT))).out.startswith("vid_")

    probed = await videoexport("probe", video_id, "--json")
    assert (probed.status, probed.json["video"]["width"]) == (0, SHORT.width)
    assert probed.json["video"]["frameCount"] == "100"
    assert "h264" in (await videoexport("probe", video_id)).out

    # 0.51 s is nearest to frame 13, at 0.52 s.
    arguments = (video_id, "--segment", "0.51-2", "--resolution", "720p")
    planned = await videoexport("plan", *arguments, "--json")
    dry = await videoexport("export", *arguments, "--dry-run", "--json")
    assert planned.status == dry.status == 0
    assert planned.json["frameCount"] == "37"
    assert planned.json["segments"][0]["startFrame"] == "13"
    assert dry.json["segments"] == planned.json["segments"]
    assert "0:00:00.520" in (await videoexport("plan", *arguments)).out
    assert (await videoexport("list", "--json")).json == {}


async def test_no_wait_returns_at_once_and_watch_follows_to_the_file(
    videoexport: Program, clip: MakeClip, tmp_path: Path, client: AsyncClient
) -> None:
    created = await videoexport("export", clip(SHORT), "--no-wait", "--json")
    assert created.status == 0
    export_id = created.json["id"]
    watched = await videoexport("watch", export_id, "--output", "cut.mp4", "--json")
    assert watched.status == 0
    assert watched.json["id"] == export_id
    assert len(read_frame_numbers(tmp_path / "cut.mp4")) == 100
    got = await videoexport("get", export_id)
    assert got.status == 0
    assert "completed" in got.out
    assert "http://127.0.0.1" in got.out
    assert "WHY" not in got.out

    told = await videoexport("get", export_id, "--history")
    assert told.status == 0
    assert told.out.startswith(got.out.partition("\nLink until")[0])
    for who, why in (
        (f"user:{client.user}", "created"),
        ("dispatcher", "sent"),
        ("encoder:encoder-1", "done"),
    ):
        assert re.search(f" {who} +{why}$", told.out, re.MULTILINE), told.out
    history = (await videoexport("get", export_id, "--history", "--json")).json["history"]
    assert history[0]["export"] == {"toState": "EXPORT_STATE_QUEUED"}
    assert history[-1]["export"]["toState"] == "EXPORT_STATE_COMPLETED"


async def test_existing_output_is_refused_before_anything_is_uploaded(
    videoexport: Program, clip: MakeClip, tmp_path: Path, leftovers: Leftovers
) -> None:
    (tmp_path / "cut.mp4").write_bytes(b"kept")
    ended = await videoexport("export", clip(SHORT), "--output", "cut.mp4")
    assert ended.status == 2
    assert "--force" in ended.err
    assert (tmp_path / "cut.mp4").read_bytes() == b"kept"
    assert leftovers.objects("videos") == []


async def test_request_id_gives_the_same_export(videoexport: Program, clip: MakeClip) -> None:
    video_id = (await videoexport("upload", clip(SHORT), "--json")).json["videoId"]
    order = ("export", video_id, "--request-id", "once", "--no-wait", "--json")
    first = await videoexport(*order)
    again = await videoexport(*order)
    other = await videoexport(*order, "--quality", "low")
    assert first.json["id"] == again.json["id"]
    assert other.status == 3
    assert len((await videoexport("list", "--json")).json["exports"]) == 1


async def test_refused_segments_are_all_listed(videoexport: Program, clip: MakeClip) -> None:
    video_id = (await videoexport("upload", clip(SHORT), "--json")).json["videoId"]
    await videoexport("probe", video_id)
    await videoexport("plan", video_id)
    ended = await videoexport(
        "export", video_id,
        "--segment", "0-1", "--segment", "3-2", "--segment", "1-1", "--segment", "0-99",
    )  # fmt: skip
    assert ended.status == 3
    assert ended.out == ""
    for index in (1, 2, 3):
        assert f"segments[{index}]" in ended.err
    assert "segments[0]" not in ended.err


@pytest.mark.parametrize(
    "arguments",
    [
        ("get", UNKNOWN_EXPORT),
        ("watch", UNKNOWN_EXPORT),
        ("cancel", UNKNOWN_EXPORT),
        ("retry", UNKNOWN_EXPORT),
        ("delete", UNKNOWN_EXPORT),
        ("get", "exp_nonsense"),
        ("probe", UNKNOWN_VIDEO),
        ("plan", UNKNOWN_VIDEO),
        ("export", UNKNOWN_VIDEO),
        ("export", "vid_nonsense"),
        ("export", "s3://videoexport-imports/no/such.mp4"),
        ("export", "s3://somebody-elses/talk.mp4"),
    ],
)
async def test_what_does_not_exist_is_refused(
    videoexport: Program, arguments: tuple[str, ...]
) -> None:
    ended = await videoexport(*arguments)
    assert ended.status == 3
    assert ended.out == ""
    assert ended.err.startswith("videoexport: ")


async def test_empty_file_is_refused(videoexport: Program, tmp_path: Path) -> None:
    (tmp_path / "empty.mp4").write_bytes(b"")
    ended = await videoexport("export", "empty.mp4")
    assert ended.status == 3
    assert "empty" in ended.err


async def test_file_trouble_here_is_status_2(
    videoexport: Program, clip: MakeClip, client: AsyncClient, tmp_path: Path
) -> None:
    video_id = await client.upload(clip(SHORT))
    export_id = (await client.create_export(video_id, [(0, "0.2")])).id
    await client.wait(export_id)
    # No file of more than a block, as on a disk that is full.
    full = await videoexport("watch", export_id, "--output", "cut.mp4", limit="-f 1")
    assert full.status == 2
    assert "cut.mp4 cannot be written: File too large." in full.err
    assert list(tmp_path.iterdir()) == []

    unreadable = tmp_path / "talk\udcff.mp4"
    unreadable.write_bytes(clip(SHORT).read_bytes())
    named = await videoexport("upload", unreadable)
    assert named.status == 2
    assert "is not a name in UTF-8" in named.err
    # The same name does for what is written here.
    saved = await videoexport("watch", export_id, "--output", unreadable, "--force")
    assert saved.status == 0
    assert "talk\ufffd.mp4" in saved.out


async def test_output_that_appears_meanwhile_is_kept(
    videoexport: Program, clip: MakeClip, tmp_path: Path
) -> None:
    running = await videoexport.start("export", clip(SHORT), "--output", "cut.mp4")
    assert running.stderr is not None
    await running.stderr.readline()  # the upload, after the check of the output
    (tmp_path / "cut.mp4").write_bytes(b"theirs")
    ended = await videoexport.end(running)
    assert ended.status == 2
    assert "the download is cut-2.mp4" in ended.err
    assert (tmp_path / "cut.mp4").read_bytes() == b"theirs"
    assert len(read_frame_numbers(tmp_path / "cut-2.mp4")) == 100


async def test_failed_export_is_status_4_with_its_reason(
    videoexport: Program, tmp_path: Path
) -> None:
    (tmp_path / "talk.mp4").write_text("not a video\n" * 100)
    ended = await videoexport("export", "talk.mp4", "--json")
    assert ended.status == 4
    assert ended.json["state"] == "EXPORT_STATE_FAILED"
    assert ended.json["error"]["code"] == "INVALID_SOURCE"
    assert ended.json["error"]["message"] in ended.err
    # Trying it again cannot help, and the answer says so.
    retried = await videoexport("retry", ended.json["id"])
    assert retried.status == 3


async def test_cancel_is_final_and_the_waiting_program_says_so(
    videoexport: Program, clip: MakeClip, client: AsyncClient
) -> None:
    waiting = await videoexport.start("export", clip(LONG), *SLOW)
    export_id = await newest_export(client)
    cancelled = await videoexport("cancel", export_id)
    assert (cancelled.status, cancelled.out) == (0, f"Export {export_id} is cancelled.\n")
    assert (await videoexport("cancel", export_id)).status == 0
    ended = await videoexport.end(waiting)
    assert ended.status == 4
    assert "was cancelled" in ended.err
    assert (await videoexport("watch", export_id, "--json")).status == 4


async def test_interrupt_leaves_the_export_and_says_how_to_follow_it(
    videoexport: Program, clip: MakeClip, client: AsyncClient
) -> None:
    waiting = await videoexport.start("export", clip(LONG), *SLOW)
    export_id = await newest_export(client)
    # Until it follows, an interrupt has nothing to tell.
    assert waiting.stderr is not None
    seen = b""
    async with asyncio.timeout(60):
        while b"Encode" not in seen:
            seen += await waiting.stderr.readline()
    waiting.send_signal(signal.SIGINT)
    ended = await videoexport.end(waiting)
    assert ended.status == 130
    assert f"videoexport watch {export_id}" in ended.err
    assert f"videoexport cancel {export_id}" in ended.err
    assert (await videoexport("get", export_id, "--json")).json["state"] != "EXPORT_STATE_CANCELLED"
    assert (await videoexport("cancel", export_id)).status == 0


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
async def test_signal_during_an_upload_leaves_nothing_of_it(
    number: int, status: int, videoexport: Program, leftovers: Leftovers, tmp_path: Path
) -> None:
    file = tmp_path / "talk.mp4"
    with file.open("wb") as sparse:
        sparse.truncate(2 << 30)  # takes seconds
    uploading = await videoexport.start("upload", file)
    assert uploading.stderr is not None
    async with asyncio.timeout(60):
        assert b"Upload" in await uploading.stderr.readline()
    assert leftovers.parts() != []
    uploading.send_signal(number)
    ended = await videoexport.end(uploading)
    assert (ended.status, ended.out) == (status, "")
    assert ended.err.endswith("videoexport: Interrupted.\n")
    assert leftovers.parts() == []
    assert leftovers.objects("videos") == []


async def newest_export(client: AsyncClient) -> str:
    """Wait until the user has an export, and return its id."""
    async with asyncio.timeout(60):
        while True:
            async for export in client.list():
                return export.id
            await asyncio.sleep(0.05)


async def test_list_counts_filters_and_limits(
    videoexport: Program, clip: MakeClip, client: AsyncClient
) -> None:
    video_id = await client.upload(clip(SHORT))
    created = [(await client.create_export(video_id, [(0, "0.2")])).id for _ in range(3)]
    page = (await videoexport("list", "--limit", "2", "--json")).json
    assert [export["id"] for export in page["exports"]] == created[:0:-1]
    assert page["totalSize"] == "3"
    assert (await videoexport("list")).out.endswith("3 of 3 exports\n")
    assert (await videoexport("list", "--state", "failed", "--json")).json == {}
    assert (await videoexport("list", "--video", video_id)).out.endswith("3 of 3 exports\n")
    stranger = await videoexport("--user", "somebody-else", "list", "--json")
    assert stranger.json == {}


async def test_delete_removes_what_it_can(
    videoexport: Program, clip: MakeClip, client: AsyncClient
) -> None:
    video_id = await client.upload(clip(SHORT))
    created = [(await client.create_export(video_id, [(0, "0.2")])).id for _ in range(2)]
    ended = await videoexport("delete", created[0], UNKNOWN_EXPORT, created[1])
    assert ended.status == 3
    assert ended.out == "".join(f"Export {each} is deleted.\n" for each in created)
    assert (await videoexport("list", "--json")).json == {}
    assert (await videoexport("get", created[0])).status == 3


async def test_encoders_are_listed(videoexport: Program) -> None:
    listed = await videoexport("encoders", "--json")
    assert listed.status == 0
    assert len(listed.json["encoders"]) == 1
    assert listed.json["encoders"][0]["address"] in (await videoexport("encoders")).out
