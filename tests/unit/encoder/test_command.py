"""Whole argument lists: whatever changes them changes the bytes of every output."""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

from google.protobuf.duration_pb2 import Duration

from services.common.sound import LEFT, RIGHT
from services.encoder.commands.builder import (
    audio_commands,
    trial_command,
    video_commands,
    whole_commands,
)
from services.encoder.commands.ffmpeg_command import FfmpegCommand, Site
from services.encoder.tasks.assembly import assemble_command
from videoexport.v1 import export_pb2 as pb
from videoexport.v1 import task_pb2

FFMPEG = Path("/opt/ffmpeg")
FOLDER = Path("/scratch/run_1")
URL = "http://127.0.0.1:4567/token"
SITE = Site(FFMPEG, URL, 3, FOLDER)
MOV = "mov,mp4,m4a,3gp,3g2,mj2"


def source(
    container: str = MOV, *, audio: bool = True, index: bool = True, first: int = 0
) -> pb.SourceInfo:
    info = pb.SourceInfo(
        container=container,
        first_frame_time=Duration(nanos=first),
        video=pb.VideoStream(
            index=0,
            width=1920,
            height=800,
            frame_rate=pb.Rational(numerator=25, denominator=1),
            frame_count=1000,
            bit_depth=8,
            pixel_format="yuv420p",
            color_primaries="bt709",
            color_transfer="bt709",
            color_space="bt709",
            color_range="tv",
        ),
    )
    if index:
        info.video.max_keyframe_interval.CopyFrom(Duration(seconds=2))
    if audio:
        info.audio.CopyFrom(pb.AudioStream(index=1, sample_rate=48_000, channels=6))
    return info


def plan(
    *ranges: tuple[int, int],
    rate: Fraction = Fraction(25),
    audio: bool = True,
    quality: pb.Quality.ValueType = pb.QUALITY_MEDIUM,
) -> pb.Plan:
    return pb.Plan(
        segments=[pb.PlannedSegment(start_frame=start, end_frame=end) for start, end in ranges],
        frame_rate=pb.Rational(numerator=rate.numerator, denominator=rate.denominator),
        frame_count=sum(end - start for start, end in ranges),
        width=1280,
        height=720,
        quality=quality,
        has_audio=audio,
    )


def commands(
    info: pb.SourceInfo,
    wanted: pb.Plan,
    family: pb.EncoderFamily.ValueType = pb.ENCODER_FAMILY_CPU,
) -> tuple[FfmpegCommand, ...]:
    return whole_commands(site=SITE, info=info, plan=wanted, family=family)


def words(text: str) -> list[str]:
    return text.split()


def one_input(container: str, threads: int, *seek: str, on_cpu: bool = True) -> list[str]:
    before = (
        "-protocol_whitelist http,tcp "
        f"-format_whitelist {container} "
        "-max_pixels 67108864 -http_proxy"
    )
    after = (
        "-rw_timeout 45000000 -max_redirects 0 "
        "-reconnect 1 -reconnect_on_network_error 1 -reconnect_delay_max 2 "
        "-multiple_requests 1 -initial_request_size 65536 -request_size 65536 "
        f"-threads {threads}"
    )
    after += " -reinit_filter:v 0" if on_cpu else ""
    return [*words(before), "", *words(after), *seek, "-i", URL]


BEGINNING = words(
    "/opt/ffmpeg -nostdin -y -hide_banner -loglevel error -nostats "
    "-progress pipe:1 -stats_period 0.5 -xerror -max_alloc 536870912 -copyts"
)
X264 = words("-c:v libx264 -preset medium -crf 23")
COUNTED = words("-fps_mode:v passthrough -flags:v +bitexact")
AAC = words("-map [a] -c:a aac -b:a 192k -flags:a +bitexact")
CLEAN = words("-map_metadata -1 -map_chapters -1 -fflags +bitexact")
MP4 = words("-movflags +faststart -f mp4 /scratch/run_1/output.mp4")
GRAPHS = words("-filter_complex_threads 3 -/filter_complex /scratch/run_1/output.video.txt")
AUDIO_GRAPH = words("-/filter_complex /scratch/run_1/output.audio.txt")
PICTURE = (
    "scale=w='min(1280,max(2,2*round(720*iw*1/(ih*1)/2)))'"
    ":h='min(720,max(2,2*round(1280*ih*1/(iw*1)/2)))':eval=frame:flags=bicubic:out_range=tv,"
    "pad=1280:720:'2*floor((ow-iw)/4)':'2*floor((oh-ih)/4)':eval=frame,setsar=1,format=yuv420p"
)


def test_whole_source_is_one_run_without_seeking() -> None:
    (command,) = commands(source(), plan((0, 1000)))
    assert list(command.arguments) == [
        *BEGINNING,
        *one_input(MOV, 3),
        *GRAPHS,
        *AUDIO_GRAPH,
        *("-map", "[v]"),
        *X264,
        *("-threads:v", "3"),
        *COUNTED,
        *AAC,
        *CLEAN,
        *MP4,
    ]
    assert command.output == FOLDER / "output.mp4"
    assert command.frame_count == 1000
    assert command.scripts == {
        FOLDER / "output.video.txt": (
            "[0:0]fps=25:start_time=0.000000,trim=end_frame=1000,setpts=PTS-STARTPTS[v0];\n"
            f"[v0]settb=1/25,setpts=N,{PICTURE}[v]\n"
        ),
        FOLDER / "output.audio.txt": (
            "[0:1]atrim=0.000000:40.000000,asetpts=PTS-(0.000000)/TB,"
            "aresample=48000:async=1:first_pts=0:min_hard_comp=0.015:rematrix_maxval=1,"
            "aformat=sample_fmts=fltp:channel_layouts=stereo,"
            "apad=whole_len=1920000,atrim=start_sample=0:end_sample=1920000,asetpts=N/SR/TB[a0];\n"
            "[a0]apad=whole_len=1920000,atrim=end_sample=1920000,asetpts=N/SR/TB[a]\n"
        ),
    }


def test_neighbours_share_an_input_and_a_jump_back_gets_its_own() -> None:
    info = source("mpegts", audio=False, index=False, first=1_480_000_000)
    (command,) = commands(info, plan((500, 510), (530, 540), (250, 255), audio=False))
    # 12 s before the first frame, but a quarter of a frame late; never before the beginning.
    seek = words("-seek_timestamp 1 -noaccurate_seek -ss")
    assert list(command.arguments) == [
        *BEGINNING,
        *one_input("mpegts", 3, *seek, "9.490000"),
        *one_input("mpegts", 3),
        *GRAPHS,
        *("-map", "[v]"),
        *X264,
        *("-threads:v", "3"),
        *COUNTED,
        *CLEAN,
        *MP4,
    ]
    assert command.scripts == {
        FOLDER / "output.video.txt": (
            f"[0:0]{PICTURE},setpts=PTS-(21.480000)/TB,fps=25,trim=start_pts=0:end_pts=40,"
            "select='if(lt(n,30),lt(n,10),lt(n,40))',setpts=PTS-STARTPTS[v0];\n"
            f"[1:0]{PICTURE},setpts=PTS-(11.480000)/TB,fps=25,trim=start_pts=0:end_pts=5,"
            "setpts=PTS-STARTPTS[v1];\n"
            "[v0][v1]concat=n=2:v=1:a=0,settb=1/25,setpts=N[v]\n"
        )
    }


def test_seek_margin_follows_the_container() -> None:
    def target(container: str, index: bool) -> float | None:
        (command,) = commands(source(container, index=index), plan((500, 510)))
        arguments = command.arguments
        return float(arguments[arguments.index("-ss") + 1]) if "-ss" in arguments else None

    # 17 frames at 25 a second are longer than half a second.
    assert target(MOV, True) == 19.33
    assert target(MOV, False) == 8.01, "a fragmented file has no index"
    assert target("matroska,webm", True) == 19.33
    assert target("flv", True) == 8.01


def test_reading_begins_with_a_keyframe_that_is_known() -> None:
    def target(rate: Fraction, sound: bool, *keyframes: int) -> str:
        info = source(audio=sound)
        info.video.keyframes.extend(keyframes)
        start = int(500 * rate / 25)
        wanted = plan((start, start + 10), rate=rate, audio=sound)
        (command,) = commands(info, wanted)
        return command.arguments[command.arguments.index("-ss") + 1]

    assert target(Fraction(25), False, 0, 482, 483, 500, 501) == "20.010000"
    assert target(Fraction(25), False, 0, 483) == "19.330000"
    assert target(Fraction(25), False, 0, 482) == "19.330000", "too far to be worth it"
    assert target(Fraction(25), True, 490, 498) == "19.610000", "sound needs 0.1 s before"
    assert target(Fraction(50), False, 490) == "19.605000", "keyframes count at the source's rate"


def test_reading_of_missing_frames_begins_further_ahead() -> None:
    site = replace(SITE, least_margin=Fraction(15))
    family = pb.ENCODER_FAMILY_CPU
    (command,) = whole_commands(site=site, info=source(), plan=plan((500, 510)), family=family)
    assert command.arguments[command.arguments.index("-ss") + 1] == "5.010000"


def chunk(keyframe: int) -> task_pb2.VideoChunk:
    info = source()
    info.video.keyframes.append(keyframe)
    return task_pb2.VideoChunk(
        info=info,
        frame_rate=pb.Rational(numerator=25, denominator=1),
        start_frame=500,
        end_frame=700,
        width=1280,
        height=720,
        quality=pb.QUALITY_MEDIUM,
        family=pb.ENCODER_FAMILY_CPU,
    )


def test_chunk_is_pictures_that_join_with_others() -> None:
    (command,) = video_commands(site=SITE, chunk=chunk(keyframe=500))
    seek = words("-seek_timestamp 1 -noaccurate_seek -ss 20.010000")
    assert list(command.arguments) == [
        *BEGINNING,
        *one_input(MOV, 3, *seek),
        *GRAPHS,
        *("-map", "[v]"),
        *X264,
        *words("-x264-params stitchable=1 -threads:v 3"),
        *COUNTED,
        *CLEAN,
        *MP4,
    ]
    assert command.frame_count == 200
    assert command.scripts == {
        FOLDER / "output.video.txt": (
            "[0:0]setpts=PTS-(20.000000)/TB,fps=25,trim=start_pts=0:end_pts=200,"
            "setpts=PTS-STARTPTS[v0];\n"
            f"[v0]settb=1/25,setpts=N,{PICTURE}[v]\n"
        )
    }


def test_chunk_that_begins_elsewhere_is_read_from_further_ahead() -> None:
    (command,) = video_commands(site=SITE, chunk=chunk(keyframe=482))
    assert command.arguments[command.arguments.index("-ss") + 1] == "19.330000"


def test_soundtrack_is_sound_alone() -> None:
    spans = [task_pb2.FrameSpan(start_frame=a, end_frame=b) for a, b in ((0, 50), (500, 600))]
    rate = pb.Rational(numerator=25, denominator=1)
    track = task_pb2.Soundtrack(info=source(), frame_rate=rate, spans=spans)
    (command,) = audio_commands(site=SITE, soundtrack=track)
    seek = words("-seek_timestamp 1 -noaccurate_seek -ss 19.330000")
    assert list(command.arguments) == [
        *BEGINNING,
        *one_input(MOV, 3),
        *one_input(MOV, 3, *seek),
        *words("-filter_complex_threads 3"),
        *AUDIO_GRAPH,
        *AAC,
        *CLEAN,
        *MP4,
    ]


def test_assembly_copies_parts_and_sound() -> None:
    command = assemble_command(
        ffmpeg=FFMPEG,
        urls=["http://127.0.0.1:4567/parts/0", "http://127.0.0.1:4567/parts/1"],
        frame_counts=[10, 20],
        sound_url="http://127.0.0.1:4567/sound/0",
        plan=plan((0, 30), rate=Fraction(30000, 1001)),
        folder=FOLDER,
    )
    assert list(command.arguments) == [
        *BEGINNING[:-1],
        *words("-protocol_whitelist file,http,tcp"),
        *words(f"-format_whitelist concat,{MOV} -f concat -safe 0"),
        *words("-i /scratch/run_1/parts.ffconcat"),
        *words(f"-protocol_whitelist http,tcp -format_whitelist {MOV}"),
        *words("-rw_timeout 45000000 -i http://127.0.0.1:4567/sound/0"),
        *words("-map 0:v:0 -c:v copy"),
        *("-bsf:v", "setts=pts=PTS:dts=round((N-2)/(30000/1001)/TB)"),
        *words("-map 1:a:0 -c:a copy"),
        *CLEAN,
        *MP4,
    ]
    assert command.scripts == {
        FOLDER / "parts.ffconcat": (
            "ffconcat version 1.0\n"
            "file http://127.0.0.1:4567/parts/0\nduration 0.333667\n"
            "option rw_timeout 45000000\n"
            "file http://127.0.0.1:4567/parts/1\nduration 0.667333\n"
            "option rw_timeout 45000000\n"
        )
    }


def test_no_seek_where_it_would_lead_to_the_beginning() -> None:
    (command,) = commands(source("mpegts"), plan((100, 110)))
    assert "-ss" not in command.arguments


def test_shared_sound_is_cut_to_the_sample_and_fades_at_the_cut() -> None:
    rate = Fraction(30000, 1001)
    info = source()
    info.video.frame_rate.CopyFrom(pb.Rational(numerator=30000, denominator=1001))
    (command,) = commands(info, plan((0, 30), (45, 60), rate=rate))
    assert command.scripts[FOLDER / "output.audio.txt"] == (
        "[0:1]atrim=0.000000:2.002000,asetpts=PTS-(0.000000)/TB,"
        "aresample=48000:async=1:first_pts=0:min_hard_comp=0.015:rematrix_maxval=1,"
        "aformat=sample_fmts=fltp:channel_layouts=stereo,"
        "apad=whole_len=96096,asplit=2[r0_0][r0_1];\n"
        "[r0_0]atrim=start_sample=0:end_sample=48048,asetpts=N/SR/TB,"
        "afade=t=out:start_sample=47856:nb_samples=192[a0];\n"
        "[r0_1]atrim=start_sample=72072:end_sample=96096,asetpts=N/SR/TB,"
        "afade=t=in:start_sample=0:nb_samples=192[a1];\n"
        "[a0][a1]concat=n=2:v=0:a=1,apad=whole_len=72072,atrim=end_sample=72072,"
        "asetpts=N/SR/TB[a]\n"
    )


def test_pictures_are_finished_before_they_may_be_repeated() -> None:
    varying = source()
    varying.video.variable_frame_rate = True
    steady, faster = plan((0, 10)), plan((0, 10), rate=Fraction(50))
    for info, wanted, first in (
        (source(), steady, False),
        (source(), faster, True),
        (source(index=False), steady, True),
        (source("matroska,webm"), steady, True),
        (varying, steady, True),
    ):
        (command,) = commands(info, wanted)
        graph = command.scripts[FOLDER / "output.video.txt"]
        assert (graph.index("scale=") < graph.index("fps=")) == first


def test_quality_sets_the_constant_quality_of_both_families() -> None:
    levels = (pb.QUALITY_HIGH, pb.QUALITY_MEDIUM, pb.QUALITY_LOW, pb.QUALITY_UNSPECIFIED)
    for quality, crf, cq in zip(levels, (18, 23, 28, 23), (19, 24, 29, 24), strict=True):
        (cpu,) = commands(source(), plan((0, 10), quality=quality))
        assert cpu.arguments[cpu.arguments.index("-crf") + 1] == str(crf)
        (gpu,) = commands(source(), plan((0, 10), quality=quality), pb.ENCODER_FAMILY_NVENC)
        assert gpu.arguments[gpu.arguments.index("-cq") + 1] == str(cq)


def test_nvenc_fits_and_pads_on_the_gpu() -> None:
    (command,) = commands(source(), plan((0, 10)), pb.ENCODER_FAMILY_NVENC)
    nvenc = words(
        "-c:v h264_nvenc -preset p5 -tune hq -profile:v high -rc vbr -cq 24 -b:v 0 -g 250"
    )
    assert list(command.arguments) == [
        *BEGINNING,
        *words("-init_hw_device cuda=gpu -filter_hw_device gpu"),
        *one_input(MOV, 3, on_cpu=False),
        *GRAPHS,
        *AUDIO_GRAPH,
        *("-map", "[v]"),
        *nvenc,
        *COUNTED,
        *AAC,
        *CLEAN,
        *MP4,
    ]
    assert command.scripts[FOLDER / "output.video.txt"].endswith(
        "settb=1/25,setpts=N,scale=out_range=tv,format=yuv420p,hwupload_cuda,"
        "scale_cuda=1280:534:interp_algo=bicubic,pad_cuda=1280:720:0:92,setsar=1[v]\n"
    )


def test_trial_goes_through_the_same_filters_and_codec_as_a_task() -> None:
    info = source()
    # As of most sources, nothing is said of the trial's colours.
    for name in ("color_primaries", "color_transfer", "color_space", "color_range"):
        info.video.ClearField(name)  # type: ignore[arg-type]
    wanted = plan((0, 10))
    wanted.width, wanted.height = 640, 360
    for family in (pb.ENCODER_FAMILY_CPU, pb.ENCODER_FAMILY_NVENC):
        (task,) = commands(info, wanted, family)
        trial = trial_command(FFMPEG, family, pb.VIDEO_CODEC_H264)
        picture = task.scripts[FOLDER / "output.video.txt"].rpartition("setpts=N,")[2]
        graph = trial[trial.index("-filter_complex") + 1]
        names = [step.partition("=")[0] for step in picture.rpartition("[v]")[0].split(",")]
        assert [step.partition("=")[0] for step in graph[5:-3].split(",")] == names
        codec = task.arguments[task.arguments.index("-c:v") :][:8]
        assert codec[:4] == trial[trial.index("-c:v") :][:4]


def test_jumps_beyond_what_memory_allows_are_made_in_parts_and_joined() -> None:
    # Backwards, so that every range needs an input of its own.
    ranges = [(10 * n, 10 * n + 3) for n in reversed(range(90))]
    *parts, join = commands(source(), plan(*ranges))
    assert [part.frame_count for part in parts] == [54] * 5
    assert join.frame_count == 0
    for number, part in enumerate(parts):
        assert part.arguments.count("-i") == 18
        assert part.output == FOLDER / f"part{number}.mp4"
        assert " -x264-params stitchable=1 " in " ".join(part.arguments)
        assert "-c:a pcm_f32le" in " ".join(part.arguments)
    assert list(join.arguments) == [
        *BEGINNING[:-1],
        *("-protocol_whitelist", "file", "-format_whitelist", f"concat,{MOV}"),
        *("-f", "concat", "-i", "/scratch/run_1/parts.ffconcat"),
        *("-map", "0:v:0", "-c:v", "copy"),
        *("-bsf:v", "setts=pts=PTS:dts=round((N-2)/(25)/TB)"),
        *(
            "-map",
            "0:a:0",
            "-filter:a",
            "asetpts=N/SR/TB,apad=whole_len=518400,atrim=end_sample=518400",
        ),
        *AAC[2:],
        *CLEAN,
        *MP4,
    ]
    assert join.scripts == {
        FOLDER / "parts.ffconcat": "ffconcat version 1.0\n"
        + "".join(f"file part{n}.mp4\nduration 2.160000\n" for n in range(5))
    }


def test_draft_to_be_levelled_keeps_its_sound_as_it_is() -> None:
    wanted = plan((0, 1000))
    wanted.loudness_lufs = -16
    (draft,) = commands(source(), wanted)
    draft_of = ["-f", "mp4", "/scratch/run_1/draft.mp4"]
    assert list(draft.arguments) == [
        *BEGINNING,
        *one_input(MOV, 3),
        *(word.replace("output", "draft") for word in (*GRAPHS, *AUDIO_GRAPH)),
        *("-map", "[v]"),
        *X264,
        *("-threads:v", "3"),
        *COUNTED,
        *("-map", "[a]", "-c:a", "pcm_f32le"),
        *CLEAN,
        *draft_of,
    ]
    assert (draft.output, draft.frame_count) == (FOLDER / "draft.mp4", 1000)
    ranges = [(10 * n, 10 * n + 3) for n in reversed(range(90))]
    jumping = plan(*ranges)
    jumping.loudness_lufs = -16
    *_, join = commands(source(), jumping)
    assert list(join.arguments)[-2 - len(CLEAN) - 3 :] == ["-c:a", "pcm_f32le", *CLEAN, *draft_of]


def test_draft_of_a_soundtrack_is_levelled_too() -> None:
    track = task_pb2.Soundtrack(
        info=source(),
        frame_rate=pb.Rational(numerator=25, denominator=1),
        spans=[task_pb2.FrameSpan(start_frame=0, end_frame=25)],
        loudness_lufs=-23,
    )
    (draft,) = audio_commands(site=SITE, soundtrack=track)
    assert list(draft.arguments)[-3 - len(CLEAN) - 4 :] == [
        *("-map", "[a]", "-c:a", "pcm_f32le"),
        *CLEAN,
        *("-f", "mp4", "/scratch/run_1/draft.mp4"),
    ]


def test_sound_of_a_pair_and_of_an_odd_layout() -> None:
    info = source()
    info.audio.CopyFrom(pb.AudioStream(index=4, channels=10, channel_layout="5.1.4"))
    (command,) = commands(info, plan((0, 10)))
    [_, graph] = command.scripts.values()
    assert graph.startswith("[0:4]atrim=0.000000:0.400000,asetpts=PTS-(0.000000)/TB,pan=stereo|c0=")
    info.audio.CopyFrom(pb.AudioStream(index=4, channels=1, channel_layout=RIGHT))
    info.audio_streams.append(info.audio)
    info.audio_streams.add(index=2, channels=1, channel_layout=LEFT)
    (command,) = commands(info, plan((0, 10)))
    [_, graph] = command.scripts.values()
    assert graph.startswith("[0:2]atrim=")
    assert ";\n[0:4]atrim=" in graph
    assert "pan=" not in graph


def test_thousand_neighbours_are_few_inputs() -> None:
    ranges = [(20 * n, 20 * n + 7) for n in range(1000)]
    info = source()
    info.video.frame_count = 20_000
    (command,) = commands(info, plan(*ranges))
    assert command.arguments.count("-i") == 16
    assert max(len(argument) for argument in command.arguments) < 1000


def test_nothing_of_the_source_is_in_the_arguments_but_the_gateway_url() -> None:
    (command,) = commands(source(), plan((0, 10), (500, 510)))
    urls = [argument for argument in command.arguments if "://" in argument]
    assert urls == [URL, URL]
