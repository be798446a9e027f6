"""Creating exports: idempotency and quotas, on one replica and on two."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from api_parts import until
from api_rig import INFO, PLAN, SOURCE, Case, Rig

from services.api.states import ExportState
from services.api.store.admission import BUSY_RETRY_AFTER
from services.api.store.records import Quotas, Submission
from services.common.errors import DomainError, Reason
from videoexport.v1 import export_pb2 as pb


def quotas(*, hour: int = 0, running: int = 0, queue: int = 0) -> Quotas:
    return Quotas(exports_per_hour=hour, running_per_user=running, queue_limit=queue)


async def refusal(creation: object) -> DomainError:
    with pytest.raises(DomainError) as raised:
        await creation  # type: ignore[misc]
    return raised.value


async def count(rig: Rig, table: str) -> int:
    return int(await rig.value(f"SELECT count(*) FROM {table}"))


async def test_created_export_is_stored_with_its_task(rig: Rig) -> None:
    segments = [pb.Segment(), pb.Segment()]
    case = await rig.create(priority=7, segments=segments, request_id="r")
    record = await case.now()
    assert record == case.record
    assert (record.state, record.phase, record.progress) == (ExportState.QUEUED, "WAITING", 0)
    assert (record.source, record.source_etag) == (SOURCE, "etag")
    assert (record.plan, list(record.segments), record.priority) == (PLAN, segments, 7)
    assert (record.started_at, record.ended_at, record.expires_at) == (None, None, None)
    task = await case.task_row()
    assert (task["state"], task["attempt"], task["priority"]) == ("PENDING", 0, 7)
    assert (task["frames"], task["message"]) == (100, case.task.message)


async def test_created_export_that_is_refused_leaves_nothing(rig: Rig) -> None:
    await rig.create(quotas=quotas(running=1))
    await refusal(rig.create(quotas=quotas(running=1)))
    assert [await count(rig, name) for name in ("exports", "tasks", "submissions")] == [1, 1, 1]


async def test_same_request_id_and_body_is_the_same_export(rig: Rig) -> None:
    first = await rig.create(request_id="r")
    again = await rig.create(request_id="r")
    assert again.record == first.record
    assert await count(rig, "exports") == await count(rig, "tasks") == 1


async def test_same_call_is_found_before_anything_is_planned(rig: Rig) -> None:
    case = await rig.create(request_id="r")
    assert await rig.exports.earlier("anna", Submission("r", b"body")) == case.record
    assert await rig.exports.earlier("anna", Submission("other", b"body")) is None
    assert await rig.exports.earlier("ben", Submission("r", b"body")) is None
    assert await rig.exports.earlier("anna", Submission(None, b"body")) is None


async def test_same_request_id_with_another_body_is_refused(rig: Rig) -> None:
    await rig.create(request_id="r")
    assert (await refusal(rig.create(request_id="r", body=b"x"))).reason is (
        Reason.REQUEST_ID_REUSED
    )
    error = await refusal(rig.exports.earlier("anna", Submission("r", b"x")))
    assert error.reason is Reason.REQUEST_ID_REUSED


async def test_request_ids_are_each_users_own(rig: Rig) -> None:
    first = await rig.create("anna", request_id="r")
    second = await rig.create("ben", request_id="r", body=b"x")
    assert first.id != second.id


async def test_calls_without_a_request_id_are_never_the_same(rig: Rig) -> None:
    assert (await rig.create()).id != (await rig.create()).id


async def test_concurrent_duplicates_on_two_replicas_make_one_export(
    rig: Rig, replica: Rig
) -> None:
    cases = await asyncio.gather(
        *(each.create(request_id="r") for _ in range(8) for each in (rig, replica))
    )
    assert len({case.id for case in cases}) == 1
    assert [await count(rig, name) for name in ("exports", "tasks", "submissions")] == [1, 1, 1]


@pytest.mark.parametrize("repeat", ["earlier", "create"])
async def test_repeated_call_counts_as_new_where_its_export_is_just_being_deleted(
    rig: Rig, repeat: str
) -> None:
    first = await rig.create(request_id="r")
    async with await psycopg.AsyncConnection.connect(rig.url) as deleting:
        # Its submission can still be read; its row is gone when it can be read again.
        await deleting.execute("LOCK TABLE exports")
        await deleting.execute("DELETE FROM exports")
        await deleting.execute("UPDATE submissions SET request_id = NULL")
        if repeat == "create":
            repeated: asyncio.Task[Any] = asyncio.create_task(rig.create(request_id="r"))
        else:
            call = rig.exports.earlier("anna", Submission("r", b"body"))
            repeated = asyncio.create_task(call)
        await until(lambda: _waits_for_exports(rig))
        await deleting.commit()
    found = await repeated
    assert found is None if repeat == "earlier" else found.id != first.id


async def _waits_for_exports(rig: Rig) -> bool:
    waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'exports'::regclass"
    return bool(await rig.value(waiting))


async def test_request_id_is_free_again_after_a_day(rig: Rig) -> None:
    first = await rig.create(request_id="r")
    await rig.sql("UPDATE submissions SET created_at = now() - interval '24 hours 1 second'")
    assert await rig.exports.earlier("anna", Submission("r", b"x")) is None
    second = await rig.create(request_id="r", body=b"x")
    assert second.id != first.id
    assert (await rig.create(request_id="r", body=b"x")).id == second.id


async def test_request_id_still_counts_shortly_before_a_day_is_over(rig: Rig) -> None:
    first = await rig.create(request_id="r")
    await rig.sql("UPDATE submissions SET created_at = now() - interval '23 hours 59 minutes'")
    assert (await rig.create(request_id="r")).id == first.id


async def test_request_id_of_a_deleted_export_is_free_again(rig: Rig) -> None:
    first = await rig.create(request_id="r")
    await rig.exports.delete(first.id, "anna")
    assert (await rig.create(request_id="r")).id != first.id


async def test_repeated_call_passes_quotas_that_are_full(rig: Rig) -> None:
    full = quotas(hour=1, running=1, queue=1)
    first = await rig.create(request_id="r", quotas=full)
    assert (await rig.create(request_id="r", quotas=full)).id == first.id


async def test_hourly_quota_says_when_the_oldest_has_aged(rig: Rig) -> None:
    for minutes in (50, 30, 10):
        await rig.create(quotas=quotas(hour=3))
        await rig.sql(
            "UPDATE submissions SET created_at = now() - %s"
            " WHERE id = (SELECT max(id) FROM submissions)",
            timedelta(minutes=minutes),
        )
    error = await refusal(rig.create(quotas=quotas(hour=3)))
    assert error.reason is Reason.HOURLY_QUOTA
    assert error.retry_after is not None
    assert timedelta(minutes=9.9) < error.retry_after <= timedelta(minutes=10)
    assert error.quota is not None
    assert error.quota.subject == "user:anna"
    assert "10 min" in error.message
    # With room for two only, the one of 30 minutes ago is in the way as well.
    error = await refusal(rig.create(quotas=quotas(hour=2)))
    assert error.retry_after is not None
    assert timedelta(minutes=29.9) < error.retry_after <= timedelta(minutes=30)


async def test_hourly_quota_has_room_again_after_that_time(rig: Rig) -> None:
    await rig.create(quotas=quotas(hour=1))
    await rig.sql("UPDATE submissions SET created_at = now() - interval '1 hour'")
    await rig.create(quotas=quotas(hour=1))


async def test_hourly_quota_counts_what_was_deleted_or_has_ended(rig: Rig) -> None:
    deleted = await rig.create(quotas=quotas(hour=2), request_id="r")
    await rig.exports.delete(deleted.id, "anna")
    ended = await rig.create(quotas=quotas(hour=2))
    await rig.exports.cancel(ended.id, "anna")
    error = await refusal(rig.create(quotas=quotas(hour=2)))
    assert error.reason is Reason.HOURLY_QUOTA


async def test_quotas_are_each_users_own(rig: Rig) -> None:
    await rig.create("anna", quotas=quotas(hour=1, running=1))
    await rig.create("ben", quotas=quotas(hour=1, running=1))


async def test_running_quota_counts_unfinished_exports_alone(rig: Rig) -> None:
    first = await rig.create(quotas=quotas(running=2))
    second = await rig.create(quotas=quotas(running=2))
    await first.begin()
    error = await refusal(rig.create(quotas=quotas(running=2)))
    assert (error.reason, error.retry_after) == (Reason.RUNNING_QUOTA, BUSY_RETRY_AFTER)
    assert error.quota is not None
    assert error.quota.subject == "user:anna"
    await rig.exports.cancel(second.id, "anna")
    await rig.create(quotas=quotas(running=2))


async def test_queue_limit_counts_the_exports_of_all(rig: Rig) -> None:
    await rig.create("anna", quotas=quotas(queue=2))
    last = await rig.create("ben", quotas=quotas(queue=2))
    error = await refusal(rig.create("cleo", quotas=quotas(queue=2)))
    assert (error.reason, error.retry_after) == (Reason.QUEUE_FULL, BUSY_RETRY_AFTER)
    assert error.quota is not None
    assert error.quota.subject == "cluster"
    await last.complete()
    await rig.create("cleo", quotas=quotas(queue=2))


@pytest.mark.parametrize("limits", [quotas(hour=3), quotas(running=3)])
async def test_quotas_are_exact_among_concurrent_calls_on_two_replicas(
    rig: Rig, replica: Rig, limits: Quotas
) -> None:
    results = await asyncio.gather(
        *(each.create(quotas=limits) for _ in range(6) for each in (rig, replica)),
        return_exceptions=True,
    )
    assert sum(isinstance(result, Case) for result in results) == 3
    assert sum(isinstance(result, DomainError) for result in results) == 9


async def test_queue_limit_is_exact_among_users_at_the_same_time_on_two_replicas(
    rig: Rig, replica: Rig
) -> None:
    results = await asyncio.gather(
        *(
            each.create(f"user-{number}", quotas=quotas(queue=3))
            for number, each in enumerate([rig, replica] * 6)
        ),
        return_exceptions=True,
    )
    refused = [error for error in results if isinstance(error, DomainError)]
    assert [error.reason for error in refused] == [Reason.QUEUE_FULL] * 9
    assert await rig.value("SELECT count(*) FROM exports") == 3


async def test_export_that_takes_long_to_store_holds_up_no_other_user(
    rig: Rig, replica: Rig
) -> None:
    async with await psycopg.AsyncConnection.connect(rig.url) as other:
        # Anna's is stored only once this has ended.
        await other.execute(
            "INSERT INTO submissions (user_id, export_id, request_id, body_hash)"
            " VALUES ('anna', 'exp_other', 'r', '')"
        )
        slow = asyncio.create_task(rig.create(request_id="r", quotas=quotas(queue=2)))
        await until(lambda: _waits(rig))
        async with asyncio.timeout(1):
            await replica.create("ben", quotas=quotas(queue=2))
        assert not slow.done()
        await other.rollback()
    await slow
    error = await refusal(rig.create("cleo", quotas=quotas(queue=2)))
    assert error.reason is Reason.QUEUE_FULL


async def _waits(rig: Rig) -> bool:
    query = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
    return bool(await rig.value(query))


async def test_running_quota_is_exact_among_concurrent_retries(rig: Rig, replica: Rig) -> None:
    cases = [await rig.create() for _ in range(6)]
    for number, case in enumerate(cases):
        await case.fail(f"run_{number}")
    async with await psycopg.AsyncConnection.connect(rig.url) as other:
        # Nobody gets past this, so that every retry has counted what runs by then.
        await other.execute("SELECT 1 FROM tasks FOR UPDATE")
        retries = [
            asyncio.create_task(each.exports.retry(case.id, "anna", quotas(running=3)))
            for case, each in zip(cases, [rig, replica] * 3, strict=True)
        ]
        await asyncio.sleep(0.3)
        await other.commit()
    results = await asyncio.gather(*retries, return_exceptions=True)
    refused = [error for error in results if isinstance(error, DomainError)]
    assert [error.reason for error in refused] == [Reason.RUNNING_QUOTA] * 3


async def test_zero_is_no_limit(rig: Rig) -> None:
    for _ in range(7):
        await rig.create(quotas=quotas())


async def test_probed_source_is_found_by_its_version(rig: Rig) -> None:
    await rig.tasks.keep_probe("video:anna/v", INFO)
    assert await rig.tasks.find_probe("video:anna/v", "etag") == INFO
    assert await rig.tasks.find_probe("video:anna/v", "other") is None
    assert await rig.tasks.find_probe("video:ben/v", "etag") is None


async def test_what_an_encoder_of_before_says_replaces_no_more_than_its_like_has_said(
    rig: Rig,
) -> None:
    tells_all = pb.SourceInfo(metadata=pb.SourceMetadata())
    tells_all.MergeFrom(INFO)
    otherwise = pb.SourceInfo(container="matroska,webm")
    otherwise.MergeFrom(pb.SourceInfo(etag=INFO.etag))
    for known in (INFO, otherwise, tells_all):
        await rig.tasks.keep_probe("video:anna/v", known)
        assert await rig.tasks.find_probe("video:anna/v", "etag") == known
    await rig.tasks.keep_probe("video:anna/v", INFO)
    assert await rig.tasks.find_probe("video:anna/v", "etag") == tells_all
