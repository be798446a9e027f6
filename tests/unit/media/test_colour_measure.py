"""The measure that colours are judged by, against published figures."""

from __future__ import annotations

import numpy as np
import pytest

from tests.media.colour import Tags, coded, delta_e, lab_of, light_of


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        # Sharma, Wu and Dalal: The CIEDE2000 Color-Difference Formula, table 1.
        ((50, 2.6772, -79.7751), (50, 0, -82.7485), 2.0425),
        ((50, 3.1571, -77.2803), (50, 0, -82.7485), 2.8615),
        ((50, -1.3802, -84.2814), (50, 0, -82.7485), 1.0000),
        ((50, 0, 0), (50, -1, 2), 2.3669),
        ((50, 2.49, -0.001), (50, -2.49, 0.0009), 7.1792),
        ((50, 2.49, -0.001), (50, -2.49, 0.0011), 7.2195),
        ((50, 2.5, 0), (73, 25, -18), 27.1492),
        ((50, 2.5, 0), (58, 24, 15), 19.4535),
        ((60.2574, -34.0099, 36.2677), (60.4626, -34.1751, 39.4387), 1.2644),
        ((22.7233, 20.0904, -46.694), (23.0331, 14.973, -42.5619), 2.0373),
        ((2.0776, 0.0795, -1.135), (0.9033, -0.0636, -0.5514), 0.9082),
    ],
)
def test_delta_e_as_published(
    one: tuple[float, ...], other: tuple[float, ...], expected: float
) -> None:
    assert delta_e(np.array(one), np.array(other)) == pytest.approx(expected, abs=5e-5)
    assert delta_e(np.array(other), np.array(one)) == pytest.approx(expected, abs=5e-5)


def test_lab_of_srgb_red() -> None:
    red = light_of([255, 0, 0], Tags(transfer="iec61966-2-1", matrix="gbr", range="pc"))
    assert lab_of(red) == pytest.approx([53.24, 80.09, 67.20], abs=0.02)


@pytest.mark.parametrize(
    ("tags", "white", "red"),
    [
        (Tags(), [235, 128, 128], [63, 102, 240]),
        (Tags("smpte170m", "smpte170m", "smpte170m", "pc"), [255, 128, 128], None),
        (Tags("bt2020", "bt2020-10", "bt2020nc"), [235, 128, 128], None),
        (Tags("smpte432", "iec61966-2-1", "gbr", "pc"), [255, 255, 255], [234, 51, 35]),
        (Tags("bt2020", "arib-std-b67", "bt2020nc"), [180, 128, 128], None),
        (Tags("bt2020", "smpte2084", "bt2020nc"), [143, 128, 128], None),
    ],
    ids=str,
)
def test_known_colours_have_their_published_codes(
    tags: Tags, white: list[int], red: list[int] | None
) -> None:
    assert coded(np.ones(3), tags, 8).tolist() == white
    if red is not None:
        assert coded(np.array([1.0, 0, 0]), tags, 8).tolist() == red


def test_colours_are_read_back_as_they_were_coded() -> None:
    light = np.random.default_rng(1).uniform(0.02, 0.9, (50, 3))
    for tags in (
        Tags(),
        Tags("bt470bg", "smpte170m", "bt470bg", "pc"),
        Tags("bt2020", "bt2020-12", "bt2020nc"),
        Tags("smpte431", "iec61966-2-1", "gbr", "pc"),
    ):
        assert light_of(coded(light, tags, 12), tags, 12) == pytest.approx(light, abs=2e-3)
