"""How the service refuses: the rows of the table of bad input, with every detail decoded."""

from __future__ import annotations

from typing import Any

import grpc
import pytest
from api_parts import until
from api_rig import Rig
from api_service import (
    ANNA,
    BEN,
    SERVING,
    Api,
    FakeEncoder,
    Surroundings,
    api_running,
    get,
    is_state,
    refusal,
)
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from grpc import StatusCode
from grpc.aio import Metadata

from services.api.states import ExportState
from services.common import ids
from services.common.caller import USER_KEY, as_user
from services.common.status import MAX_DETAILS_KEY
from services.common.subjects import Lane
from videoexport.v1 import export_pb2 as pb
from videoexport.v1 import export_service_pb2 as service
from videoexport.v1.export_service_pb2_grpc import ExportServiceStub


def segment(start: float, end: float) -> pb.Segment:
    made = pb.Segment(start_time=Duration(), end_time=Duration())
    made.start_time.FromNanoseconds(round(start * 1e9))
    made.end_time.FromNanoseconds(round(end * 1e9))
    return made


def create(video: str, *segments: pb.Segment, **fields: Any) -> service.CreateExportRequest:
    source = pb.Source(video_id=video)
    return service.CreateExportRequest(source=source, segments=segments, **fields)


# Who calls


async def test_call_without_a_user_is_unauthenticated(api: Api) -> None:
    request = service.GetExportRequest(export_id=ids.export_id())
    refused = await refusal(api.exports.GetExport(request))
    assert (refused.code, refused.reason) == (StatusCode.UNAUTHENTICATED, "USER_REQUIRED")


async def test_name_that_cannot_be_a_users_is_refused(api: Api) -> None:
    request = service.GetExportRequest(export_id=ids.export_id())
    refused = await refusal(api.exports.GetExport(request, metadata=as_user("../ben")))
    assert (refused.code, refused.fields) == (StatusCode.INVALID_ARGUMENT, [USER_KEY])


async def test_export_of_another_user_is_not_found_by_any_call(api: Api, rig: Rig) -> None:
    case = await rig.create("ben")
    stub = api.exports
    calls: list[Any] = [
        stub.GetExport(service.GetExportRequest(export_id=case.id), metadata=ANNA),
        stub.CancelExport(service.CancelExportRequest(export_id=case.id), metadata=ANNA),
        stub.RetryExport(service.RetryExportRequest(export_id=case.id), metadata=ANNA),
        stub.DeleteExport(service.DeleteExportRequest(export_id=case.id), metadata=ANNA),
        stub.WatchExport(service.WatchExportRequest(export_id=case.id), metadata=ANNA).read(),
    ]
    for call in calls:
        refused = await refusal(call)
        assert (refused.code, refused.reason) == (StatusCode.NOT_FOUND, "EXPORT_NOT_FOUND")
        assert case.id in refused.message
    listed = await stub.ListExports(service.ListExportsRequest(), metadata=ANNA)
    assert (list(listed.exports), listed.total_size) == ([], 0)


@pytest.mark.parametrize("export_id", ["", "exp_", "../../etc", "exp_" + "0" * 100_000])
async def test_what_is_no_export_id_is_refused_by_every_call(api: Api, export_id: str) -> None:
    stub = api.exports
    calls: list[Any] = [
        stub.GetExport(service.GetExportRequest(export_id=export_id), metadata=ANNA),
        stub.CancelExport(service.CancelExportRequest(export_id=export_id), metadata=ANNA),
        stub.RetryExport(service.RetryExportRequest(export_id=export_id), metadata=ANNA),
        stub.DeleteExport(service.DeleteExportRequest(export_id=export_id), metadata=ANNA),
        stub.WatchExport(service.WatchExportRequest(export_id=export_id), metadata=ANNA).read(),
    ]
    for call in calls:
        refused = await refusal(call)
        assert (refused.code, refused.fields) == (StatusCode.INVALID_ARGUMENT, ["export_id"])


# What is exported


async def test_missing_video_is_not_found_and_named(api: Api) -> None:
    video = ids.video_id()
    refused = await refusal(api.exports.CreateExport(create(video), metadata=ANNA))
    assert (refused.code, refused.reason) == (StatusCode.NOT_FOUND, "SOURCE_NOT_FOUND")
    assert video in refused.message


async def test_video_of_another_user_is_not_found(api: Api, encoder: FakeEncoder) -> None:
    video = await encoder.video("ben")
    refused = await refusal(api.exports.CreateExport(create(video), metadata=ANNA))
    assert refused.reason == "SOURCE_NOT_FOUND"


async def test_missing_object_is_not_found_and_named(api: Api) -> None:
    source = pb.Source(s3_object=pb.S3Object(bucket="rushes", key="day 1/none.mp4"))
    request = service.CreateExportRequest(source=source)
    refused = await refusal(api.exports.CreateExport(request, metadata=ANNA))
    assert (refused.code, refused.reason) == (StatusCode.NOT_FOUND, "SOURCE_NOT_FOUND")
    assert "s3://rushes/day 1/none.mp4" in refused.message


async def test_longest_name_is_named_in_full(api: Api) -> None:
    key = "é" * 512
    source = pb.Source(s3_object=pb.S3Object(bucket="rushes", key=key))
    async with grpc.aio.insecure_channel(api.address) as channel:
        request = service.CreateExportRequest(source=source)
        call = ExportServiceStub(channel).CreateExport(request, metadata=as_user("anna"))
        refused = await refusal(call)
    assert refused.reason == "SOURCE_NOT_FOUND"


async def test_bucket_that_is_not_allowed_is_denied(api: Api) -> None:
    source = pb.Source(s3_object=pb.S3Object(bucket="private", key="a.mp4"))
    request = service.CreateExportRequest(source=source)
    refused = await refusal(api.exports.CreateExport(request, metadata=ANNA))
    assert (refused.code, refused.reason) == (StatusCode.PERMISSION_DENIED, "BUCKET_NOT_ALLOWED")


async def test_every_violation_is_listed_before_the_source_is_asked_for(api: Api, rig: Rig) -> None:
    request = service.CreateExportRequest(
        source=pb.Source(s3_object=pb.S3Object(bucket="rushes", key="../a.mp4")),
        segments=[segment(1, 1), segment(0, 1), segment(-1, 2)],
        settings=pb.ExportSettings(quality=55),  # type: ignore[arg-type]
        request_id="\n",
        priority=101,
    )
    refused = await refusal(api.exports.CreateExport(request, metadata=ANNA))
    assert (refused.code, refused.reason) == (StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST")
    assert refused.fields == [
        "source.s3_object.key",
        "segments[0].end_time",
        "segments[2].start_time",
        "settings.quality",
        "request_id",
        "priority",
    ]
    assert await rig.value("SELECT count(*) FROM exports") == 0


@pytest.mark.parametrize("validate_only", [False, True])
async def test_segments_that_do_not_fit_a_probed_source_are_refused_at_once(
    api: Api, rig: Rig, encoder: FakeEncoder, validate_only: bool
) -> None:
    video = await encoder.probed_video(rig)
    segments = [segment(0, 1), segment(1, 5), segment(4, 5), segment(1, 1.02), segment(2, 4.04)]
    request = create(video, *segments, validate_only=validate_only)
    refused = await refusal(api.exports.CreateExport(request, metadata=ANNA))
    assert (refused.code, refused.reason) == (StatusCode.INVALID_ARGUMENT, "INVALID_SEGMENTS")
    assert refused.fields == [
        "segments[1].end_time",
        "segments[2].start_time",
        "segments[2].end_time",
        "segments[3].end_time",
    ]
    assert await rig.value("SELECT count(*) FROM exports") == 0


NO_STREAM = "the source has no audio stream 3; there is none"


@pytest.mark.parametrize("validate_only", [False, True])
async def test_audio_stream_that_a_probed_source_lacks_is_refused_at_once(
    api: Api, rig: Rig, encoder: FakeEncoder, validate_only: bool
) -> None:
    video = await encoder.probed_video(rig)
    settings = pb.ExportSettings(audio_stream=3)
    request = create(video, settings=settings, validate_only=validate_only)
    refused = await refusal(api.exports.CreateExport(request, metadata=ANNA))
    assert (refused.code, refused.reason) == (StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST")
    assert refused.fields == ["settings.audio_stream"]
    assert refused.message == f"settings.audio_stream: {NO_STREAM}"
    assert await rig.value("SELECT count(*) FROM exports") == 0


async def test_audio_stream_that_a_source_turns_out_to_lack_fails_the_export(
    api: Api, encoder: FakeEncoder
) -> None:
    request = create(await encoder.video(), settings=pb.ExportSettings(audio_stream=3))
    export = (await api.exports.CreateExport(request, metadata=ANNA)).export
    await encoder.probe()
    await until(lambda: is_state(api, export.id, pb.EXPORT_STATE_FAILED))
    error = (await get(api, export.id)).error
    assert (error.code, error.retryable) == ("INVALID_REQUEST", False)
    assert error.message == f"settings.audio_stream: {NO_STREAM}"
    told = [(item.field, item.description) for item in error.violations]
    assert told == [("settings.audio_stream", NO_STREAM)]


async def test_source_whose_sound_was_not_listed_is_examined_again_for_a_stream(
    api: Api, rig: Rig, encoder: FakeEncoder
) -> None:
    video = await encoder.probed_video(rig)
    # As a version of before has kept it.
    sound = "jsonb_set(info, '{audio}', '{\"index\": 1, \"channels\": 2}')"
    await rig.sql(f"UPDATE probes SET info = {sound}")
    usual = (await api.exports.CreateExport(create(video), metadata=ANNA)).export
    assert usual.HasField("plan")
    request = create(video, settings=pb.ExportSettings(audio_stream=1))
    export = (await api.exports.CreateExport(request, metadata=ANNA)).export
    assert not export.HasField("plan")
    assert (await encoder.take(Lane.PROBE)).export_id == export.id


async def test_faulty_request_lists_what_does_not_fit_the_source_as_well(
    api: Api, rig: Rig, encoder: FakeEncoder
) -> None:
    video = await encoder.probed_video(rig)
    request = create(video, segment(1, 99), priority=-101)
    refused = await refusal(api.exports.CreateExport(request, metadata=ANNA))
    assert refused.fields == ["segments[0].end_time", "priority"]


async def test_a_thousand_violations_reach_a_client_that_can_take_them(api: Api) -> None:
    request = create(ids.video_id(), *[segment(2, 1)] * 1000)
    refused = await refusal(api.exports.CreateExport(request, metadata=ANNA))
    assert refused.fields == [f"segments[{index}].end_time" for index in range(1000)]


@pytest.mark.parametrize("announced", [None, "0", "-5", "many", "9" * 5000])
async def test_a_thousand_violations_do_not_lose_the_error_of_any_other_client(
    api: Api, announced: str | None
) -> None:
    request = create(ids.video_id(), *[segment(2, 1)] * 1000)
    metadata = Metadata((USER_KEY, "anna"))
    if announced is not None:
        metadata.add(MAX_DETAILS_KEY, announced)
    async with grpc.aio.insecure_channel(api.address) as channel:
        call = ExportServiceStub(channel).CreateExport(request, metadata=metadata)
        refused = await refusal(call)
    assert (refused.code, refused.reason) == (StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST")
    *listed, rest = refused.fields
    assert listed == [f"segments[{index}].end_time" for index in range(len(listed))]
    assert rest == "…"


async def test_request_that_is_too_large_is_refused(api: Api) -> None:
    request = create(ids.video_id(), request_id="x" * 2_000_000)
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await api.exports.CreateExport(request, metadata=ANNA)
    assert raised.value.code() is StatusCode.RESOURCE_EXHAUSTED


async def test_plan_of_a_source_that_nobody_can_examine_is_unavailable(
    api: Api, encoder: FakeEncoder
) -> None:
    video = await encoder.video()
    request = create(video, validate_only=True)
    refused = await refusal(api.exports.CreateExport(request, metadata=ANNA))
    assert (refused.code, refused.reason) == (StatusCode.UNAVAILABLE, "NO_ENCODER")
    assert refused.retry_seconds == 2


# Lists


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (service.ListExportsRequest(page_size=-1), "page_size"),
        (service.ListExportsRequest(page_size=1001), "page_size"),
        (service.ListExportsRequest(video_id="x"), "video_id"),
        (service.ListExportsRequest(states=[99]), "states[0]"),  # type: ignore[list-item]
        (service.ListExportsRequest(created_after=Timestamp(nanos=-1)), "created_after"),
    ],
)
async def test_filter_that_cannot_be_is_refused(
    api: Api, request_: service.ListExportsRequest, field: str
) -> None:
    refused = await refusal(api.exports.ListExports(request_, metadata=ANNA))
    assert (refused.code, refused.fields) == (StatusCode.INVALID_ARGUMENT, [field])


@pytest.mark.parametrize("token", ["x", "W10=", "W1tb" * 50_000])
async def test_damaged_page_token_is_refused(api: Api, token: str) -> None:
    request = service.ListExportsRequest(page_token=token)
    refused = await refusal(api.exports.ListExports(request, metadata=ANNA))
    assert (refused.code, refused.reason) == (StatusCode.INVALID_ARGUMENT, "INVALID_PAGE_TOKEN")


async def test_page_token_of_other_filters_is_refused(api: Api, rig: Rig) -> None:
    for _ in range(2):
        await rig.create()
    page = await api.exports.ListExports(service.ListExportsRequest(page_size=1), metadata=ANNA)
    other = service.ListExportsRequest(
        page_token=page.next_page_token, states=[pb.EXPORT_STATE_QUEUED]
    )
    refused = await refusal(api.exports.ListExports(other, metadata=ANNA))
    assert refused.reason == "INVALID_PAGE_TOKEN"


async def test_states_that_are_repeated_are_the_same_filter(api: Api, rig: Rig) -> None:
    case = await rig.create()
    states = [pb.EXPORT_STATE_QUEUED, pb.EXPORT_STATE_FAILED] * 50
    request = service.ListExportsRequest(states=states)
    page = await api.exports.ListExports(request, metadata=ANNA)
    assert [export.id for export in page.exports] == [case.id]


# The state it is in


async def test_ended_export_cannot_be_cancelled(api: Api, rig: Rig) -> None:
    case = await rig.create()
    await case.complete()
    request = service.CancelExportRequest(export_id=case.id)
    refused = await refusal(api.exports.CancelExport(request, metadata=ANNA))
    assert (refused.code, refused.reason) == (StatusCode.FAILED_PRECONDITION, "EXPORT_ENDED")


async def test_export_that_cannot_succeed_is_not_tried_again(api: Api, rig: Rig) -> None:
    case = await rig.create()
    await case.fail(retryable=False)
    request = service.RetryExportRequest(export_id=case.id)
    refused = await refusal(api.exports.RetryExport(request, metadata=ANNA))
    assert (refused.code, refused.reason) == (StatusCode.FAILED_PRECONDITION, "NOT_RETRYABLE")


async def test_request_id_of_another_body_is_refused(api: Api, encoder: FakeEncoder) -> None:
    video = await encoder.video()
    first = await api.exports.CreateExport(create(video, request_id="r"), metadata=ANNA)
    again = await api.exports.CreateExport(create(video, request_id="r"), metadata=ANNA)
    assert again.export.id == first.export.id
    other = create(video, segment(0, 1), request_id="r")
    refused = await refusal(api.exports.CreateExport(other, metadata=ANNA))
    assert (refused.code, refused.reason) == (StatusCode.ALREADY_EXISTS, "REQUEST_ID_REUSED")


# Limits


async def test_limits_say_which_and_when_to_try_again(
    around: Surroundings, rig: Rig, encoder: FakeEncoder
) -> None:
    video = await encoder.video()
    shared = create(video)
    async with api_running(
        around, exports_per_hour=3, running_per_user=2, queue_limit=3
    ) as limited:
        await limited.until(SERVING)
        first = await limited.exports.CreateExport(shared, metadata=ANNA)
        await limited.exports.CreateExport(shared, metadata=ANNA)
        refused = await refusal(limited.exports.CreateExport(shared, metadata=ANNA))
        assert (refused.code, refused.reason) == (StatusCode.RESOURCE_EXHAUSTED, "RUNNING_QUOTA")
        assert (refused.quota_subject, refused.retry_seconds) == ("user:anna", 15)

        cancel = service.CancelExportRequest(export_id=first.export.id)
        await limited.exports.CancelExport(cancel, metadata=ANNA)
        third = await limited.exports.CreateExport(shared, metadata=ANNA)
        await limited.exports.DeleteExport(
            service.DeleteExportRequest(export_id=third.export.id), metadata=ANNA
        )
        refused = await refusal(limited.exports.CreateExport(shared, metadata=ANNA))
        assert (refused.code, refused.reason) == (StatusCode.RESOURCE_EXHAUSTED, "HOURLY_QUOTA")
        assert refused.quota_subject == "user:anna"
        assert refused.retry_seconds is not None
        assert 3580 < refused.retry_seconds <= 3600

        for user in ("cleo", "dora"):
            await rig.create(user)
        bens = create(await encoder.video("ben"))
        refused = await refusal(limited.exports.CreateExport(bens, metadata=BEN))
        assert (refused.code, refused.reason) == (StatusCode.RESOURCE_EXHAUSTED, "QUEUE_FULL")
        assert (refused.quota_subject, refused.retry_seconds) == ("cluster", 15)
    assert await rig.value("SELECT count(*) FROM exports WHERE state = 'CANCELLED'") == 1


async def test_plan_counts_against_no_limit(
    around: Surroundings, rig: Rig, encoder: FakeEncoder
) -> None:
    video = await encoder.probed_video(rig)
    async with api_running(around, exports_per_hour=1) as limited:
        await limited.until(SERVING)
        for _ in range(3):
            answer = await limited.exports.CreateExport(
                create(video, validate_only=True), metadata=ANNA
            )
            assert answer.plan.frame_count == 100
            assert not answer.HasField("export")
        await limited.exports.CreateExport(create(video), metadata=ANNA)
    assert await rig.value("SELECT count(*) FROM exports") == 1
    assert await rig.value("SELECT state FROM exports") == ExportState.QUEUED


# Watermarks


async def test_watermark_is_an_image_that_is_there(
    api: Api, rig: Rig, encoder: FakeEncoder
) -> None:
    video, image = await encoder.probed_video(rig), await encoder.video(data=b"an image")
    nobody = f"vid_{'f' * 32}"

    def wanted(image_id: str) -> service.CreateExportRequest:
        watermark = pb.Watermark(image=pb.Source(video_id=image_id), etag="a lie")
        return create(video, settings=pb.ExportSettings(watermark=watermark))

    refused = await refusal(api.exports.CreateExport(wanted(nobody), metadata=ANNA))
    assert refused.code is StatusCode.INVALID_ARGUMENT
    assert refused.fields == ["settings.watermark.image"]
    assert f"there is no image {nobody}" in refused.message
    # Another user's is not there either.
    theirs = await encoder.video("ben", b"an image of ben's")
    assert (await refusal(api.exports.CreateExport(wanted(theirs), metadata=ANNA))).fields
    created = (await api.exports.CreateExport(wanted(image), metadata=ANNA)).export
    told = created.settings.watermark
    assert (len(told.etag) >= 32, told.size_bytes) == (True, 8)
    assert created.plan.watermark.etag == told.etag
    assert created.plan.watermark.width == 0.15
    task = await encoder.take(Lane.CPU)
    assert task.whole.plan.watermark == created.plan.watermark


async def test_image_of_a_watermark_has_a_limit(
    api: Api, rig: Rig, encoder: FakeEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.common.storage.MAX_IMAGE_BYTES", 7)
    image = await encoder.video(data=b"an image")
    watermark = pb.Watermark(image=pb.Source(video_id=image))
    request = create(
        await encoder.probed_video(rig), settings=pb.ExportSettings(watermark=watermark)
    )
    refused = await refusal(api.exports.CreateExport(request, metadata=ANNA))
    assert refused.fields == ["settings.watermark.image"]
    assert "has 8 bytes; at most 7 are drawn" in refused.message
