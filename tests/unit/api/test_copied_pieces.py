"""How pictures that are copied and those beside them are cut into tasks."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from services.api.chunks import Piece, pieces_of
from services.api.planning import BESIDE_COPIES
from services.api.store.records import NewTask
from services.api.work import FRAMES_PER_COPY, Order, work_in_parts
from services.common.content_key import Toolchain, VideoKeys, video_key
from services.common.frames import FrameRange
from services.common.subjects import Lane
from videoexport.v1 import export_pb2 as pb
from videoexport.v1 import task_pb2

SOURCE = task_pb2.TaskSource(
    source=pb.Source(video_id="vid_" + "0" * 32), etag="etag", size_bytes=99
)
INFO = pb.SourceInfo(
    etag="etag",
    video=pb.VideoStream(
        frame_rate=pb.Rational(numerator=25, denominator=1),
        frame_count=15_010,
        width=1280,
        height=720,
        keyframes=range(0, 15_010, 50),
        avc_configuration=b"\1",
        reordered_frames=2,
    ),
    audio=pb.AudioStream(index=1, sample_rate=48_000, channels=2),
)
ORDER = Order("exp_" + "0" * 32, "anna", SOURCE, (), pb.ExportSettings())
TOOLS = Toolchain("build", 2)


def plan_of(*spans: tuple[int, int], quality: pb.Quality.ValueType = pb.QUALITY_SOURCE) -> pb.Plan:
    return pb.Plan(
        segments=[pb.PlannedSegment(start_frame=a, end_frame=b) for a, b in spans],
        frame_rate=INFO.video.frame_rate,
        frame_count=sum(b - a for a, b in spans),
        width=1280,
        height=720,
        quality=quality,
        has_audio=True,
    )


def pieces(*spans: tuple[int, int]) -> list[tuple[int, int, bool]]:
    found = pieces_of(INFO, plan_of(*spans), 8)
    return [(piece.frames.start, piece.frames.end, piece.copied) for piece in found]


def tasks(*spans: tuple[int, int]) -> list[NewTask]:
    return work_in_parts(ORDER, INFO, plan_of(*spans), BESIDE_COPIES, TOOLS, chunk_seconds=8)


def test_groups_are_copied_and_edges_encoded() -> None:
    assert pieces((30, 180)) == [(30, 50, False), (50, 150, True), (150, 180, False)]
    assert pieces((50, 150)) == [(50, 150, True)]
    assert pieces((60, 80), (100, 120)) == [(60, 80, False), (100, 120, False)]


def test_runs_are_cut_every_two_minutes_of_the_source_whatever_is_shown_of_it() -> None:
    whole = (3000, 6000, True)
    assert pieces((0, 9500)) == [(0, 3000, True), whole, (6000, 9000, True), (9000, 9500, True)]
    assert pieces((2900, 6100))[:2] == [(2900, 3000, True), whole]
    assert pieces((2990, 6010)) == [(2990, 3000, False), whole, (6000, 6010, False)]


def test_edges_of_long_groups_are_chunks_as_ever() -> None:
    info = pb.SourceInfo()
    info.CopyFrom(INFO)
    del info.video.keyframes[:]
    info.video.keyframes.extend([0, 2000, 14_000])
    found = pieces_of(info, plan_of((100, 15_000)), 8)
    assert [piece for piece in found if piece.copied] == [
        Piece(FrameRange(2000, 14_000), copied=True)
    ]
    before = [piece.frames for piece in found if piece.frames.end <= 2000]
    assert len(before) > 6
    assert max(frames.frame_count for frames in before) <= 300


def test_other_qualities_copy_nothing() -> None:
    found = pieces_of(INFO, plan_of((0, 1000), quality=pb.QUALITY_HIGH), 8)
    assert len(found) == 5
    assert not any(piece.copied for piece in found)


@given(st.lists(st.integers(0, 15_010), min_size=2, max_size=8, unique=True).map(sorted))
def test_pieces_tile_every_segment(places: list[int]) -> None:
    spans = [(places[n], places[n + 1]) for n in range(0, len(places) - 1, 2)]
    covered = [frame for start, end, _ in pieces(*spans) for frame in range(start, end)]
    assert covered == [frame for start, end in spans for frame in range(start, end)]


def test_tasks_say_what_is_copied_and_weigh_it_less() -> None:
    *video, sound, assembly = tasks((30, 1530))
    chunks = [task_pb2.Task.FromString(task.message).video.chunk for task in video]
    assert [chunk.copied for chunk in chunks] == [False, True, False]
    assert [task.frames for task in video] == [20, 1450 // FRAMES_PER_COPY, 30]
    assert {task.lane for task in video} == {Lane.CPU}
    joined = task_pb2.Task.FromString(assembly.message).assemble
    assert [part.copied for part in joined.video] == [False, True, False]
    assert joined.plan.quality == pb.QUALITY_SOURCE
    track = task_pb2.Task.FromString(sound.message).audio.soundtrack
    # The sound of an export that is encoded is the same.
    assert not track.info.video.avc_configuration
    assert not track.info.video.reordered_frames


def test_copies_have_names_of_their_own_that_encoders_know() -> None:
    for task in tasks((30, 1530))[:-2]:
        chunk = task_pb2.Task.FromString(task.message).video.chunk
        assert task.part_key == video_key("anna", SOURCE, chunk, TOOLS)
    keys = VideoKeys("anna", SOURCE, task_pb2.VideoChunk(info=INFO), TOOLS)
    assert keys.of(0, 50, copied=True) != keys.of(0, 50)
