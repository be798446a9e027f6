"""Still pictures of an output: its poster and its sprites. Pure."""

from __future__ import annotations

from fractions import Fraction

from google.protobuf.duration_pb2 import Duration

from services.common.errors import Violation
from videoexport.v1 import export_pb2 as pb

POSTER_WIDTHS = (16, 8192)
SPRITE_SECONDS = (1, 600)
SPRITE_COLUMNS = (1, 20)
SPRITE_WIDTHS = (32, 640)
DEFAULT_INTERVAL, DEFAULT_COLUMNS, DEFAULT_TILE_WIDTH = Fraction(10), 10, 160
MAX_SHEET_WIDTH = 4096
# So that all names that there may be are known to whoever deletes them.
MOST_SHEETS = 20

POSTER, VTT = "poster.jpg", "sprites.vtt"
# How FFmpeg numbers what it writes, and what that comes to.
SHEETS = "sprites-%d.jpg"
STILL_FILES = (POSTER, VTT, *(SHEETS % number for number in range(1, MOST_SHEETS + 1)))


def still_violations(
    settings: pb.ExportSettings, rate: Fraction, frame_count: int
) -> list[Violation]:
    """Return where stills do not go with an output of so many frames."""
    violations = []
    if settings.poster.HasField("time") and _poster_frame(settings, rate) >= frame_count:
        end = float(frame_count / rate)
        problem = f"is beyond the end; the output ends at {end:.3f} s"
        violations.append(Violation("settings.poster.time", problem))
    if settings.HasField("sprites") and settings.sprites.HasField("interval"):
        tiles = -(-frame_count // _interval(settings, rate, frame_count))
        sheets = -(-tiles // _columns(settings) ** 2)
        if sheets > MOST_SHEETS:
            problem = f"would make {sheets} sheets; at most {MOST_SHEETS} are made"
            violations.append(Violation("settings.sprites.interval", problem))
    return violations


def planned_poster(
    settings: pb.ExportSettings, rate: Fraction, width: int, height: int
) -> pb.PlannedPoster | None:
    """Return the poster of an output of a size; None where it has none."""
    if not settings.HasField("poster"):
        return None
    frame = _poster_frame(settings, rate) if settings.poster.HasField("time") else None
    wide = min(settings.poster.width or width, width)
    high = max(2, 2 * round(Fraction(height * wide, 2 * width)))
    return pb.PlannedPoster(frame=frame, width=wide, height=high)


def planned_sprites(
    settings: pb.ExportSettings, rate: Fraction, frame_count: int, width: int, height: int
) -> pb.PlannedSprites | None:
    """Return the sprites of an output of a size; None where it has none."""
    if not settings.HasField("sprites") or not frame_count:
        return None
    interval = _interval(settings, rate, frame_count)
    tiles, columns = -(-frame_count // interval), _columns(settings)
    largest = settings.sprites.tile_width or DEFAULT_TILE_WIDTH
    longer = max(width, height)
    return pb.PlannedSprites(
        interval_frames=interval,
        tile_count=tiles,
        columns=columns,
        tile_width=max(2, round(Fraction(width * largest, longer))),
        tile_height=max(2, round(Fraction(height * largest, longer))),
        sheet_count=-(-tiles // columns**2),
    )


def vtt_of(sprites: pb.PlannedSprites, rate: Fraction, frame_count: int) -> str:
    """Return the WebVTT file that says which tile of which sheet is shown when.

    By media fragments, as players read them: https://www.w3.org/TR/media-frags/#naming-space.
    """
    lines = ["WEBVTT", ""]
    columns, wide, high = sprites.columns, sprites.tile_width, sprites.tile_height
    for tile in range(sprites.tile_count):
        first = tile * sprites.interval_frames
        last = min(first + sprites.interval_frames, frame_count)
        sheet, place = divmod(tile, columns**2)
        row, column = divmod(place, columns)
        area = f"xywh={column * wide},{row * high},{wide},{high}"
        lines += [f"{_clock(first / rate)} --> {_clock(last / rate)}"]
        lines += [f"{SHEETS % (sheet + 1)}#{area}", ""]
    return "\n".join(lines)


def files_of(output: pb.Output) -> list[str]:
    """Return the names of an output's files beside the video."""
    files = [POSTER] if output.HasField("poster") else []
    if output.HasField("sprites"):
        files += [VTT, *(SHEETS % (sheet + 1) for sheet in range(output.sprites.sheet_count))]
    return files


def _poster_frame(settings: pb.ExportSettings, rate: Fraction) -> int:
    """Return the frame that is shown at a time."""
    return int(_seconds(settings.poster.time) * rate)


def _interval(settings: pb.ExportSettings, rate: Fraction, frame_count: int) -> int:
    """Return how many frames a tile is for: by default so many that the sheets are enough."""
    if settings.sprites.HasField("interval"):
        return max(1, round(_seconds(settings.sprites.interval) * rate))
    most = MOST_SHEETS * _columns(settings) ** 2
    return max(round(DEFAULT_INTERVAL * rate), -(-frame_count // most))


def _columns(settings: pb.ExportSettings) -> int:
    return settings.sprites.columns or DEFAULT_COLUMNS


def _seconds(duration: Duration) -> Fraction:
    return Fraction(duration.seconds * 10**9 + duration.nanos, 10**9)


def _clock(seconds: Fraction) -> str:
    milliseconds = round(seconds * 1000)
    minutes, rest = divmod(milliseconds, 60_000)
    return f"{minutes // 60:02}:{minutes % 60:02}:{rest // 1000:02}.{rest % 1000:03}"
