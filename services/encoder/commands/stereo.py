"""A source's channels folded into two, as text for FFmpeg. Pure.

FFmpeg itself folds what ITU-R BS.775-4, annex 4, speaks of: centre and surrounds 3 dB lower, a
single surround 3 dB lower for each side, low-frequency effects left out, and all of it lowered
until nothing can exceed full scale. Read back channel by channel, it also leaves out the heights
behind, those to the side and most of 22.2, and refuses layouts that have no name, more channels
than it has a layout for, and what is made for headphones: these are folded here.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from videoexport.v1 import export_pb2 as pb

_LOWERED = 0.5**0.5
_LEFT, _RIGHT, _BOTH = (1.0, 0.0), (0.0, 1.0), (_LOWERED, _LOWERED)
_LEFT_LOWERED, _RIGHT_LOWERED = (_LOWERED, 0.0), (0.0, _LOWERED)

# What of each channel, by FFmpeg's names, goes to the left and to the right.
_GAINS = {
    **dict.fromkeys(("FL", "DL", "BIL", "FLC", "WL"), _LEFT),
    **dict.fromkeys(("FR", "DR", "BIR", "FRC", "WR"), _RIGHT),
    **dict.fromkeys(("FC", "BFC"), _BOTH),
    **dict.fromkeys(("BC", "TC", "TFC", "TBC"), (0.5, 0.5)),
    **dict.fromkeys(("SL", "BL", "TFL", "TBL", "TSL", "BFL", "SDL", "SSL", "TTL"), _LEFT_LOWERED),
    **dict.fromkeys(("SR", "BR", "TFR", "TBR", "TSR", "BFR", "SDR", "SSR", "TTR"), _RIGHT_LOWERED),
}
# Layouts that FFmpeg has a name for, and does not fold or not all of.
_NAMED = {
    "binaural": "BIL+BIR",
    "cube": "FL+FR+BL+BR+TFL+TFR+TBL+TBR",
    "5.1.4": "FL+FR+FC+LFE+SL+SR+TFL+TFR+TBL+TBR",
    "7.1.4": "FL+FR+FC+LFE+BL+BR+SL+SR+TFL+TFR+TBL+TBR",
    "7.2.3": "FL+FR+FC+LFE+BL+BR+SL+SR+TFL+TFR+TBC+LFE2",
    "9.1.4": "FL+FR+FC+LFE+BL+BR+FLC+FRC+SL+SR+TFL+TFR+TBL+TBR",
    "9.1.6": "FL+FR+FC+LFE+BL+BR+FLC+FRC+SL+SR+TFL+TFR+TBL+TBR+TSL+TSR",
    "hexadecagonal": "FL+FR+FC+BL+BR+BC+SL+SR+TFL+TFC+TFR+TBL+TBC+TBR+WL+WR",
    "22.2": "FL+FR+FC+LFE+BL+BR+FLC+FRC+BC+SL+SR+TC+TFL+TFC+TFR+TBL+TBC+TBR+LFE2+TSL+TSR"
    "+BFC+BFL+BFR",
}
_UNNAMED = re.compile(r"\d+ channels \(([A-Z0-9+]+)\)")
# Up to so many channels without a layout are in the order that WAVE files have them in, which
# FFmpeg takes for granted. More are usually tracks, of which the first two are the mix.
_MOST_IN_ORDER = 8


def fold(audio: pb.AudioStream) -> list[str]:
    """Return the filters that fold the channels of a stream; none where FFmpeg does it right."""
    layout = audio.channel_layout
    unnamed = _UNNAMED.fullmatch(layout)
    if layout in _NAMED:
        return [_pan(_gains(_NAMED[layout]))]
    if unnamed is not None and audio.channels > 1:
        return [_pan(_gains(unnamed[1]))]
    if layout.startswith("ambisonic") and audio.channels >= 4:
        # Two cardioids, to the left and to the right: of W and Y, in the order of AmbiX.
        return [_pan([(0.5, 0.5), (0.5, -0.5)])]
    unknown = layout in ("", f"{audio.channels} channels")
    if unknown and audio.channels > _MOST_IN_ORDER:
        return [_pan([_LEFT, _RIGHT])]
    return []


def _gains(channels: str) -> list[tuple[float, float]]:
    return [_GAINS.get(channel, (0.0, 0.0)) for channel in channels.split("+")]


def _pan(gains: Sequence[tuple[float, float]]) -> str:
    """Return the filter with these gains, lowered until no side can exceed full scale."""
    loudest = max(1.0, *(sum(abs(gain[side]) for gain in gains) for side in (0, 1)))
    sides = []
    for side in (0, 1):
        terms = [
            f"{gain[side] / loudest:.4f}*c{channel}"
            for channel, gain in enumerate(gains)
            if gain[side]
        ]
        sides.append(f"c{side}=" + ("+".join(terms).replace("+-", "-") or "0*c0"))
    return f"pan=stereo|{'|'.join(sides)}"
