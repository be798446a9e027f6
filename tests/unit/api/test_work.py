"""From an export to its tasks: families, and the messages that encoders get."""

from __future__ import annotations

import pytest
from api_records import EXPORT, PLAN

from services.api.store.records import source_key
from services.api.work import moved_to, probe_task, whole_task
from services.common.caller import is_id
from services.common.families import FamilyChoice, choose_family
from services.common.subjects import Lane
from videoexport.v1 import export_pb2 as pb
from videoexport.v1 import task_pb2

CPU, NVENC = pb.ENCODER_FAMILY_CPU, pb.ENCODER_FAMILY_NVENC
SOURCE = task_pb2.TaskSource(
    source=pb.Source(video_id="vid_" + "0" * 32), etag="etag", size_bytes=99
)
INFO = pb.SourceInfo(container="mov", etag="etag")


@pytest.mark.parametrize(
    ("preference", "gpu_live", "family", "warned"),
    [
        (pb.ENCODER_PREFERENCE_UNSPECIFIED, False, CPU, False),
        (pb.ENCODER_PREFERENCE_UNSPECIFIED, True, NVENC, False),
        (pb.ENCODER_PREFERENCE_AUTO, False, CPU, False),
        (pb.ENCODER_PREFERENCE_AUTO, True, NVENC, False),
        (pb.ENCODER_PREFERENCE_CPU, False, CPU, False),
        (pb.ENCODER_PREFERENCE_CPU, True, CPU, False),
        (pb.ENCODER_PREFERENCE_GPU, False, CPU, True),
        (pb.ENCODER_PREFERENCE_GPU, True, NVENC, False),
    ],
)
def test_family_follows_preference_and_what_is_live(
    preference: pb.EncoderPreference.ValueType,
    gpu_live: bool,
    family: pb.EncoderFamily.ValueType,
    warned: bool,
) -> None:
    choice = choose_family(preference, gpu_live=gpu_live)
    assert choice.family == family
    assert choice.lane is (Lane.GPU if family == NVENC else Lane.CPU)
    assert choice.reason.endswith(".")
    assert [item.code for item in choice.warnings] == (["GPU_FALLBACK"] if warned else [])


def test_reasons_tell_the_cases_apart() -> None:
    reasons = {
        choose_family(preference, gpu_live=live).reason
        for preference, live in [
            (pb.ENCODER_PREFERENCE_CPU, True),
            (pb.ENCODER_PREFERENCE_AUTO, True),
            (pb.ENCODER_PREFERENCE_AUTO, False),
            (pb.ENCODER_PREFERENCE_GPU, False),
        ]
    }
    assert len(reasons) == 4


def test_probe_task_names_export_owner_and_version() -> None:
    task = probe_task(EXPORT, "anna", SOURCE)
    message = task_pb2.Task.FromString(task.message)
    assert message == task_pb2.Task(
        task_id=task.id,
        export_id=EXPORT,
        user_id="anna",
        source=SOURCE,
        probe=task_pb2.ProbeTask(),
    )
    assert message.WhichOneof("work") == "probe"
    assert (task.kind, task.lane, task.frames) == ("PROBE", Lane.PROBE, 0)
    assert is_id(task.id, "tsk")


def test_whole_task_is_its_whole_input() -> None:
    choice = choose_family(pb.ENCODER_PREFERENCE_AUTO, gpu_live=False)
    task = whole_task(EXPORT, "anna", SOURCE, INFO, PLAN, choice)
    message = task_pb2.Task.FromString(task.message)
    assert message == task_pb2.Task(
        task_id=task.id,
        export_id=EXPORT,
        user_id="anna",
        source=SOURCE,
        whole=task_pb2.WholeTask(
            info=INFO,
            plan=PLAN,
            family=CPU,
            family_reason=choice.reason,
            time_limit=message.whole.time_limit,
        ),
    )
    # Ten minutes, and twenty times what libx264 takes at 70 million pixels a second.
    pixels = PLAN.width * PLAN.height * PLAN.frame_count
    limit = message.whole.time_limit.ToTimedelta().total_seconds()
    assert limit == pytest.approx(600 + 20 * pixels / 70e6)
    assert (task.kind, task.lane, task.frames) == ("WHOLE", Lane.CPU, 500)


def test_two_tasks_of_one_export_have_ids_of_their_own() -> None:
    assert probe_task(EXPORT, "anna", SOURCE).id != probe_task(EXPORT, "anna", SOURCE).id


def test_task_moved_to_another_family_changes_nothing_else() -> None:
    gpu = choose_family(pb.ENCODER_PREFERENCE_GPU, gpu_live=True)
    cpu = FamilyChoice(CPU, "No GPU is left.")
    task = whole_task(EXPORT, "anna", SOURCE, INFO, PLAN, gpu)
    before = task_pb2.Task.FromString(task.message)
    after = task_pb2.Task.FromString(moved_to(task.message, cpu))
    assert before.whole.family == NVENC
    assert (after.whole.family, after.whole.family_reason) == (CPU, "No GPU is left.")
    after.whole.family, after.whole.family_reason = NVENC, gpu.reason
    assert after == before


def test_uploads_are_their_owners_alone_and_objects_of_a_bucket_are_shared() -> None:
    video = pb.Source(video_id="vid_1")
    assert source_key("anna", video) != source_key("ben", video)
    shared = pb.Source(s3_object=pb.S3Object(bucket="b", key="k"))
    assert source_key("anna", shared) == source_key("ben", shared)
    other = pb.Source(s3_object=pb.S3Object(bucket="b2", key="k"))
    assert source_key("anna", shared) != source_key("anna", other)
