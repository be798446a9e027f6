"""The service as callers meet it: an export's life, watches, what it says of itself."""

from __future__ import annotations

import asyncio
import time
from typing import Any
from unittest.mock import Mock
from urllib.parse import urlsplit

import aiohttp
import pytest
from api_parts import until
from api_rig import OUTPUT, Rig
from api_service import (
    ANNA,
    BEN,
    SERVING,
    Api,
    FakeEncoder,
    Surroundings,
    api_running,
    create,
    get,
    is_state,
    lists,
    not_empty,
    refusal,
    watched,
)
from google.protobuf.duration_pb2 import Duration
from grpc import StatusCode
from grpc.aio import AioRpcError
from grpc_reflection.v1alpha import reflection_pb2

from services.api import planning
from services.common.content_key import RECIPE_VERSION
from services.common.planner import MAX_SEGMENTS
from services.common.smart_copy import plan_with_copies
from services.common.subjects import Lane
from services.common.version import VERSION
from videoexport.v1 import export_pb2 as pb
from videoexport.v1 import export_service_pb2 as service
from videoexport.v1 import storage_service_pb2 as storage
from videoexport.v1 import task_pb2

# An export's life


async def test_life_of_an_export(api: Api, encoder: FakeEncoder) -> None:
    export = await create(api, await encoder.video())
    assert (export.state, export.user_id) == (pb.EXPORT_STATE_QUEUED, "anna")
    assert not export.HasField("plan")
    seen: list[pb.Export] = []
    watching = asyncio.create_task(watched(api, export.id, seen))
    await encoder.probe()
    task = await encoder.take(Lane.CPU)
    assert task.whole.plan.frame_count == 100
    await encoder.encode(task, b"the finished file")
    await asyncio.wait_for(watching, 10)

    done = seen[-1]
    assert done.state == pb.EXPORT_STATE_COMPLETED
    assert (done.progress, done.output.frame_count) == (100, 100)
    assert done.plan == task.whole.plan
    lifetime = done.output.download_url_expire_time.ToSeconds() - time.time()
    assert 3500 < lifetime <= 3600
    assert await encoder.get(done.output.download_url) == (200, b"the finished file")
    progress = [item.progress for item in seen]
    assert progress == sorted(progress)
    states = [item.state for item in seen]
    assert states == sorted(states)

    request = service.DeleteExportRequest(export_id=export.id)
    await api.exports.DeleteExport(request, metadata=ANNA)
    refused = await refusal(api.exports.DeleteExport(request, metadata=ANNA))
    assert refused.reason == "EXPORT_NOT_FOUND"
    await until(lambda: _is_gone(encoder, done.output.download_url))


async def _is_gone(encoder: FakeEncoder, url: str) -> bool:
    return (await encoder.get(url))[0] == 404


async def test_file_of_an_expired_export_is_gone_from_storage(
    api: Api, rig: Rig, encoder: FakeEncoder
) -> None:
    kept, expired = [await create(api, await encoder.probed_video(rig)) for _ in range(2)]
    for _ in range(2):
        await encoder.encode(await encoder.take(Lane.CPU), b"a finished file")
    urls = {}
    for export in (kept, expired):
        await until(lambda: is_state(api, export.id, pb.EXPORT_STATE_COMPLETED))  # noqa: B023
        urls[export.id] = (await get(api, export.id)).output.download_url
        assert await encoder.get(urls[export.id]) == (200, b"a finished file")
    await rig.sql("UPDATE exports SET expires_at = now() WHERE id = %s", expired.id)
    await until(lambda: _is_gone(encoder, urls[expired.id]))
    after = await get(api, expired.id)
    assert (after.state, after.output.download_url) == (pb.EXPORT_STATE_EXPIRED, "")
    assert (await encoder.get(urls[kept.id]))[0] == 200


async def test_download_url_is_minted_at_each_read_and_names_the_file(
    api: Api, encoder: FakeEncoder
) -> None:
    export = await create(api, await encoder.video())
    await encoder.probe()
    await encoder.encode(await encoder.take(Lane.CPU), b"x")
    await until(lambda: is_state(api, export.id, pb.EXPORT_STATE_COMPLETED))
    urls = [(await get(api, export.id)).output.download_url for _ in range(2)]
    for url in urls:
        assert (await encoder.get(url))[0] == 200
        assert f"{export.id}.mp4" in urlsplit(url).query
    page = await api.exports.ListExports(service.ListExportsRequest(), metadata=ANNA)
    assert page.exports[0].output.sha256 == "0" * 64
    assert page.exports[0].output.download_url == ""


@pytest.mark.parametrize("end", ["deleted", "expired"])
async def test_stills_are_told_with_the_output_and_go_with_it(
    api: Api, rig: Rig, encoder: FakeEncoder, end: str
) -> None:
    export = await create(api, await encoder.probed_video(rig))
    output = pb.Output(poster=pb.Poster(size_bytes=1), sprites=pb.Sprites(sheet_count=2))
    output.MergeFrom(OUTPUT)
    await encoder.encode(await encoder.take(Lane.CPU), b"file ", output)
    await until(lambda: is_state(api, export.id, pb.EXPORT_STATE_COMPLETED))
    done = (await get(api, export.id)).output
    urls = {
        "": done.download_url,
        "poster.jpg": done.poster.download_url,
        "sprites.vtt": done.sprites.vtt_url,
        "sprites-1.jpg": done.sprites.sheet_urls[0],
        "sprites-2.jpg": done.sprites.sheet_urls[1],
    }
    for name, url in urls.items():
        assert await encoder.get(url) == (200, b"file " + name.encode())
    page = await api.exports.ListExports(service.ListExportsRequest(), metadata=ANNA)
    assert page.exports[0].output.sprites.sheet_count == 2
    assert not page.exports[0].output.sprites.sheet_urls
    if end == "deleted":
        request = service.DeleteExportRequest(export_id=export.id)
        await api.exports.DeleteExport(request, metadata=ANNA)
    else:
        await rig.sql("UPDATE exports SET expires_at = now() WHERE id = %s", export.id)
    for url in urls.values():
        await until(lambda: _is_gone(encoder, url))  # noqa: B023
    if end == "expired":
        after = (await get(api, export.id)).output
        assert (after.poster.download_url, len(after.sprites.sheet_urls)) == ("", 0)


async def test_source_that_was_examined_before_is_planned_at_once(
    api: Api, rig: Rig, encoder: FakeEncoder
) -> None:
    export = await create(api, await encoder.probed_video(rig))
    assert export.plan.frame_count == 100
    task = await encoder.take(Lane.CPU)
    assert task.export_id == export.id


async def test_second_export_of_a_video_needs_no_second_probe(
    api: Api, encoder: FakeEncoder
) -> None:
    video = await encoder.video()
    first = await create(api, video)
    await encoder.probe()
    await until(lambda: _has_plan(api, first.id))
    second = await create(api, video)
    assert second.HasField("plan")


async def test_source_is_examined_again_once_an_encoder_is_live_that_tells_more(
    api: Api, rig: Rig, encoder: FakeEncoder
) -> None:
    video = await encoder.probed_video(rig)
    # One of before would say the same again, each time that it is asked.
    await encoder.heartbeat(pb.Encoder(id="of-before", probe_slots=1, recipe_version=1))
    await until(lambda: lists(api, "of-before"))
    assert (await create(api, video)).HasField("plan")
    newer = pb.Encoder(id="newer", probe_slots=1, recipe_version=RECIPE_VERSION)
    await encoder.heartbeat(newer)
    await until(lambda: lists(api, "newer"))
    again = await create(api, video)
    assert not again.HasField("plan")
    # Whoever takes it: that one of before was asked ends nothing.
    await encoder.probe()
    await until(lambda: _has_plan(api, again.id))
    tells_all = pb.SourceInfo(metadata=pb.SourceMetadata())
    known = await encoder.probed_video(rig, told=tells_all)
    assert (await create(api, known)).HasField("plan")
    # The tests after this one are asked nothing again.
    await encoder.heartbeat(pb.Encoder(id="newer", draining=True))
    await until(lambda: _drains(api, "newer"))


async def _drains(api: Api, encoder_id: str) -> bool:
    answer = await api.exports.ListEncoders(service.ListEncodersRequest())
    return any(item.id == encoder_id and item.draining for item in answer.encoders)


async def _has_plan(api: Api, export_id: str) -> bool:
    return (await get(api, export_id)).HasField("plan")


async def test_plan_is_made_once_and_estimates_with_the_speed_that_was_measured(
    api: Api, rig: Rig, encoder: FakeEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A thousand segments take a tenth of a second of the event loop.
    plan_once = Mock(wraps=plan_with_copies)
    monkeypatch.setattr(planning, "plan_with_copies", plan_once)
    video = await encoder.probed_video(rig)
    request = service.CreateExportRequest(source=pb.Source(video_id=video), validate_only=True)
    await rig.sql(
        "INSERT INTO encode_speeds (family, resolution, quality, frames_per_second, samples)"
        " VALUES ('ENCODER_FAMILY_CPU', 'RESOLUTION_720P', 'QUALITY_MEDIUM', 10, 1)"
    )
    answer = await api.exports.CreateExport(request, metadata=ANNA)
    assert answer.plan.estimated_processing_time == Duration(seconds=11)
    plan_once.assert_called_once()


async def test_concurrent_calls_with_one_request_id_make_one_export(
    api: Api, rig: Rig, encoder: FakeEncoder
) -> None:
    video = await encoder.probed_video(rig)
    before = await accepted(api)
    made = await asyncio.gather(*(create(api, video, "r") for _ in range(10)))
    assert len({export.id for export in made}) == 1
    assert await rig.value("SELECT count(*) FROM tasks") == 1
    assert await accepted(api) == before + 1


async def accepted(api: Api) -> float:
    """Return how many planned exports the service has counted."""
    name = 'videoexport_exports_accepted_total{quality="medium",resolution="720p"} '
    found = [line for line in (await scrape(api)).splitlines() if line.startswith(name)]
    return float(found[0].removeprefix(name)) if found else 0.0


async def test_repeated_call_gets_its_export_although_the_source_is_gone(
    api: Api, encoder: FakeEncoder
) -> None:
    video = await encoder.video()
    first = await create(api, video, "r")
    await encoder.delete("anna", storage.ObjectRef(source=pb.Source(video_id=video)))
    assert (await create(api, video, "r")).id == first.id
    new = service.CreateExportRequest(source=pb.Source(video_id=video), request_id="other")
    refused = await refusal(api.exports.CreateExport(new, metadata=ANNA))
    assert refused.reason == "SOURCE_NOT_FOUND"


async def test_failed_export_is_tried_again_by_its_owner(
    api: Api, rig: Rig, encoder: FakeEncoder
) -> None:
    export = await create(api, await encoder.probed_video(rig))
    task = await encoder.take(Lane.CPU)
    await encoder.begin(task, "run_bad")
    await rig.sql("UPDATE tasks SET failures = 3")
    failed = task_pb2.TaskFailed(code="ENCODER_FAILED", message="Broken pipe.")
    await encoder.say(task, "run_bad", failed=failed)
    await until(lambda: is_state(api, export.id, pb.EXPORT_STATE_FAILED))
    request = service.RetryExportRequest(export_id=export.id)
    answer = await api.exports.RetryExport(request, metadata=ANNA)
    assert answer.export.state == pb.EXPORT_STATE_QUEUED
    assert not answer.export.HasField("error")
    again = await encoder.take(Lane.CPU)
    assert (again.task_id, again.attempt) == (task.task_id, 2)
    await encoder.encode(again, b"y")
    await until(lambda: is_state(api, export.id, pb.EXPORT_STATE_COMPLETED))


async def test_cancelled_export_stops_its_run_and_stays_cancelled(
    api: Api, rig: Rig, encoder: FakeEncoder
) -> None:
    export = await create(api, await encoder.probed_video(rig))
    task = await encoder.take(Lane.CPU)
    await encoder.begin(task, "run_1")
    await until(lambda: is_state(api, export.id, pb.EXPORT_STATE_PROCESSING))
    seen: list[pb.Export] = []
    watching = asyncio.create_task(watched(api, export.id, seen))
    request = service.CancelExportRequest(export_id=export.id)
    for _ in range(2):
        answer = await api.exports.CancelExport(request, metadata=ANNA)
        assert answer.export.state == pb.EXPORT_STATE_CANCELLED
    await asyncio.wait_for(watching, 5)
    assert seen[-1].state == pb.EXPORT_STATE_CANCELLED
    late = await encoder.encode(task, b"too late")
    await until(lambda: _was_deleted(rig, late))
    assert await is_state(api, export.id, pb.EXPORT_STATE_CANCELLED)


async def _was_deleted(rig: Rig, run: str) -> bool:
    return ("anna", run) in await rig.deletions()


@pytest.mark.parametrize("count", [5, 6])
async def test_pages_follow_each_other(api: Api, rig: Rig, count: int) -> None:
    made = [(await rig.create()).id for _ in range(count)]
    found: list[str] = []
    token = ""
    for _ in range(3):
        request = service.ListExportsRequest(page_size=2, page_token=token)
        page = await api.exports.ListExports(request, metadata=ANNA)
        assert page.total_size == count
        found += [export.id for export in page.exports]
        token = page.next_page_token
    assert found == made[::-1]
    assert token == ""


# Watching


async def test_watchers_on_two_replicas_see_the_same(
    around: Surroundings, rig: Rig, encoder: FakeEncoder
) -> None:
    async with api_running(around) as one, api_running(around) as other:
        for each in (one, other):
            await each.until(SERVING)
        export = await create(one, await encoder.probed_video(rig))
        seen: tuple[list[pb.Export], list[pb.Export]] = ([], [])
        watching = [
            asyncio.create_task(watched(each, export.id, into))
            for each, into in zip((one, other), seen, strict=True)
        ]
        task = await encoder.take(Lane.CPU)
        await encoder.begin(task, "run_1")
        for frames in (20, 50, 80):
            await encoder.progress(task, "run_1", frames)
            await until(lambda: _both_at(seen, frames * 0.99))  # noqa: B023
        await encoder.encode(task, b"z")
        await asyncio.wait_for(asyncio.gather(*watching), 10)
    for watcher in seen:
        progress = [item.progress for item in watcher]
        assert progress == sorted(progress)
        running = [item for item in watcher if item.HasField("encode_status")]
        assert {item.encode_status.encoder_id for item in running} == {"encoder-1"}
        assert watcher[-1].state == pb.EXPORT_STATE_COMPLETED
    assert seen[0][-1].output.sha256 == seen[1][-1].output.sha256


async def _both_at(seen: tuple[list[pb.Export], list[pb.Export]], progress: float) -> bool:
    return all(watcher and watcher[-1].progress >= progress for watcher in seen)


async def test_watch_of_a_deleted_export_ends_with_not_found(api: Api, rig: Rig) -> None:
    case = await rig.create()
    request = service.WatchExportRequest(export_id=case.id)
    stream = api.exports.WatchExport(request, metadata=ANNA)
    first = await stream.read()
    assert isinstance(first, service.WatchExportResponse)
    await api.exports.DeleteExport(service.DeleteExportRequest(export_id=case.id), metadata=ANNA)
    refused = await refusal(stream.read())
    assert (refused.code, refused.reason) == (StatusCode.NOT_FOUND, "EXPORT_NOT_FOUND")


async def test_watcher_that_leaves_is_no_longer_counted(api: Api, rig: Rig) -> None:
    case = await rig.create()
    stream = api.exports.WatchExport(service.WatchExportRequest(export_id=case.id), metadata=ANNA)
    await stream.read()
    await until(lambda: _has_watchers(api, 1))
    stream.cancel()
    await until(lambda: _has_watchers(api, 0))


async def _has_watchers(api: Api, count: int) -> bool:
    return f"videoexport_watch_streams {float(count)}" in await scrape(api)


async def test_stop_ends_watches_and_says_why(around: Surroundings, rig: Rig) -> None:
    case = await rig.create()
    seen: list[pb.Export] = []
    async with api_running(around, drain_seconds=10) as leaving:
        await leaving.until(SERVING)
        watching = asyncio.create_task(watched(leaving, case.id, seen))
        await until(lambda: not_empty(seen))
        started = time.monotonic()
        await leaving.stop()
        # Without having waited for the grace to run out.
        assert time.monotonic() - started < 5
        refused = await refusal(watching)
        assert (refused.code, refused.reason) == (StatusCode.UNAVAILABLE, "DRAINING")


# What it is


async def test_service_tells_clients_what_they_need(api: Api, around: Surroundings) -> None:
    info = await api.exports.GetServiceInfo(service.GetServiceInfoRequest())
    assert info == service.GetServiceInfoResponse(
        version=VERSION,
        storage_address=around.storage.address,
        max_segments=MAX_SEGMENTS,
        source_buckets=["rushes"],
    )


async def test_storage_is_named_as_clients_see_it(around: Surroundings) -> None:
    async with api_running(around, public_storage_address="storage.example:443") as api:
        await api.until(SERVING)
        info = await api.exports.GetServiceInfo(service.GetServiceInfoRequest())
    assert info.storage_address == "storage.example:443"


async def test_live_encoders_are_listed(api: Api, encoder: FakeEncoder) -> None:
    heard = pb.Encoder(id="encoder-9", address="127.0.0.1:1", ffmpeg_version="n9.0.2")
    await encoder.heartbeat(heard)
    await until(lambda: lists(api, "encoder-9"))
    answer = await api.exports.ListEncoders(service.ListEncodersRequest())
    [found] = [item for item in answer.encoders if item.id == "encoder-9"]
    assert found.ffmpeg_version == "n9.0.2"
    assert abs(found.last_seen_time.ToSeconds() - time.time()) < 5


async def test_reflection_lists_the_services(api: Api) -> None:
    ask = api.channel.stream_stream(
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
        request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
        response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
    )
    requests = [reflection_pb2.ServerReflectionRequest(list_services="")]
    answers: list[Any] = [item async for item in ask(iter(requests))]
    [answer] = answers
    names = {item.name for item in answer.list_services_response.service}
    assert names == {
        "videoexport.v1.ExportService",
        "grpc.health.v1.Health",
        "grpc.reflection.v1alpha.ServerReflection",
    }


async def test_unknown_method_is_unimplemented(api: Api) -> None:
    call: Any = api.channel.unary_unary("/videoexport.v1.ExportService/Fly")
    with pytest.raises(AioRpcError) as raised:
        await call(b"")
    assert raised.value.code() is StatusCode.UNIMPLEMENTED


async def scrape(api: Api) -> str:
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://{api.metrics_address}/metrics") as response,
    ):
        return await response.text()


async def test_calls_are_counted_by_method_and_code(api: Api, rig: Rig) -> None:
    case = await rig.create()
    await get(api, case.id)
    with pytest.raises(AioRpcError):
        await api.exports.GetExport(service.GetExportRequest(export_id=case.id), metadata=BEN)
    text = await scrape(api)
    for code in ("OK", "NOT_FOUND"):
        line = f'videoexport_rpc_total{{code="{code}",method="GetExport",service="ExportService"}}'
        assert line in text
    assert 'videoexport_rpc_errors_total{reason="EXPORT_NOT_FOUND"}' in text
    assert 'method="Fly"' not in text


# History


async def test_history_is_told_where_it_is_asked_for_and_nowhere_else(
    api: Api, encoder: FakeEncoder, rig: Rig
) -> None:
    export_id = (await create(api, await encoder.probed_video(rig))).id
    run_id = await encoder.encode(await encoder.take(Lane.CPU), b"the output")
    await until(lambda: is_state(api, export_id, pb.EXPORT_STATE_COMPLETED))
    request = service.GetExportRequest(export_id=export_id, include_history=True)
    export = (await api.exports.GetExport(request, metadata=ANNA)).export
    assert export.output.download_url
    assert export.history_omitted_count == 0
    changes = list(export.history)
    assert [change.WhichOneof("change") for change in changes].count("export") == 3
    created, *_, completed = changes
    assert created.export == pb.ExportStateChange(to_state=pb.EXPORT_STATE_QUEUED)
    assert (created.actor, created.reason, created.run_id) == ("user:anna", "CREATED", "")
    assert completed.export == pb.ExportStateChange(
        from_state=pb.EXPORT_STATE_PROCESSING, to_state=pb.EXPORT_STATE_COMPLETED
    )
    assert (completed.actor, completed.reason) == ("encoder:encoder-1", "DONE")
    assert completed.run_id == run_id
    times = [change.change_time.ToNanoseconds() for change in changes]
    assert times == sorted(times)
    assert times[0] >= export.create_time.ToNanoseconds()
    sent = next(change for change in changes if change.reason == "SENT")
    assert (sent.task.kind, sent.task.attempt) == (pb.TASK_KIND_WHOLE, 1)
    assert (sent.task.from_state, sent.task.to_state) == (
        pb.TASK_STATE_PENDING,
        pb.TASK_STATE_DISPATCHED,
    )

    listed = await api.exports.ListExports(service.ListExportsRequest(), metadata=ANNA)
    seen: list[pb.Export] = []
    await watched(api, export_id, seen)
    for other in (await get(api, export_id), *listed.exports, *seen):
        assert other.id == export_id
        assert not other.history
    assert (await refusal(api.exports.GetExport(request, metadata=BEN))).reason == (
        "EXPORT_NOT_FOUND"
    )
