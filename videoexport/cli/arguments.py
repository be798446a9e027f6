"""Arguments of the commands: their forms, and what they become."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeAlias

import click
from google.protobuf.duration_pb2 import Duration

from videoexport.client import parse_segment, source_message
from videoexport.client.naming import duration
from videoexport.v1 import export_pb2

_VIDEO_ID = re.compile(r"vid_[0-9a-f]{32}")
_FRAME_RATE = re.compile(r"([0-9]+)(?:/([0-9]+)|\.([0-9]+))?")
INT32_MAX = 2**31 - 1


@dataclass(frozen=True, slots=True)
class LocalFile:
    """A source on this machine, to be uploaded."""

    path: Path


SourceArgument: TypeAlias = LocalFile | export_pb2.Source


class GivenType(click.ParamType[str]):
    """Text that is not empty, as an unset variable of a shell is.

    An empty one would be taken for none, and do something else than was meant.
    """

    name = "text"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the text as it is."""
        if not value:
            self.fail("it is empty.", param, ctx)
        return str(value)


class FileType(click.ParamType[Path]):
    """A local file to be uploaded."""

    name = "file"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """Return its path; neither directories nor pipes and devices are files."""
        path = Path(value)
        if not value or not path.exists():
            self.fail(f"There is no file {value!r}.", param, ctx)
        if not path.is_file():
            self.fail(f"{value} is not a regular file.", param, ctx)
        if not os.access(path, os.R_OK):
            self.fail(f"{value} cannot be read.", param, ctx)
        return path


class SourceType(click.ParamType[SourceArgument]):
    """A local file, a video id or s3://bucket/key."""

    name = "source"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> SourceArgument:
        """Return what `value` names; whether it exists elsewhere is for the service to say."""
        if isinstance(value, LocalFile | export_pb2.Source):
            return value
        named = _VIDEO_ID.fullmatch(value) or value.startswith("s3://")
        if value and not named and Path(value).exists():
            return LocalFile(FileType().convert(value, param, ctx))
        try:
            return source_message(value)
        except ValueError:
            self.fail(
                f"{value!r} is neither a file here, nor a video id (vid_…), nor s3://bucket/key.",
                param,
                ctx,
            )


class SegmentType(click.ParamType[export_pb2.Segment]):
    """START-END, each in seconds or as HH:MM:SS.mmm."""

    name = "segment"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> export_pb2.Segment:
        """Return the segment; whether it fits the source is for the service to say."""
        if isinstance(value, export_pb2.Segment):
            return value
        try:
            return parse_segment(value)
        except ValueError as error:
            self.fail(
                f"{value!r}: {error}; write START-END, such as 12.5-20 or 00:01:00-00:01:30.250.",
                param,
                ctx,
            )


class TimeType(click.ParamType[Duration]):
    """A time in seconds or as HH:MM:SS.mmm."""

    name = "time"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Duration:
        """Return the time; whether it fits is for the service to say."""
        if isinstance(value, Duration):
            return value
        try:
            return duration(value)
        except ValueError as error:
            self.fail(f"{value!r}: {error}; write 12.5 or 00:01:30.250.", param, ctx)


class FrameRateType(click.ParamType[export_pb2.Rational]):
    """Frames per second: 25, 29.97 or 30000/1001, kept exactly as written."""

    name = "rate"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> export_pb2.Rational:
        """Return the rate; whether the service can make it is for the service to say."""
        if isinstance(value, export_pb2.Rational):
            return value
        match = _FRAME_RATE.fullmatch(value)
        if match is None:
            self.fail(f"{value!r} is not a rate such as 25, 29.97 or 30000/1001.", param, ctx)
        whole, denominator, decimals = match.groups()
        if denominator is None:
            top, bottom = Decimal(f"{whole}.{decimals or 0}").as_integer_ratio()
        else:
            top, bottom = int(whole), int(denominator)
        if max(top, bottom) > INT32_MAX:
            self.fail(f"{value!r} has too many digits.", param, ctx)
        return export_pb2.Rational(numerator=top, denominator=bottom)


class PriorityType(click.ParamType[int]):
    """A whole number that the contract can carry; the service judges its range."""

    name = "priority"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the number."""
        try:
            number = int(value)
        except ValueError:
            number = INT32_MAX + 1
        if abs(number) > INT32_MAX:
            self.fail(f"{value!r} is not a whole number from -100 to 100.", param, ctx)
        return number
