"""Faults 17 and 18: exports are cancelled and deleted in every state, also as they complete."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.media.frame_codes import Clip

MakeClip = Callable[[Clip], Path]
