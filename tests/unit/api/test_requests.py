"""What a request may say: the rows of the table of bad input."""

from __future__ import annotations

import time
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from services.api.requests import check_create, check_export_id, check_list
from services.common.errors import DomainError, Reason
from videoexport.v1 import export_pb2 as pb
from videoexport.v1 import export_service_pb2 as service

VIDEO = "vid_" + "0" * 32


def segment(start: float, end: float) -> pb.Segment:
    return pb.Segment(
        start_time=Duration(seconds=int(start), nanos=round((start - int(start)) * 1e9)),
        end_time=Duration(seconds=int(end), nanos=round((end - int(end)) * 1e9)),
    )


def create(**changes: Any) -> service.CreateExportRequest:
    return service.CreateExportRequest(**{"source": pb.Source(video_id=VIDEO), **changes})


def refused(check: Any, request: Any) -> list[str]:
    with pytest.raises(DomainError) as raised:
        check(request)
    assert raised.value.reason is Reason.INVALID_REQUEST
    return [item.field for item in raised.value.violations]


@pytest.mark.parametrize(
    "request_",
    [
        create(),
        create(segments=[segment(0, 1), segment(0.5, 2), segment(0, 1)]),
        create(request_id="x"),
        create(request_id="order 17/a: ~!"),
        create(request_id="x" * 128),
        create(priority=100),
        create(priority=-100),
        create(validate_only=True),
        create(settings=pb.ExportSettings(audio_stream=0, loudness_lufs=-5)),
        create(settings=pb.ExportSettings(audio_stream=999, loudness_lufs=-70)),
    ],
)
def test_create_that_may_be(request_: service.CreateExportRequest) -> None:
    check_create(request_)


@pytest.mark.parametrize(
    ("request_", "fields"),
    [
        (service.CreateExportRequest(), ["source"]),
        (create(source=pb.Source(video_id="")), ["source.video_id"]),
        (create(source=pb.Source(video_id="vid_../x")), ["source.video_id"]),
        (
            create(source=pb.Source(s3_object=pb.S3Object(bucket="b1", key="../a"))),
            ["source.s3_object.key"],
        ),
        (create(segments=[segment(2, 1)]), ["segments[0].end_time"]),
        (create(segments=[segment(1, 1)]), ["segments[0].end_time"]),
        (create(segments=[pb.Segment()]), ["segments[0].end_time"]),
        (create(segments=[segment(0, 1), segment(-1, 1)]), ["segments[1].start_time"]),
        (create(segments=[segment(0, 1)] * 1001), ["segments"]),
        (create(settings=pb.ExportSettings(quality=77)), ["settings.quality"]),  # type: ignore[arg-type]
        (create(settings=pb.ExportSettings(audio_stream=-1)), ["settings.audio_stream"]),
        *(
            (create(settings=pb.ExportSettings(loudness_lufs=lufs)), ["settings.loudness_lufs"])
            for lufs in (0.0, -4.9, -70.1, 16.0, float("nan"), float("-inf"))
        ),
        (create(request_id="x" * 129), ["request_id"]),
        (create(request_id="a\nb"), ["request_id"]),
        (create(request_id="a\x00b"), ["request_id"]),
        (create(request_id="é"), ["request_id"]),
        (create(priority=101), ["priority"]),
        (create(priority=-101), ["priority"]),
        (create(priority=-(2**31)), ["priority"]),
    ],
)
def test_create_that_may_not_be(request_: service.CreateExportRequest, fields: list[str]) -> None:
    assert refused(check_create, request_) == fields


def test_create_lists_every_violation_at_once() -> None:
    request = service.CreateExportRequest(
        source=pb.Source(s3_object=pb.S3Object(bucket="..", key="a/../b")),
        segments=[segment(2, 1), segment(0, 1), segment(-3, -4)],
        settings=pb.ExportSettings(
            resolution=9,  # type: ignore[arg-type]
            frame_rate=pb.Rational(numerator=500, denominator=1),
        ),
        request_id="\t",
        priority=1000,
    )
    assert refused(check_create, request) == [
        "source.s3_object.bucket",
        "source.s3_object.key",
        "segments[0].end_time",
        "segments[2].start_time",
        "segments[2].end_time",
        "settings.resolution",
        "settings.frame_rate",
        "request_id",
        "priority",
    ]


@pytest.mark.parametrize("export_id", ["", "exp_", VIDEO, "exp_" + "0" * 33, "../x", "exp_\x00"])
def test_what_is_not_an_export_id_is_refused(export_id: str) -> None:
    assert refused(check_export_id, export_id) == ["export_id"]


def test_export_id_may_be() -> None:
    check_export_id("exp_" + "0" * 32)


@pytest.mark.parametrize(
    "request_",
    [
        service.ListExportsRequest(),
        service.ListExportsRequest(page_size=1),
        service.ListExportsRequest(page_size=1000),
        service.ListExportsRequest(video_id=VIDEO),
        service.ListExportsRequest(states=[pb.EXPORT_STATE_QUEUED, pb.EXPORT_STATE_EXPIRED]),
        service.ListExportsRequest(states=[pb.EXPORT_STATE_QUEUED] * 100),
        service.ListExportsRequest(created_after=Timestamp(seconds=1), created_before=Timestamp()),
        service.ListExportsRequest(created_before=Timestamp(seconds=253_402_300_799)),
    ],
)
def test_list_that_may_be(request_: service.ListExportsRequest) -> None:
    check_list(request_)


@pytest.mark.parametrize(
    ("request_", "fields"),
    [
        (service.ListExportsRequest(page_size=-1), ["page_size"]),
        (service.ListExportsRequest(page_size=1001), ["page_size"]),
        (service.ListExportsRequest(video_id="x"), ["video_id"]),
        (service.ListExportsRequest(states=[pb.EXPORT_STATE_UNSPECIFIED]), ["states[0]"]),
        (
            service.ListExportsRequest(states=[pb.EXPORT_STATE_FAILED, 44]),  # type: ignore[list-item]
            ["states[1]"],
        ),
        (service.ListExportsRequest(states=[pb.EXPORT_STATE_QUEUED] * 101), ["states"]),
        (
            service.ListExportsRequest(created_after=Timestamp(seconds=-62_135_596_801)),
            ["created_after"],
        ),
        (service.ListExportsRequest(created_before=Timestamp(nanos=-1)), ["created_before"]),
        (
            service.ListExportsRequest(
                page_size=-5,
                video_id="..",
                states=[99],  # type: ignore[list-item]
                created_after=Timestamp(nanos=1_000_000_000),
                created_before=Timestamp(seconds=2**62),
            ),
            ["page_size", "video_id", "states[0]", "created_after", "created_before"],
        ),
    ],
)
def test_list_that_may_not_be(request_: service.ListExportsRequest, fields: list[str]) -> None:
    assert refused(check_list, request_) == fields


def test_states_beyond_measure_are_refused_at_once() -> None:
    # As many as fit into a request of 1 MiB, which is checked on the event loop.
    request = service.ListExportsRequest(states=[99] * 1_000_000)  # type: ignore[list-item]
    started = time.process_time()
    assert refused(check_list, request) == ["states"]
    assert time.process_time() - started < 0.1
