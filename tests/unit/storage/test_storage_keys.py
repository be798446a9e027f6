"""Keys are built by the server alone, and nothing outside a user's own steps is reachable."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.common.checks import source_violations
from services.common.errors import DomainError, Reason, Violation
from services.common.stills import STILL_FILES
from services.storage.keys import (
    Keys,
    Location,
    Purpose,
    file_name_problem,
    in_every_format,
    locate_all,
    stills_of,
)
from videoexport.v1 import export_pb2
from videoexport.v1 import storage_service_pb2 as pb

VIDEO = "vid_" + "0" * 32
EXPORT = "exp_" + "1" * 32
RUN = "run_" + "2" * 32
KEY = "0123456789abcdef" * 4
PREVIEW = "prv_" + "3" * 32

KEYS = Keys("own", ["shared"])


def video(video_id: str) -> pb.ObjectRef:
    return pb.ObjectRef(source=export_pb2.Source(video_id=video_id))


def s3_object(bucket: str, key: str) -> pb.ObjectRef:
    return pb.ObjectRef(
        source=export_pb2.Source(s3_object=export_pb2.S3Object(bucket=bucket, key=key))
    )


def output(export_id: str, run_id: str) -> pb.ObjectRef:
    return pb.ObjectRef(export_output=pb.ExportOutput(export_id=export_id, run_id=run_id))


def locate(ref: pb.ObjectRef, user: str = "ann") -> tuple[Location | None, list[Violation]]:
    violations: list[Violation] = []
    return KEYS.locate(ref, user, "object", violations), violations


@pytest.mark.parametrize(
    ("ref", "bucket", "key", "purpose"),
    [
        (video(VIDEO), "own", f"videos/ann/{VIDEO}", Purpose.SOURCE),
        (output(EXPORT, RUN), "own", f"exports/ann/{EXPORT}/{RUN}.mp4", Purpose.EXPORT),
        (pb.ObjectRef(preview_id=PREVIEW), "own", f"previews/ann/{PREVIEW}.mp4", Purpose.PREVIEW),
        (pb.ObjectRef(cache_key=KEY), "own", f"cache/ann/{KEY}", Purpose.CACHE),
        (s3_object("shared", "a/ü b.mov"), "shared", "a/ü b.mov", None),
    ],
)
def test_object_lies_where_the_table_says(
    ref: pb.ObjectRef, bucket: str, key: str, purpose: Purpose | None
) -> None:
    location, violations = locate(ref)
    assert violations == []
    assert location is not None
    assert (location.bucket, location.key, location.purpose) == (bucket, key, purpose)


@pytest.mark.parametrize(
    ("form", "suffix", "content_type"),
    [
        (export_pb2.FORMAT_UNSPECIFIED, "mp4", "video/mp4"),
        (export_pb2.FORMAT_MP4, "mp4", "video/mp4"),
        (export_pb2.FORMAT_MOV, "mov", "video/quicktime"),
        (export_pb2.FORMAT_WEBM, "webm", "video/webm"),
        (export_pb2.FORMAT_M4A, "m4a", "audio/mp4"),
    ],
)
def test_finished_file_is_called_and_told_by_its_format(
    form: export_pb2.Format.ValueType, suffix: str, content_type: str
) -> None:
    ref = output(EXPORT, RUN)
    ref.export_output.format = form
    made, _ = locate(ref)
    shown, _ = locate(pb.ObjectRef(preview_id=PREVIEW, preview_format=form))
    assert made is not None
    assert shown is not None
    assert made.key == f"exports/ann/{EXPORT}/{RUN}.{suffix}"
    assert shown.key == f"previews/ann/{PREVIEW}.{suffix}"
    assert made.content_type == shown.content_type == content_type


def test_file_is_deleted_in_whatever_format_it_is() -> None:
    for ref in (output(EXPORT, RUN), pb.ObjectRef(preview_id=PREVIEW)):
        location, _ = locate(ref)
        assert location is not None
        found = [each.key.rpartition(".")[2] for each in in_every_format(location)]
        assert found == ["mp4", "mov", "webm", "m4a"]
    for ref in (video(VIDEO), pb.ObjectRef(cache_key=KEY), s3_object("shared", "a.mov")):
        location, _ = locate(ref)
        assert location is not None
        assert in_every_format(location) == [location]
        assert location.content_type == "application/octet-stream"


@pytest.mark.parametrize(
    ("ref", "field"),
    [
        (pb.ObjectRef(), "object"),
        (
            pb.ObjectRef(
                export_output=pb.ExportOutput(export_id=EXPORT, run_id=RUN, format=9)  # type: ignore[arg-type]
            ),
            "object.export_output.format",
        ),
        (
            pb.ObjectRef(preview_id=PREVIEW, preview_format=9),  # type: ignore[arg-type]
            "object.preview_format",
        ),
        (pb.ObjectRef(source=export_pb2.Source()), "object.source"),
        (video(""), "object.source.video_id"),
        (video(VIDEO.upper()), "object.source.video_id"),
        (video(VIDEO + "0"), "object.source.video_id"),
        (video(VIDEO + "\n"), "object.source.video_id"),
        (video("../" + VIDEO), "object.source.video_id"),
        (video(f"vid_/../{'0' * 26}"), "object.source.video_id"),
        (video(EXPORT), "object.source.video_id"),
        (output("", RUN), "object.export_output.export_id"),
        (output(EXPORT, ""), "object.export_output.run_id"),
        (output(EXPORT, "../" * 12), "object.export_output.run_id"),
        (pb.ObjectRef(preview_id=VIDEO), "object.preview_id"),
        (pb.ObjectRef(cache_key=""), "object.cache_key"),
        (pb.ObjectRef(cache_key=KEY[1:]), "object.cache_key"),
        (pb.ObjectRef(cache_key="../" + KEY[3:]), "object.cache_key"),
        (s3_object("shared", ""), "object.source.s3_object.key"),
        (s3_object("shared", "a/../b"), "object.source.s3_object.key"),
        (s3_object("shared", "x" * 1025), "object.source.s3_object.key"),
        (s3_object("", "key"), "object.source.s3_object.bucket"),
        (s3_object("../own", "key"), "object.source.s3_object.bucket"),
        (s3_object("shared\n", "key"), "object.source.s3_object.bucket"),
    ],
)
def test_object_that_names_nothing_valid_is_a_violation(ref: pb.ObjectRef, field: str) -> None:
    location, violations = locate(ref)
    assert location is None
    assert [violation.field for violation in violations] == [field]


def test_both_ids_of_an_output_are_reported_together() -> None:
    _, violations = locate(output("x", "y"))
    assert [violation.field for violation in violations] == [
        "object.export_output.export_id",
        "object.export_output.run_id",
    ]


@pytest.mark.parametrize("bucket", ["own", "elsewhere"])
def test_bucket_off_the_list_is_refused(bucket: str) -> None:
    with pytest.raises(DomainError) as caught:
        locate(s3_object(bucket, f"videos/bob/{VIDEO}"))
    assert caught.value.reason is Reason.BUCKET_NOT_ALLOWED


def test_own_bucket_is_refused_even_when_listed() -> None:
    keys = Keys("own", ["own", "shared"])
    with pytest.raises(DomainError) as caught:
        keys.locate(s3_object("own", f"videos/bob/{VIDEO}"), "ann", "object", [])
    assert caught.value.reason is Reason.BUCKET_NOT_ALLOWED


def test_missing_sources_and_outputs_are_named() -> None:
    source, _ = locate(video(VIDEO))
    foreign, _ = locate(s3_object("shared", "a.mov"))
    finished, _ = locate(output(EXPORT, RUN))
    assert source is not None
    assert foreign is not None
    assert finished is not None
    assert source.missing().reason is Reason.SOURCE_NOT_FOUND
    assert VIDEO in source.missing().message
    assert foreign.missing().reason is Reason.SOURCE_NOT_FOUND
    assert "s3://shared/a.mov" in foreign.missing().message
    assert finished.missing().reason is Reason.OBJECT_NOT_FOUND
    assert EXPORT in finished.missing().message


def test_locate_all_reports_every_bad_object_by_index() -> None:
    violations: list[Violation] = []
    found = locate_all(KEYS, [video("x"), video(VIDEO), video("y")], "ann", violations)
    assert [location.key for location in found] == [f"videos/ann/{VIDEO}"]
    assert [violation.field for violation in violations] == [
        "objects[0].source.video_id",
        "objects[2].source.video_id",
    ]


@given(text=st.text(max_size=60), user=st.sampled_from(["ann", "bob"]))
def test_no_id_leaves_its_users_folder(text: str, user: str) -> None:
    refs = [video(text), output(text, RUN), output(EXPORT, text)]
    refs += [pb.ObjectRef(preview_id=text), pb.ObjectRef(cache_key=text)]
    for ref in refs:
        location, violations = locate(ref, user)
        assert (location is None) == bool(violations)
        if location is not None:
            assert location.key.split("/")[1] == user
            assert ".." not in location.key


@pytest.mark.parametrize(
    "key", ["a", "..a/b..", "a/.b", "ünï/😀.mov", "x" * 1024, "cache/a b+c%2F"]
)
def test_key_that_s3_takes_is_accepted(key: str) -> None:
    location, violations = locate(s3_object("shared", key))
    assert violations == []
    assert location is not None
    assert location.key == key


@pytest.mark.parametrize(
    "key",
    [
        *("", ".", "..", "../a", "a/..", "a/../b", "./a", "a/./b"),
        *("/a", "a//b", "a/", "a\nb", "a\0", "a\u202eb", "ü" * 513),
    ],
)
def test_key_that_could_mean_another_object_is_refused(key: str) -> None:
    location, violations = locate(s3_object("shared", key))
    assert location is None
    assert [violation.field for violation in violations] == ["object.source.s3_object.key"]


@given(bucket=st.text("aZ9._-", max_size=4), key=st.text("a./\n", max_size=5))
def test_s3_objects_are_judged_as_the_api_judges_them(bucket: str, key: str) -> None:
    ref = s3_object(bucket, key)
    violations: list[Violation] = []
    with suppress(DomainError):
        KEYS.locate(ref, "ann", "source", violations)
    # The same path, so that the same lists come out.
    here = [(each.field.removeprefix("source."), each.description) for each in violations]
    there = source_violations(ref.source)
    assert here == [(each.field, each.description) for each in there]


@pytest.mark.parametrize("name", ["a", "my clip.mov", "ünï 😀.mp4", ".hidden", "a..b", "ü" * 127])
def test_file_name_for_people_is_accepted(name: str) -> None:
    assert file_name_problem(name) is None


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "../a.mov", "a/b", "a\\b", "a\r\nX-Header: 1", "a\tb", "a\u2028b", "ü" * 128],
)
def test_file_name_that_is_a_path_or_unprintable_is_refused(name: str) -> None:
    assert file_name_problem(name) is not None


def still(name: str) -> pb.ObjectRef:
    ref = output(EXPORT, RUN)
    ref.export_output.file = name
    return ref


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("poster.jpg", "image/jpeg"),
        ("sprites.vtt", "text/vtt"),
        ("sprites-1.jpg", "image/jpeg"),
        ("sprites-20.jpg", "image/jpeg"),
    ],
)
def test_still_lies_beside_its_video(name: str, kind: str) -> None:
    location, violations = locate(still(name))
    assert violations == []
    assert location is not None
    assert location.key == f"exports/ann/{EXPORT}/{RUN}/{name}"
    assert (location.content_type, location.purpose) == (kind, Purpose.EXPORT)


@pytest.mark.parametrize("name", ["sprites-21.jpg", "../x.jpg", "poster.JPG", "x", "/", "."])
def test_file_of_an_export_has_one_of_few_names(name: str) -> None:
    location, violations = locate(still(name))
    assert location is None
    assert [violation.field for violation in violations] == ["object.export_output.file"]


def test_stills_of_a_video_are_all_that_there_may_be() -> None:
    found = stills_of([output(EXPORT, RUN), still("poster.jpg"), video(VIDEO)])
    assert [ref.export_output.file for ref in found] == list(STILL_FILES)
    assert all(ref.export_output.run_id == RUN for ref in found)
