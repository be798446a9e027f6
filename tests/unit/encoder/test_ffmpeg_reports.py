"""What FFmpeg writes: progress blocks, and the line that says what went wrong."""

import pytest

from services.encoder.errors import (
    DamagedSource,
    EncoderFailed,
    MediaError,
    ScratchFull,
    SoundChanged,
)
from services.encoder.ffmpeg.failure import (
    complains,
    failure_in_spite_of,
    failure_of,
    last_meaningful_line,
)
from services.encoder.ffmpeg.process import Progress, ProgressParser

BLOCK = """frame=1250
fps=249.51
stream_0_0_q=28.0
bitrate= 731.4kbits/s
total_size=4571234
out_time_us=49960000
out_time_ms=49960000
out_time=00:00:49.960000
dup_frames=0
drop_frames=0
speed=9.97x
progress=continue"""


def read(text: str) -> list[Progress]:
    parser = ProgressParser()
    return [block for line in text.splitlines() if (block := parser.feed(line))]


def test_progress_block_is_read() -> None:
    assert read(BLOCK) == [Progress(1250, 249.51, 49.96, 9.97, 4571234)]


def test_progress_before_the_first_frame_has_no_times() -> None:
    text = "frame=0\nfps=0.00\ntotal_size=N/A\nout_time_us=N/A\nspeed=N/A\nprogress=continue"
    assert read(text) == [Progress(0, 0.0, None, 0.0, 0)]


def test_progress_blocks_do_not_inherit_from_each_other() -> None:
    assert read(BLOCK + "\nframe=1260\nprogress=end")[1] == Progress(1260, 0.0, None, 0.0, 0)


@pytest.mark.parametrize("line", ["", "garbage", "frame=abc", "=", "frame"])
def test_progress_survives_lines_it_does_not_know(line: str) -> None:
    assert read(f"{line}\nprogress=continue") == [Progress()]


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (
            [
                "[mov,mp4,m4a,3gp,3g2,mj2 @ 0x55] moov atom not found",
                "[in#0 @ 0x559d141e2d00] Error opening input: Invalid data found",
                "Error opening input file http://127.0.0.1:1/secret.",
                "Error opening input files: Invalid data found when processing input",
            ],
            "moov atom not found",
        ),
        (
            [
                "[h264_nvenc @ 0x5565d4c7a080] Cannot load libcuda.so.1",
                "[vost#0:0/h264_nvenc @ 0x55] [enc:h264_nvenc @ 0x56] Error while opening encoder",
                "[vf#0:0 @ 0x5] Task finished with error code: -1 (Operation not permitted)",
                "[vf#0:0 @ 0x5] Terminating thread with return code -1",
                "    Last message repeated 1 times",
                "",
            ],
            "Cannot load libcuda.so.1",
        ),
        (
            ["[tcp @ 0x5] Connection to tcp://10.1.2.3:80/a?X-Amz-Signature=abc failed: refused"],
            "Connection to the source failed: refused",
        ),
        (["/var/scratch/run_1/output.mp4: Permission denied"], "a file: Permission denied"),
        (
            ["Unable to open '/var/scratch/x y.mp4' for reading"],
            "Unable to open 'a file y.mp4' for reading",
        ),
        (
            [
                "[vost#0:0/libx264 @ 0x5] Non-monotonic DTS; previous: 3074, current: 0; "
                "Error submitting a packet to the muxer: Invalid argument",
                "[out#0/mp4 @ 0x5] Error muxing a packet",
                "[out#0/mp4 @ 0x5] Terminating thread with return code -22 (Invalid argument)",
            ],
            "Non-monotonic DTS; previous: 3074, current: 0; "
            "Error submitting a packet to the muxer: Invalid argument",
        ),
        (["Conversion failed!"], "Conversion failed!"),
        ([], "FFmpeg gave no reason"),
    ],
)
def test_last_meaningful_line_says_the_cause_without_places(
    lines: list[str], expected: str
) -> None:
    assert last_meaningful_line(lines) == expected


ENDED = "Task finished with error code: -1094995529 (Invalid data found when processing input)"
RESTARTED = "Non-monotonic DTS; previous: 1024, current: 0; Error submitting a packet to the muxer"


@pytest.mark.parametrize(
    ("line", "kind", "words"),
    [
        (f"[vist#0:0/h264 @ 0x5] [dec:h264 @ 0x5] {ENDED}", DamagedSource, "some of its pictures"),
        (f"[aist#0:1/aac @ 0x5] [dec:aac @ 0x5] {ENDED}", DamagedSource, "some of its sound"),
        (
            "[aist#0:1/aac @ 0x5] [dec:aac @ 0x5] Task finished with error code: -1 "
            "(Operation not permitted)",
            DamagedSource,
            "some of its sound",
        ),
        (
            "[aist#0:1/ac3 @ 0x5] [dec:ac3 @ 0x5] Task finished with error code: -16976906 "
            "(Error number -16976906 occurred)",
            DamagedSource,
            "some of its sound",
        ),
        (f"[in#0/flv @ 0x5] {ENDED}", DamagedSource, "some of its data"),
        (f"[vf#0:0 @ 0x5] {ENDED}", EncoderFailed, ""),
        (f"[enc:libx264 @ 0x5] {ENDED}", EncoderFailed, ""),
        (
            "[vist#0:0/h264 @ 0x5] [dec:h264 @ 0x5] Task finished with error code: -5 (I/O error)",
            EncoderFailed,
            "",
        ),
        (f"[aost#0:1/aac @ 0x5] {RESTARTED}", SoundChanged, "the sound changes"),
        (f"[vost#0:0/h264_nvenc @ 0x5] {RESTARTED}", EncoderFailed, ""),
        (f"[aost#0:1/copy @ 0x5] {RESTARTED}", EncoderFailed, ""),
    ],
)
def test_only_what_comes_of_the_source_is_blamed_on_it(
    line: str, kind: type[MediaError], words: str
) -> None:
    failure = failure_of(["[h264 @ 0x5] error while decoding MB 5 2, bytestream -33", line], None)
    assert type(failure) is kind
    assert words in failure.message


def test_damage_that_a_decoder_has_met_is_told_from_the_others() -> None:
    for line, decoded in (
        (f"[vist#0:0/h264 @ 0x5] [dec:h264 @ 0x5] {ENDED}", True),
        (f"[in#0/mpegts @ 0x5] {ENDED}", False),
    ):
        failure = failure_of([line], None)
        assert isinstance(failure, DamagedSource)
        assert failure.decoded is decoded


@pytest.mark.parametrize(
    ("line", "odd"),
    [
        ("[in#0/matroska,webm @ 0x5] Invalid track number 3", True),
        ("[h264 @ 0x5] error while decoding MB 5 2, bytestream -33", True),
        ("[mp3float @ 0x5] Header missing", True),
        # Usual where decoding begins within a stream.
        ("[h264 @ 0x5] mmco: unref short failure", False),
        ("[hevc @ 0x5] Could not find ref with POC 80", False),
        ("[aost#0:1/aac @ 0x5] something", False),
        ("[out#0/mp4 @ 0x5] something", False),
        ("", False),
    ],
)
def test_what_is_odd_of_a_source_is_noticed_in_a_run_that_ends_well(line: str, odd: bool) -> None:
    assert complains([line]) is odd


def test_sound_that_began_anew_is_wrong_in_a_run_that_ends_well() -> None:
    assert isinstance(failure_in_spite_of([f"[aost#0:1/aac @ 0x5] {RESTARTED}"]), SoundChanged)
    assert failure_in_spite_of([f"[aost#0:1/copy @ 0x5] {RESTARTED}"]) is None


def test_full_disk_is_no_fault_of_the_source() -> None:
    lines = [f"[in#0/flv @ 0x5] {ENDED}", "[out#0/mp4 @ 0x1] No space left on device"]
    assert isinstance(failure_of(lines, None), ScratchFull)
