"""The measure that colours are judged by, against published figures."""

from __future__ import annotations

import numpy as np
import pytest

from tests.media.colour import SRGB_TAGS, Tags, coded, delta_e, lab_of, light_of

# Sharma, Wu, Dalal 2005, table 1: L, a, b; L, a, b; ΔE2000.
PAIRS = """
50.0000 2.6772 -79.7751 50.0000 0.0000 -82.7485 2.0425
50.0000 3.1571 -77.2803 50.0000 0.0000 -82.7485 2.8615
50.0000 2.8361 -74.0200 50.0000 0.0000 -82.7485 3.4412
50.0000 -1.3802 -84.2814 50.0000 0.0000 -82.7485 1.0000
50.0000 -1.1848 -84.8006 50.0000 0.0000 -82.7485 1.0000
50.0000 -0.9009 -85.5211 50.0000 0.0000 -82.7485 1.0000
50.0000 0.0000 0.0000 50.0000 -1.0000 2.0000 2.3669
50.0000 -1.0000 2.0000 50.0000 0.0000 0.0000 2.3669
50.0000 2.4900 -0.0010 50.0000 -2.4900 0.0009 7.1792
50.0000 2.4900 -0.0010 50.0000 -2.4900 0.0010 7.1792
50.0000 2.4900 -0.0010 50.0000 -2.4900 0.0011 7.2195
50.0000 2.4900 -0.0010 50.0000 -2.4900 0.0012 7.2195
50.0000 -0.0010 2.4900 50.0000 0.0009 -2.4900 4.8045
50.0000 -0.0010 2.4900 50.0000 0.0010 -2.4900 4.8045
50.0000 -0.0010 2.4900 50.0000 0.0011 -2.4900 4.7461
50.0000 2.5000 0.0000 50.0000 0.0000 -2.5000 4.3065
50.0000 2.5000 0.0000 73.0000 25.0000 -18.0000 27.1492
50.0000 2.5000 0.0000 61.0000 -5.0000 29.0000 22.8977
50.0000 2.5000 0.0000 56.0000 -27.0000 -3.0000 31.9030
50.0000 2.5000 0.0000 58.0000 24.0000 15.0000 19.4535
50.0000 2.5000 0.0000 50.0000 3.1736 0.5854 1.0000
50.0000 2.5000 0.0000 50.0000 3.2972 0.0000 1.0000
50.0000 2.5000 0.0000 50.0000 1.8634 0.5757 1.0000
50.0000 2.5000 0.0000 50.0000 3.2592 0.3350 1.0000
60.2574 -34.0099 36.2677 60.4626 -34.1751 39.4387 1.2644
63.0109 -31.0961 -5.8663 62.8187 -29.7946 -4.0864 1.2630
61.2901 3.7196 -5.3901 61.4292 2.2480 -4.9620 1.8731
35.0831 -44.1164 3.7933 35.0232 -40.0716 1.5901 1.8645
22.7233 20.0904 -46.6940 23.0331 14.9730 -42.5619 2.0373
36.4612 47.8580 18.3852 36.2715 50.5065 21.2231 1.4146
90.8027 -2.0831 1.4410 91.1528 -1.6435 0.0447 1.4441
90.9257 -0.5406 -0.9208 88.6381 -0.8985 -0.7239 1.5381
6.7747 -0.2908 -2.4247 5.8714 -0.0985 -2.2286 0.6377
2.0776 0.0795 -1.1350 0.9033 -0.0636 -0.5514 0.9082
"""


@pytest.mark.parametrize("pair", PAIRS.strip().splitlines())
def test_delta_e_as_published(pair: str) -> None:
    *labs, expected = map(float, pair.split())
    one, other = np.array(labs[:3]), np.array(labs[3:])
    assert delta_e(one, other) == pytest.approx(expected, abs=5e-5)
    assert delta_e(other, one) == pytest.approx(expected, abs=5e-5)


@pytest.mark.parametrize(
    ("rgb", "lab"),
    [
        ((255, 255, 255), (100.0, 0.0, 0.0)),
        ((0, 0, 0), (0.0, 0.0, 0.0)),
        ((255, 0, 0), (53.24, 80.09, 67.20)),
        ((0, 255, 0), (87.73, -86.18, 83.18)),
        ((0, 0, 255), (32.30, 79.19, -107.86)),
    ],
)
def test_srgb_is_known_in_lab(rgb: tuple[int, int, int], lab: tuple[float, float, float]) -> None:
    assert lab_of(light_of(rgb, SRGB_TAGS)) == pytest.approx(lab, abs=0.02)


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
