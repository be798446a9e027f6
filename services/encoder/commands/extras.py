"""What goes into an output beside pictures and sound: metadata, chapters, subtitles. Pure.

It goes into the run that makes the finished file, which copies what is encoded already or
encodes it: so none of it is in the key of any part.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path

from services.common.chapters import filled
from services.common.codecs import has_pictures
from services.common.frames import rate_of
from services.encoder.commands.cues import Cue, subrip
from services.encoder.formats.told import KEPT
from videoexport.v1 import export_pb2 as pb

METADATA = "metadata.txt"
SUBTITLES = "subtitles.srt"
# Chapters of mov and mp4 are counted in the ticks of the whole file: a multiple of the frame
# rate has each on its frame. As fine at the least as the muxer's own ticks of pictures.
_LEAST_TICKS = 10_000
# ISO 639-1 to 639-2, which mov and mp4 write: what browsers and phones name most.
_CODES = """
ar:ara bg:bul bn:ben ca:cat cs:ces cy:cym da:dan de:deu el:ell en:eng es:spa et:est
eu:eus fa:fas fi:fin fr:fra ga:gle gl:glg gu:guj he:heb hi:hin hr:hrv hu:hun hy:hye
id:ind is:isl it:ita ja:jpn ka:kat kk:kaz kn:kan ko:kor lt:lit lv:lav mk:mkd ml:mal
mn:mon mr:mar ms:msa nb:nob ne:nep nl:nld nn:nno no:nor pa:pan pl:pol pt:por ro:ron
ru:rus si:sin sk:slk sl:slv sq:sqi sr:srp sv:swe sw:swa ta:tam te:tel th:tha tl:tgl
tr:tur uk:ukr ur:urd uz:uzb vi:vie zh:zho
"""
_THREE_LETTERS = dict(pair.split(":") for pair in _CODES.split())


@dataclass(frozen=True, slots=True)
class Extras:
    """What a finished file has beside pictures and sound.

    Attributes:
        rate: frames per second of the output.
        form: of the file.
        subtitles: what they are; None where the output has none.
        cues: their text, on the output's clock.
    """

    metadata: pb.OutputMetadata = field(default_factory=pb.OutputMetadata)
    rate: Fraction = Fraction(1)
    form: pb.Format.ValueType = pb.FORMAT_MP4
    subtitles: pb.PlannedSubtitles | None = None
    cues: tuple[Cue, ...] = ()

    @classmethod
    def of(cls, plan: pb.Plan) -> Extras:
        """Return what a plan says."""
        rate = rate_of(plan.frame_rate)
        return cls(plan.metadata, rate, plan.format or pb.FORMAT_MP4, plan.subtitles)

    def with_subtitles(self, cues: Sequence[Cue]) -> Extras:
        """Return the same with the text of subtitles; without any there is no stream of it."""
        return replace(self, cues=tuple(cues))

    @property
    def _webm(self) -> bool:
        return self.form == pb.FORMAT_WEBM

    @property
    def _text_of_cues(self) -> str:
        """All that is said, which may be nothing: of drawings no text is left."""
        return subrip(self.cues)

    @property
    def _described(self) -> bool:
        return bool(self.metadata.tags or self.metadata.chapters)

    def inputs(self, folder: Path) -> list[str]:
        """Return the inputs that a run has for it, after its others."""
        inputs: list[str] = []
        for there, kind, name in (
            (self._described, "ffmetadata", METADATA),
            (self._text_of_cues, "srt", SUBTITLES),
        ):
            if there:
                inputs += ["-protocol_whitelist", "file", "-f", kind, "-i", str(folder / name)]
        return inputs

    def scripts(self, folder: Path) -> Mapping[Path, str]:
        """Return the files that those inputs are, with their text."""
        scripts = {folder / METADATA: self._text()} if self._described else {}
        if text := self._text_of_cues:
            scripts[folder / SUBTITLES] = text
        return scripts

    def described_by(self, first: int) -> int:
        """Return which input has the metadata, for `clean_output`.

        Args:
            first: number of the run's first input of `inputs`.
        """
        return first if self._described else -1

    def options(self, first: int) -> list[str]:
        """Return the options of the output, `first` as above."""
        options: list[str] = []
        told = self.metadata
        pictures = told.video_language if has_pictures(self.form) else ""
        for kind, said in (("v", pictures), ("a", told.audio_language)):
            if language := three_letters(said):
                options += [f"-metadata:s:{kind}:0", f"language={language}"]
        mov = self.form == pb.FORMAT_MOV
        if not self._webm and any(mov or tag.key not in KEPT for tag in told.tags):
            # The usual list of an mp4 has no place for these, and that of a mov for few at all,
            # so all are in another one.
            options += ["-movflags", "+use_metadata_tags"]
        if told.chapters and not self._webm:
            ticks = self.rate.numerator
            while ticks < _LEAST_TICKS:
                ticks *= 2
            options += ["-movie_timescale", str(ticks)]
        return [*options, *self._subtitle_options(first + 1 if self._described else first)]

    def _subtitle_options(self, number: int) -> list[str]:
        if not self._text_of_cues or self.subtitles is None:
            return []
        options = ["-map", f"{number}:s:0", "-c:s", "webvtt" if self._webm else "mov_text"]
        if language := three_letters(self.subtitles.language):
            options += ["-metadata:s:s:0", f"language={language}"]
        if self.subtitles.title:
            # Where mov and mp4 have it, and FFmpeg writes it.
            name = "title" if self._webm else "handler_name"
            options += ["-metadata:s:s:0", f"{name}={self.subtitles.title}"]
        return [*options, "-disposition:s:0", "forced" if self.subtitles.forced else "0"]

    def _text(self) -> str:
        """Return FFmpeg's description of metadata and chapters."""
        lines = [";FFMETADATA1"]
        lines += [f"{_escaped(tag.key)}={_escaped(tag.value)}" for tag in self.metadata.tags]
        tick = 1 / self.rate
        for start, end, title in sorted(self._chapters()):
            lines += ["[CHAPTER]", f"TIMEBASE={tick.numerator}/{tick.denominator}"]
            lines += [f"START={start}", f"END={end}", f"title={_escaped(title)}"]
        return "\n".join(lines) + "\n"

    def _chapters(self) -> Iterator[tuple[int, int, str]]:
        places = [(each.start_frame, each.end_frame) for each in self.metadata.chapters]
        for (start, end), chapter in zip(places, self.metadata.chapters, strict=True):
            yield start, end, chapter.title
        # In mov and mp4 chapters follow each other from the beginning: what is in none would
        # belong to a neighbour.
        for start, end in () if self._webm else filled(places):
            yield start, end, ""


NO_EXTRAS = Extras()


def three_letters(language: str) -> str:
    """Return the ISO 639-2 code of a tag of a language; empty where it is not known."""
    primary = language.split("-", maxsplit=1)[0].lower()
    return primary if len(primary) == 3 else _THREE_LETTERS.get(primary, "")


def _escaped(text: str) -> str:
    return re.sub(r"([=;#\\\n])", r"\\\1", text)
