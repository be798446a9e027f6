"""Exports, tasks and what goes with them"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "0001"
down_revision: str | None = None
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.create_table(
        "encode_speeds",
        sa.Column("family", sa.Text(), nullable=False),
        sa.Column("resolution", sa.Text(), nullable=False),
        sa.Column("quality", sa.Text(), nullable=False),
        sa.Column("frames_per_second", sa.Double(), nullable=False),
        sa.Column("samples", sa.BigInteger(), nullable=False),
        sa.Column(
            "updated_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.PrimaryKeyConstraint("family", "resolution", "quality", name=op.f("encode_speeds_pkey")),
    )
    op.create_table(
        "exports",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("phase", sa.Text(), nullable=False),
        sa.Column("progress", sa.Double(), server_default="0", nullable=False),
        sa.Column("priority", sa.SmallInteger(), server_default="0", nullable=False),
        sa.Column("source", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("video_id", sa.Text(), nullable=True),
        sa.Column("source_etag", sa.Text(), nullable=False),
        sa.Column("source_size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("segments", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("settings", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("plan", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("output", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("output_run_id", sa.Text(), nullable=True),
        sa.Column("error", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column(
            "warnings",
            postgresql.JSONB(astext_type=sa.Text()),
            server_default=sa.text("'[]'"),
            nullable=False,
        ),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column(
            "updated_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column("announced_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("exports_pkey")),
    )
    op.create_index(
        "exports_active_idx",
        "exports",
        ["user_id"],
        unique=False,
        postgresql_where=sa.text("state IN ('QUEUED', 'PROCESSING')"),
    )
    op.create_index(
        "exports_expiry_idx",
        "exports",
        ["expires_at"],
        unique=False,
        postgresql_where=sa.text("state = 'COMPLETED'"),
    )
    op.create_index("exports_list_idx", "exports", ["user_id", "created_at", "id"], unique=False)
    op.create_index(
        "exports_list_state_idx", "exports", ["user_id", "state", "created_at", "id"], unique=False
    )
    op.create_index(
        "exports_list_video_idx",
        "exports",
        ["user_id", "video_id", "created_at", "id"],
        unique=False,
    )
    op.create_index(
        "exports_queue_idx",
        "exports",
        ["created_at", "id"],
        unique=False,
        postgresql_where=sa.text("state = 'QUEUED'"),
    )
    op.create_index(
        "exports_unannounced_idx",
        "exports",
        ["ended_at"],
        unique=False,
        postgresql_where=sa.text("ended_at IS NOT NULL AND announced_at IS NULL"),
    )
    op.create_table(
        "object_deletions",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("object", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column(
            "not_before",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("object_deletions_pkey")),
    )
    op.create_index("object_deletions_due_idx", "object_deletions", ["not_before"], unique=False)
    op.create_table(
        "probes",
        sa.Column("source_key", sa.Text(), nullable=False),
        sa.Column("etag", sa.Text(), nullable=False),
        sa.Column("info", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.PrimaryKeyConstraint("source_key", "etag", name=op.f("probes_pkey")),
    )
    op.create_index("probes_age_idx", "probes", ["created_at"], unique=False)
    op.create_table(
        "submissions",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("export_id", sa.Text(), nullable=False),
        sa.Column("request_id", sa.Text(), nullable=True),
        sa.Column("body_hash", sa.LargeBinary(), nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("submissions_pkey")),
    )
    op.create_index("submissions_age_idx", "submissions", ["created_at"], unique=False)
    op.create_index("submissions_export_idx", "submissions", ["export_id"], unique=False)
    op.create_index(
        "submissions_request_idx",
        "submissions",
        ["user_id", "request_id"],
        unique=True,
        postgresql_where=sa.text("request_id IS NOT NULL"),
    )
    op.create_index("submissions_user_idx", "submissions", ["user_id", "created_at"], unique=False)
    op.create_table(
        "tasks",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("export_id", sa.Text(), nullable=False),
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("lane", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("priority", sa.SmallInteger(), nullable=False),
        sa.Column("message", sa.LargeBinary(), nullable=False),
        sa.Column("attempt", sa.Integer(), server_default="0", nullable=False),
        sa.Column("failures", sa.Integer(), server_default="0", nullable=False),
        sa.Column("frames", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("frames_done", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column(
            "not_before",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column("dispatched_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("seen_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["export_id"], ["exports.id"], name=op.f("tasks_export_id_fkey"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("tasks_pkey")),
    )
    op.create_index("tasks_export_idx", "tasks", ["export_id"], unique=False)
    op.create_index(
        "tasks_active_idx",
        "tasks",
        ["lane", "state", "user_id", "created_at"],
        unique=False,
        postgresql_where=sa.text("state IN ('PENDING', 'DISPATCHED', 'RUNNING')"),
    )
    op.create_table(
        "runs",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("task_id", sa.Text(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("delivery", sa.Integer(), nullable=False),
        sa.Column("encoder_id", sa.Text(), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=True),
        sa.Column("error", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column(
            "started_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["task_id"], ["tasks.id"], name=op.f("runs_task_id_fkey"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("runs_pkey")),
    )
    op.create_index("runs_task_idx", "runs", ["task_id"], unique=False)


def downgrade() -> None:
    op.drop_index("runs_task_idx", table_name="runs")
    op.drop_table("runs")
    op.drop_index(
        "tasks_active_idx",
        table_name="tasks",
        postgresql_where=sa.text("state IN ('PENDING', 'DISPATCHED', 'RUNNING')"),
    )
    op.drop_index("tasks_export_idx", table_name="tasks")
    op.drop_table("tasks")
    op.drop_index("submissions_user_idx", table_name="submissions")
    op.drop_index(
        "submissions_request_idx",
        table_name="submissions",
        postgresql_where=sa.text("request_id IS NOT NULL"),
    )
    op.drop_index("submissions_export_idx", table_name="submissions")
    op.drop_index("submissions_age_idx", table_name="submissions")
    op.drop_table("submissions")
    op.drop_index("probes_age_idx", table_name="probes")
    op.drop_table("probes")
    op.drop_index("object_deletions_due_idx", table_name="object_deletions")
    op.drop_table("object_deletions")
    op.drop_index(
        "exports_unannounced_idx",
        table_name="exports",
        postgresql_where=sa.text("ended_at IS NOT NULL AND announced_at IS NULL"),
    )
    op.drop_index(
        "exports_queue_idx", table_name="exports", postgresql_where=sa.text("state = 'QUEUED'")
    )
    op.drop_index("exports_list_video_idx", table_name="exports")
    op.drop_index("exports_list_state_idx", table_name="exports")
    op.drop_index("exports_list_idx", table_name="exports")
    op.drop_index(
        "exports_expiry_idx", table_name="exports", postgresql_where=sa.text("state = 'COMPLETED'")
    )
    op.drop_index(
        "exports_active_idx",
        table_name="exports",
        postgresql_where=sa.text("state IN ('QUEUED', 'PROCESSING')"),
    )
    op.drop_table("exports")
    op.drop_table("encode_speeds")
