"""What copied parts tell of themselves, and where joined ones are decoded."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.encoder.commands.matching import matched_codec
from services.encoder.formats.copied_part import SEAL_BYTES, Seal, read_seal
from services.encoder.inspection.joins import AFTER_JOIN, _windows
from services.encoder.tasks.copying import checks_of
from videoexport.v1 import export_pb2 as pb

ONE, OTHER = Seal(b"\1" * 32, 100), Seal(b"\2" * 32, 150)
# High profile at level 4.0 with four references, and Baseline.
HIGH = (
    "01640028ffe1001b67640028acd940780227e5c044000003000400000300c83c60c658"
    "01000668e938f2c8b0fdf8f800"
)
BASELINE = "0142c01effe100186742c01edb0280f6c044000003000400000300c83c58bb8001000568ca83cb20"


def test_seal_is_read_as_it_was_written(tmp_path: Path) -> None:
    part = tmp_path / "part.mp4"
    part.write_bytes(b"pictures")
    ONE.write(part)
    content = part.read_bytes()
    assert read_seal(content[-SEAL_BYTES:]) == ONE
    # A box that says how long it is.
    assert int.from_bytes(content[8:12], "big") == len(content) - 8
    assert content[12:16] == b"uuid"


@pytest.mark.parametrize("tail", [b"", b"\0" * SEAL_BYTES, b"pictures" * 8])
def test_part_without_a_seal_has_none(tail: bytes) -> None:
    assert read_seal(tail) is None


def test_copies_that_go_on_are_not_decoded_where_they_meet() -> None:
    checks = checks_of([10, 50, 20, 50, 50], [None, ONE, OTHER, None, OTHER])
    assert [check[2] for check in checks] == [True, True, False, True, True]
    assert [check[1] for check in checks] == [
        None,
        ONE.digest.hex(),
        OTHER.digest.hex(),
        None,
        OTHER.digest.hex(),
    ]


def test_copy_that_follows_another_place_is_decoded() -> None:
    checks = checks_of([49, 20], [ONE, OTHER])
    assert [check[2] for check in checks] == [True, True]


def test_joins_are_decoded_from_a_keyframe_before_to_some_frames_after() -> None:
    keyframes = [0, 20, 70, 120, 170]
    assert list(_windows([0, 120], 200, keyframes)) == [
        (0, AFTER_JOIN),
        (70, 120 + AFTER_JOIN),
    ]
    # Windows that touch are one, and none goes beyond the end.
    assert list(_windows([0, 20, 170], 180, keyframes)) == [(0, 20 + AFTER_JOIN), (120, 180)]


def parameters(configuration: str, ahead: int) -> dict[str, str]:
    video = pb.VideoStream(avc_configuration=bytes.fromhex(configuration), reordered_frames=ahead)
    arguments = matched_codec(video, threads=2)
    given = arguments[arguments.index("-x264-params") + 1]
    found = dict(each.split("=") for each in given.split(":"))
    return found | {"profile": arguments[arguments.index("-profile:v") + 1]}


def test_edges_are_of_the_sources_profile_level_and_depth() -> None:
    found = parameters(HIGH, 2)
    assert (found["profile"], found["level"], found["dpb-size"]) == ("high", "40", "4")
    assert (found["sps-id"], found["stitchable"]) == ("1", "1")


@pytest.mark.parametrize(
    ("ahead", "frames", "pyramid"), [(0, "0", "none"), (1, "3", "none"), (2, "3", "normal")]
)
def test_edges_are_decoded_no_further_ahead_than_the_source(
    ahead: int, frames: str, pyramid: str
) -> None:
    found = parameters(HIGH, ahead)
    assert (found["bframes"], found["b-pyramid"]) == (frames, pyramid)


def test_baseline_has_no_b_frames_whatever_the_file_says() -> None:
    found = parameters(BASELINE, 1)
    assert (found["profile"], found["bframes"]) == ("baseline", "0")
