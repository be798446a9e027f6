"""Requests are checked whole: every violation is reported with its field path."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
from google.protobuf.duration_pb2 import Duration
from hypothesis import given
from hypothesis import strategies as st

from services.common.errors import DomainError, Reason
from services.storage import requests
from services.storage.keys import Keys, Purpose
from services.storage.requests import MOST_PARTS, part_size
from services.storage.settings import LARGEST_OBJECT, LARGEST_PART, MIB, SMALLEST_PART
from videoexport.v1 import export_pb2
from videoexport.v1 import storage_service_pb2 as pb

KEYS = Keys("own", ["shared"])
VIDEO = pb.ObjectRef(source=export_pb2.Source(video_id="vid_" + "0" * 32))
FOREIGN = pb.ObjectRef(
    source=export_pb2.Source(s3_object=export_pb2.S3Object(bucket="shared", key="a.mov"))
)
SOURCE = pb.SourceUpload(file_name="a.mov")
UPLOAD = pb.UploadRef(object=VIDEO, upload_id="abc")
MD5 = "0" * 32
# The limit of uploads in these tests.
LARGEST = 1000


def fields_of(call: Callable[[], object]) -> list[str]:
    with pytest.raises(DomainError) as caught:
        call()
    assert caught.value.reason is Reason.INVALID_REQUEST
    return [violation.field for violation in caught.value.violations]


@given(
    size=st.integers(1, LARGEST_OBJECT),
    preferred=st.integers(SMALLEST_PART, LARGEST_PART),
)
def test_part_size_keeps_the_limits_of_s3_and_of_the_answer(size: int, preferred: int) -> None:
    chosen = part_size(size, preferred)
    assert preferred <= chosen <= LARGEST_PART
    assert -(-size // chosen) <= MOST_PARTS


def test_part_size_grows_only_when_it_must() -> None:
    preferred = 16 * MIB
    assert part_size(1, preferred) == preferred
    assert part_size(MOST_PARTS * preferred, preferred) == preferred
    assert part_size(MOST_PARTS * preferred + 1, preferred) == 17 * MIB
    assert part_size(LARGEST_OBJECT, preferred) == LARGEST_PART


def test_upload_of_a_source_gets_an_id_of_the_server() -> None:
    request = pb.CreateUploadRequest(source=SOURCE, size_bytes=5)
    first = requests.new_upload(request, "ann", KEYS, LARGEST)
    second = requests.new_upload(request, "ann", KEYS, LARGEST)
    assert first.ref.source.video_id != second.ref.source.video_id
    assert first.location.key == f"videos/ann/{first.ref.source.video_id}"
    assert first.location.purpose is Purpose.SOURCE
    assert (first.file_name, first.size_bytes) == ("a.mov", 5)


@pytest.mark.parametrize(
    ("request_", "fields"),
    [
        (pb.CreateUploadRequest(), ["purpose", "size_bytes"]),
        (pb.CreateUploadRequest(source=SOURCE), ["size_bytes"]),
        (pb.CreateUploadRequest(source=SOURCE, size_bytes=-1), ["size_bytes"]),
        (pb.CreateUploadRequest(source=SOURCE, size_bytes=LARGEST + 1), ["size_bytes"]),
        (
            pb.CreateUploadRequest(source=pb.SourceUpload(file_name="../a"), size_bytes=0),
            ["source.file_name", "size_bytes"],
        ),
        (
            pb.CreateUploadRequest(export_output=pb.ExportOutput(), size_bytes=1),
            ["export_output.export_id", "export_output.run_id"],
        ),
        (pb.CreateUploadRequest(preview_id="../x", size_bytes=1), ["preview_id"]),
    ],
)
def test_upload_with_bad_fields_is_refused(
    request_: pb.CreateUploadRequest, fields: list[str]
) -> None:
    assert fields_of(lambda: requests.new_upload(request_, "ann", KEYS, LARGEST)) == fields


def test_upload_may_have_just_the_largest_size_and_the_refusal_names_it() -> None:
    fits = pb.CreateUploadRequest(source=SOURCE, size_bytes=LARGEST)
    assert requests.new_upload(fits, "ann", KEYS, LARGEST).size_bytes == LARGEST
    with pytest.raises(DomainError) as caught:
        requests.new_upload(fits, "ann", KEYS, LARGEST - 1)
    assert [each.description for each in caught.value.violations] == ["must be 1 to 999 bytes"]


def completed(**changes: object) -> pb.CompleteUploadRequest:
    values = {
        "upload": UPLOAD,
        "parts": [pb.UploadedPart(part_number=1, md5=MD5)],
        "size_bytes": 1,
    }
    return pb.CompleteUploadRequest(**(values | changes))  # type: ignore[arg-type]


def test_sent_upload_is_read_in_lower_case() -> None:
    request = completed(
        parts=[pb.UploadedPart(part_number=1, md5="AB" * 16)], sha256="CD" * 32, size_bytes=7
    )
    sent = requests.sent_upload(request, "ann", KEYS)
    assert (sent.md5s, sent.sha256, sent.size_bytes) == (("ab" * 16,), "cd" * 32, 7)


@pytest.mark.parametrize(
    ("changes", "fields"),
    [
        ({"upload": pb.UploadRef(upload_id="x")}, ["upload.object"]),
        ({"upload": pb.UploadRef(object=VIDEO)}, ["upload.upload_id"]),
        ({"upload": pb.UploadRef(object=VIDEO, upload_id="a b")}, ["upload.upload_id"]),
        ({"upload": pb.UploadRef(object=VIDEO, upload_id="x" * 1025)}, ["upload.upload_id"]),
        (
            {"upload": pb.UploadRef(object=FOREIGN, upload_id="x")},
            ["upload.object.source.s3_object"],
        ),
        ({"size_bytes": 0}, ["size_bytes"]),
        ({"parts": []}, ["parts"]),
        ({"sha256": "0" * 63}, ["sha256"]),
        ({"parts": [pb.UploadedPart(part_number=1, md5="0" * 31)]}, ["parts[0].md5"]),
        (
            {
                "parts": [
                    pb.UploadedPart(part_number=2, md5=MD5),
                    pb.UploadedPart(part_number=1, md5="?"),
                ]
            },
            ["parts[0].part_number", "parts[1].part_number", "parts[1].md5"],
        ),
        (
            {"parts": [pb.UploadedPart(part_number=n, md5=MD5) for n in range(1, MOST_PARTS + 2)]},
            ["parts"],
        ),
    ],
)
def test_completion_with_bad_fields_is_refused(
    changes: dict[str, object], fields: list[str]
) -> None:
    assert fields_of(lambda: requests.sent_upload(completed(**changes), "ann", KEYS)) == fields


def test_abort_with_bad_fields_is_refused() -> None:
    request = pb.AbortUploadRequest(upload=pb.UploadRef(upload_id="\n"))
    assert fields_of(lambda: requests.pending_upload(request, "ann", KEYS)) == [
        "upload.upload_id",
        "upload.object",
    ]


@pytest.mark.parametrize("count", [0, 1001])
def test_batch_of_no_or_too_many_objects_is_refused(count: int) -> None:
    stat = pb.StatObjectsRequest(objects=[VIDEO] * count)
    delete = pb.DeleteObjectsRequest(objects=[VIDEO] * count)
    assert fields_of(lambda: requests.objects_to_stat(stat, "ann", KEYS)) == ["objects"]
    assert fields_of(lambda: requests.objects_to_delete(delete, "ann", KEYS)) == ["objects"]


def test_deleting_in_an_allow_listed_bucket_is_refused() -> None:
    request = pb.DeleteObjectsRequest(objects=[VIDEO, FOREIGN])
    assert fields_of(lambda: requests.objects_to_delete(request, "ann", KEYS)) == [
        "objects[1].source.s3_object"
    ]


def test_download_lasts_an_hour_by_default() -> None:
    wanted = requests.download(pb.SignDownloadRequest(object=VIDEO), "ann", KEYS)
    assert wanted.lifetime == timedelta(hours=1)
    assert wanted.file_name == ""


@pytest.mark.parametrize(
    ("lifetime", "accepted"),
    [
        (Duration(seconds=60), True),
        (Duration(seconds=7 * 24 * 3600), True),
        (Duration(), False),
        (Duration(seconds=59, nanos=999_999_000), False),
        (Duration(seconds=7 * 24 * 3600, nanos=1000), False),
        (Duration(seconds=-60), False),
        (Duration(seconds=2**62), False),
        (Duration(seconds=60, nanos=10**9), False),
        (Duration(seconds=120, nanos=-1), False),
        (Duration(seconds=59, nanos=2 * 10**9), False),
    ],
)
def test_download_lifetime_has_limits(lifetime: Duration, accepted: bool) -> None:
    request = pb.SignDownloadRequest(object=VIDEO, lifetime=lifetime)
    if accepted:
        wanted = requests.download(request, "ann", KEYS)
        assert wanted.lifetime.total_seconds() == lifetime.seconds
    else:
        assert fields_of(lambda: requests.download(request, "ann", KEYS)) == ["lifetime"]


def test_download_reports_every_bad_field() -> None:
    request = pb.SignDownloadRequest(file_name="../a", lifetime=Duration())
    assert fields_of(lambda: requests.download(request, "ann", KEYS)) == [
        "object",
        "file_name",
        "lifetime",
    ]
