"""How channels become two: by FFmpeg where it does so as the standard says, else by a filter."""

from __future__ import annotations

import re

import pytest

from services.encoder.commands.stereo import fold
from videoexport.v1 import export_pb2 as pb


def filters(layout: str, channels: int) -> list[str]:
    return fold(pb.AudioStream(channel_layout=layout, channels=channels))


@pytest.mark.parametrize(
    ("layout", "channels"),
    [
        ("mono", 1),
        ("1 channels (FL)", 1),
        ("stereo", 2),
        ("2 channels", 2),
        ("downmix", 2),
        ("5.1", 6),
        ("5.1(side)", 6),
        ("6 channels", 6),
        ("7.1", 8),
        ("7.1(wide)", 8),
        ("8 channels", 8),
        ("", 8),
    ],
)
def test_what_ffmpeg_folds_right_is_left_to_it(layout: str, channels: int) -> None:
    assert filters(layout, channels) == []


@pytest.mark.parametrize(
    ("layout", "channels", "wanted"),
    [
        ("binaural", 2, "pan=stereo|c0=1.0000*c0|c1=1.0000*c1"),
        (
            "3 channels (FL+FR+BL)",
            3,
            "pan=stereo|c0=0.5858*c0+0.4142*c2|c1=0.5858*c1",
        ),
        ("2 channels (FC+LFE)", 2, "pan=stereo|c0=0.7071*c0|c1=0.7071*c0"),
        ("2 channels (LFE+LFE2)", 2, "pan=stereo|c0=0*c0|c1=0*c0"),
        (
            "5.1.4",
            10,
            "pan=stereo|c0=0.2612*c0+0.1847*c2+0.1847*c4+0.1847*c6+0.1847*c8"
            "|c1=0.2612*c1+0.1847*c2+0.1847*c5+0.1847*c7+0.1847*c9",
        ),
        ("ambisonic 1", 4, "pan=stereo|c0=0.5000*c0+0.5000*c1|c1=0.5000*c0-0.5000*c1"),
        ("16 channels", 16, "pan=stereo|c0=1.0000*c0|c1=1.0000*c1"),
        ("", 9, "pan=stereo|c0=1.0000*c0|c1=1.0000*c1"),
    ],
)
def test_what_ffmpeg_folds_wrong_or_refuses_is_folded_here(
    layout: str, channels: int, wanted: str
) -> None:
    assert filters(layout, channels) == [wanted]


@pytest.mark.parametrize(
    ("layout", "channels", "left_out"),
    [
        ("cube", 8, 0),
        ("7.1.4", 12, 1),
        ("7.2.3", 12, 2),
        ("9.1.4", 14, 1),
        ("9.1.6", 16, 1),
        ("hexadecagonal", 16, 0),
        ("22.2", 24, 2),
    ],
)
def test_no_channel_is_left_out_but_effects_and_none_exceeds_full_scale(
    layout: str, channels: int, left_out: int
) -> None:
    [pan] = filters(layout, channels)
    heard: set[int] = set()
    for side in (0, 1):
        found = re.search(rf"c{side}=([^|]*)", pan)
        assert found is not None
        terms = [term.split("*c") for term in found[1].split("+")]
        assert sum(float(gain) for gain, _ in terms) <= 1.0005
        heard |= {int(channel) for _, channel in terms}
    assert len(heard) == channels - left_out
    assert max(heard) < channels
