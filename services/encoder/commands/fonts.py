"""The fonts that subtitles are drawn with: those of two wheels, and no others.

So the same text looks the same on every encoder, and its chunk is worth its key: of other versions
of the wheels it is another one (services/encoder/ffmpeg/process.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from xml.sax.saxutils import escape

from services.encoder.errors import InvalidSubtitles

# Noto Sans for most scripts, and for Chinese, Japanese and Korean.
WHEELS = ("manimgx_fonts", "manimgx_fonts_cjk")


def font_folders() -> list[Path]:
    """Return where the fonts are.

    Raises:
        InvalidSubtitles: a wheel is not installed.
    """
    folders = []
    for wheel in WHEELS:
        found = find_spec(wheel)
        if found is None or found.origin is None:
            raise InvalidSubtitles("the encoder has no fonts to draw subtitles with")
        folders.append(Path(found.origin).parent)
    return folders


def fonts_in(folder: Path) -> tuple[Mapping[Path, str], dict[str, str]]:
    """Return what a run in a folder needs to find the fonts: files with their text, variables.

    Raises:
        InvalidSubtitles: there are none.
    """
    script = folder / "fonts.conf"
    lines = [f"<dir>{escape(str(path))}</dir>" for path in font_folders()]
    # A folder of the run's own: one that is shared would be written to by strangers' text.
    lines.append(f"<cachedir>{escape(str(folder / 'fonts'))}</cachedir>")
    text = "\n".join(['<?xml version="1.0"?>', "<fontconfig>", *lines, "</fontconfig>", ""])
    return {script: text}, {"FONTCONFIG_FILE": str(script)}
