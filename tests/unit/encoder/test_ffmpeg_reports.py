"""What FFmpeg writes: progress blocks, and the line that says what went wrong."""

import pytest

from services.encoder.ffmpeg import Progress, ProgressParser, last_meaningful_line

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
        (["Conversion failed!"], "Conversion failed!"),
        ([], "FFmpeg gave no reason"),
    ],
)
def test_last_meaningful_line_says_the_cause_without_places(
    lines: list[str], expected: str
) -> None:
    assert last_meaningful_line(lines) == expected
