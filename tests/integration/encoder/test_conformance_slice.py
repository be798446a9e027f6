"""Some cases of the corpus, and files that are wrong in one way, which the run must notice.

All of the corpus: `make conformance`.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from conformance.checks import measure
from conformance.evidence import evidence_of
from conformance.running import plan_of_case, run_case
from tests.integration.encoder.conftest import MakeClip, run_ffmpeg
from tests.media.exporting import export
from tests.media.recipes import RECIPES
from tests.media.recipes.recipe import PLAIN, Recipe, Refused

# A case of each kind that is quick, by name.
SLICE = (
    "turned 90°",
    "mirrored by the matrix -1 0 0 1",
    "portrait, cropped",
    "29.97 frames a second, mkv",
    "frames dropped here and there, mp4",
    "sound begins 1.5 s late",
    "screen recording of a browser, webm",
    "5.1 folded to stereo",
    "AC-3, ts",
    "Opus, mkv",
    "four pairs of mono tracks, the third asked for",
    "as loud as the web",
    "cuts within a low tone do not click, in parts",
    "BT.601 of 525 lines, 4:2:0 of 8 bits",
    "RGB of 10 bits",
    "grey of 12 bits of full range",
    "small and untagged, 25 frames a second: television of 625 lines",
    "BT.2020 of SDR, 4:2:0 of 10 bits",
    "P3 of a telephone: sRGB's curve, BT.601's matrix, full range",
    "alpha over black, FFV1",
    "HDR10, greys up to 1,000 nits",
    "HLG, colours",
    "Dolby Vision on HDR10",
    "Dolby Vision without a base",
    "parts",
    "HEVC in MOV, in parts",
    "AV1 in MP4",
    "VP9 in WebM, in parts",
    "sound alone in M4A",
    "HDR10 kept in HEVC",
    "HLG kept in VP9",
    "chapters and tags, mkv",
    "kept, srt of an mkv",
    "burnt in, mov_text of an mp4",
    "half seen",
    "both, in parts",
    "index cut off, mp4",
    "bits flipped in the sound alone, mp4",
    "timestamps go back, mkv",
)
CASE = Recipe(name="case", topic="topic", source=PLAIN, segments=((10, 30), (50, 80)), joins=2)
RANGES = [(10, 30), (50, 80)]
LOSSLESS = ("-c:v", "libx264", "-qp", "0", "-c:a", "copy")
COPIED = ("-c", "copy")
ECHO = "asplit[a][b];[b]adelay=100:all=1[c];[a][c]amix=normalize=0:duration=first"


@pytest.mark.parametrize("name", SLICE)
async def test_case_passes(scratch: Path, tmp_path: Path, name: str) -> None:
    (recipe,) = [recipe for recipe in RECIPES if recipe.name == name]
    outcome = await run_case(recipe, scratch / "clips", tmp_path / "case")
    assert outcome.measured.problems == ()
    assert not outcome.gpu
    assert (outcome.gpu is None) == (recipe.refused is not None or not recipe.gpu)
    assert not (tmp_path / "case").exists()


@pytest.fixture(scope="session")
async def right(scratch: Path, clip: MakeClip) -> Path:
    """Return an output that is right in every way."""
    folder = scratch / "right"
    folder.mkdir()
    made = await export(clip(PLAIN), None, folder, planned=lambda info: plan_of_case(CASE, info))
    assert measure(CASE, evidence_of(made.path, CASE), RANGES).problems == ()
    return made.path


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        pytest.param(("-vf", "hflip", *LOSSLESS), "pictures are mirrored", id="mirrored"),
        pytest.param(("-vf", "hflip,vflip", *LOSSLESS), "are turned 180°", id="turned"),
        pytest.param(
            ("-vf", "transpose=clock", *LOSSLESS), "144 × 256 pixels instead", id="quarter"
        ),
        pytest.param(
            ("-vf", "scale=240:136,pad=256:144:8:4", *LOSSLESS), "lies at 8, 4", id="smaller"
        ),
        pytest.param(("-vf", "setsar=2", *LOSSLESS), "not square", id="pixels"),
        pytest.param(
            (*COPIED, "-bsf:v", "h264_metadata=matrix_coefficients=6"), "ΔE2000", id="matrix"
        ),
        pytest.param(
            (*COPIED, "-bsf:v", "h264_metadata=video_full_range_flag=1"), "ΔE2000", id="range"
        ),
        pytest.param(("-vf", "hue=s=0.7", *LOSSLESS), "ΔE2000", id="pale"),
        pytest.param(
            ("-vf", r"select=not(eq(n\,20)),setpts=N/25/TB", *LOSSLESS), "49 frames", id="fewer"
        ),
        pytest.param(
            ("-vf", "shuffleframes=0 2 1 3 4 5 6 7 8 9", *LOSSLESS), "frame 1, shows 12", id="order"
        ),
        pytest.param((*COPIED, "-bsf:v", "setts=ts=TS*1.01"), "from when it is due", id="slow"),
        pytest.param(
            ("-af", "adelay=8:all=1,atrim=end=2", "-c:v", "copy"), "ms off its pictures", id="late"
        ),
        pytest.param(("-an", "-c:v", "copy"), "no sound", id="mute"),
        pytest.param(("-af", "atrim=end=1.5", "-c:v", "copy"), "1.500 s of sound", id="shorter"),
        pytest.param(
            ("-af", "volume=0:enable='between(t,0.5,0.7)'", "-c:v", "copy"),
            "no click at 0.600 s",
            id="hole",
        ),
        pytest.param(
            ("-af", ECHO, "-c:v", "copy"),
            "does not belong there",
            id="echo",
        ),
    ],
)
async def test_wrong_file_is_noticed(
    right: Path, tmp_path: Path, arguments: tuple[str, ...], words: str
) -> None:
    wrong = tmp_path / "wrong.mp4"
    await run_ffmpeg("-i", right, *arguments, wrong)
    problems = measure(CASE, evidence_of(wrong, CASE), RANGES).problems
    assert any(words in problem for problem in problems), problems


async def test_case_that_comes_out_otherwise_fails(scratch: Path, tmp_path: Path) -> None:
    async def problems(**changes: object) -> str:
        case = replace(CASE, **changes)  # type: ignore[arg-type]
        outcome = await run_case(case, scratch / "clips", tmp_path / "case")
        assert not outcome.passed
        return "; ".join(outcome.measured.problems)

    damaged = Refused(reason="INVALID_SOURCE", words="damaged")
    assert "exported, not refused" in await problems(refused=damaged)
    assert "INVALID_SEGMENTS" in await problems(segments=((10, 500),))
    assert "places" in await problems(joins=3)
    assert "frames are wrong" in await problems(starts=1)
