"""The tables. Every index names the query it serves."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Double,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

metadata = MetaData(
    naming_convention={
        "pk": "%(table_name)s_pkey",
        "ix": "%(table_name)s_%(column_0_N_name)s_idx",
        "fk": "%(table_name)s_%(column_0_N_name)s_fkey",
    }
)


def _time(name: str, *, required: bool = False) -> Column[object]:
    return Column(
        name,
        DateTime(timezone=True),
        nullable=not required,
        server_default=func.now() if required else None,
    )


exports = Table(
    "exports",
    metadata,
    Column("id", Text, primary_key=True),
    Column("user_id", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("phase", Text, nullable=False),
    Column("progress", Double, nullable=False, server_default="0"),
    Column("priority", SmallInteger, nullable=False, server_default="0"),
    # The source as requested, and the version that was found: messages of the
    # contract as JSON, so that an operator can read a row.
    Column("source", JSONB, nullable=False),
    Column("video_id", Text),
    Column("source_etag", Text, nullable=False),
    Column("source_size_bytes", BigInteger, nullable=False),
    Column("segments", JSONB, nullable=False),
    Column("settings", JSONB, nullable=False),
    Column("plan", JSONB),
    Column("output", JSONB),
    Column("output_run_id", Text),
    # What the output is, and is made with: equal exports of one owner have equal ones.
    Column("fingerprint", LargeBinary),
    # Of the pictures; what earlier exports have left is not counted.
    Column("frames_to_encode", BigInteger, nullable=False, server_default="0"),
    Column("frames_encoded", BigInteger, nullable=False, server_default="0"),
    # How often its tasks were replaced by others, because they could not go on as planned,
    # and how often its parts were made anew because they did not join.
    Column("replans", SmallInteger, nullable=False, server_default="0"),
    Column("generation", SmallInteger, nullable=False, server_default="0"),
    Column("error", JSONB),
    Column("warnings", JSONB, nullable=False, server_default=text("'[]'")),
    _time("created_at", required=True),
    _time("started_at"),
    _time("ended_at"),
    _time("expires_at"),
    _time("updated_at", required=True),
    # ListExports: one user's, newest first, with and without each filter.
    Index("exports_list_idx", "user_id", "created_at", "id"),
    Index("exports_list_video_idx", "user_id", "video_id", "created_at", "id"),
    Index("exports_list_state_idx", "user_id", "state", "created_at", "id"),
    # Quotas and forecasts: unfinished exports of a user, and of all.
    Index(
        "exports_active_idx",
        "user_id",
        postgresql_where=text("state IN ('QUEUED', 'PROCESSING')"),
    ),
    # Retention.
    Index("exports_expiry_idx", "expires_at", postgresql_where=text("state = 'COMPLETED'")),
    # An identical finished export.
    Index(
        "exports_finished_idx",
        "user_id",
        "fingerprint",
        postgresql_where=text("state = 'COMPLETED'"),
    ),
)

tasks = Table(
    "tasks",
    metadata,
    Column("id", Text, primary_key=True),
    Column("export_id", Text, ForeignKey("exports.id", ondelete="CASCADE"), nullable=False),
    Column("user_id", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("lane", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("priority", SmallInteger, nullable=False),
    # videoexport.v1.Task without its attempt, as it will travel.
    Column("message", LargeBinary, nullable=False),
    # Rises with every message sent; an event of an older attempt is stale.
    Column("attempt", Integer, nullable=False, server_default="0"),
    Column("failures", Integer, nullable=False, server_default="0"),
    # How much work it is, in frames of a video encode; for one, its frames.
    Column("frames", BigInteger, nullable=False, server_default="0"),
    Column("frames_done", BigInteger, nullable=False, server_default="0"),
    # Content key of the part that it makes, and whether another export had made that already.
    Column("part_key", LargeBinary),
    Column("reused", Boolean, nullable=False, server_default="false"),
    # The export's: tasks that replace others keep their place in the queue.
    _time("created_at", required=True),
    _time("not_before", required=True),
    _time("dispatched_at"),
    # The last sign of life of a run.
    _time("seen_at"),
    _time("ended_at"),
    # An export's tasks.
    Index("tasks_export_idx", "export_id"),
    # Dispatch: the next tasks of a user.
    Index(
        "tasks_due_idx",
        "lane",
        "user_id",
        text("priority DESC"),
        "created_at",
        text("frames DESC"),
        "id",
        postgresql_where=text("state = 'PENDING'"),
    ),
    # Dispatch and forecasts: when a user was served last.
    Index("tasks_served_idx", "user_id", "lane", "ended_at"),
    # Dispatch: what is in flight in a lane, by user. Reconciler: what may be lost, what
    # may move to another lane. Metrics: depth and age.
    Index(
        "tasks_active_idx",
        "lane",
        "state",
        "user_id",
        "created_at",
        postgresql_where=text("state IN ('PENDING', 'DISPATCHED', 'RUNNING')"),
    ),
)

# One execution of a task on an encoder. Stored before the run writes anything,
# so that every object a run may have left is known.
runs = Table(
    "runs",
    metadata,
    Column("id", Text, primary_key=True),
    Column("task_id", Text, ForeignKey("tasks.id", ondelete="CASCADE"), nullable=False),
    Column("attempt", Integer, nullable=False),
    # How often JetStream had delivered the attempt; 0 while only its end is known.
    Column("delivery", Integer, nullable=False),
    Column("encoder_id", Text, nullable=False),
    Column("outcome", Text),
    Column("error", JSONB),
    _time("started_at", required=True),
    _time("ended_at"),
    Index("runs_task_idx", "task_id"),
)

# Every change of state of exports and tasks, in order of `id`: written by triggers alone
# (migration 0006), so that nothing that changes a state can forget it. No foreign key: it would
# lock the export's row for each entry, and whoever sends tasks out holds the tasks that a
# cancellation, which holds the export, waits for. A trigger deletes it with its export.
state_changes = Table(
    "state_changes",
    metadata,
    Column("export_id", Text, primary_key=True),
    Column("id", BigInteger, Identity(), primary_key=True),
    # None for the export itself. It outlives the task, which another plan may have replaced.
    Column("task_id", Text),
    Column("kind", Text),
    Column("from_state", Text),
    Column("to_state", Text, nullable=False),
    Column("attempt", Integer),
    # Who and why, as the transaction has said; None by a replica of before it was asked to.
    Column("actor", Text),
    Column("reason", Text),
    Column("detail", Text),
    # The run whose word has led to it.
    Column("run_id", Text),
    # Not when the transaction began: it may have waited for the one before it.
    Column(
        "changed_at",
        DateTime(timezone=True),
        nullable=False,
        server_default=text("clock_timestamp()"),
    ),
)

# Accepted CreateExport calls of the last day: the hourly quota counts them (a
# deleted export still counts), and request ids are looked up in them.
submissions = Table(
    "submissions",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("user_id", Text, nullable=False),
    Column("export_id", Text, nullable=False),
    Column("request_id", Text),
    Column("body_hash", LargeBinary, nullable=False),
    _time("created_at", required=True),
    Index("submissions_user_idx", "user_id", "created_at"),
    Index("submissions_age_idx", "created_at"),
    Index("submissions_export_idx", "export_id"),
    Index(
        "submissions_request_idx",
        "user_id",
        "request_id",
        unique=True,
        postgresql_where=text("request_id IS NOT NULL"),
    ),
)

# What is known of sources, by their version: planning needs no second probe.
probes = Table(
    "probes",
    metadata,
    Column("source_key", Text, primary_key=True),
    Column("etag", Text, primary_key=True),
    Column("info", JSONB, nullable=False),
    _time("created_at", required=True),
    Index("probes_age_idx", "created_at"),
)

# Parts of exports that lie in storage, by their content: no task makes them again.
cached_parts = Table(
    "cached_parts",
    metadata,
    Column("user_id", Text, primary_key=True),
    Column("key", LargeBinary, primary_key=True),
    # The export that made it; what others save by it counts as reused.
    Column("export_id", Text, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    # When it was written, or written onto itself: its age for storage's lifecycle rule.
    _time("stored_at", required=True),
    # Whether it was used since and is to be written onto itself.
    Column("renew", Boolean, nullable=False, server_default="false"),
    Index("cached_parts_age_idx", "stored_at"),
    Index("cached_parts_renew_idx", "stored_at", postgresql_where=text("renew")),
)

# Objects to delete: written in the transaction that makes them garbage,
# carried out by the reconciler.
object_deletions = Table(
    "object_deletions",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("user_id", Text, nullable=False),
    Column("object", JSONB, nullable=False),
    Column("attempts", Integer, nullable=False, server_default="0"),
    _time("not_before", required=True),
    Index("object_deletions_due_idx", "not_before"),
)

# videoexport.v1.ExportEnded, still to be published for other services: written in the
# transaction of the end, so that it outlives the export. The key is the order of sending.
announcements = Table(
    "announcements",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("message", JSONB, nullable=False),
)

# What finished encodes of a slot have taken, as moving averages.
encode_speeds = Table(
    "encode_speeds",
    metadata,
    Column("family", Text, primary_key=True),
    Column("resolution", Text, primary_key=True),
    Column("quality", Text, primary_key=True),
    Column("frames_per_second", Double, nullable=False),
    # Of a run, beside its encoding: to read, check and store.
    Column("overhead_seconds", Double, nullable=False, server_default="1"),
    # What it is the average of.
    Column("frames", BigInteger, nullable=False, server_default="0"),
    Column("samples", BigInteger, nullable=False),
    _time("updated_at", required=True),
)
