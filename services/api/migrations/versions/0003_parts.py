"""Exports in parts, and the parts that are kept for later ones"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0003"
down_revision: str | None = "0002"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

COMPLETED = sa.text("state = 'COMPLETED'")
PENDING = sa.text("state = 'PENDING'")


def upgrade() -> None:
    op.add_column("exports", sa.Column("fingerprint", sa.LargeBinary(), nullable=True))
    for name in ("frames_to_encode", "frames_encoded"):
        op.add_column(
            "exports", sa.Column(name, sa.BigInteger(), server_default="0", nullable=False)
        )
    for name in ("replans", "generation"):
        op.add_column(
            "exports", sa.Column(name, sa.SmallInteger(), server_default="0", nullable=False)
        )
    op.create_index(
        "exports_finished_idx", "exports", ["user_id", "fingerprint"], postgresql_where=COMPLETED
    )
    op.add_column("tasks", sa.Column("part_key", sa.LargeBinary(), nullable=True))
    op.add_column(
        "tasks", sa.Column("reused", sa.Boolean(), server_default="false", nullable=False)
    )
    # Those of an export that may go on are in one piece. Not of all: the tables are locked.
    op.execute(
        """
        UPDATE exports SET frames_to_encode = tasks.frames, frames_encoded = tasks.frames_done
        FROM tasks WHERE tasks.export_id = exports.id AND tasks.kind = 'WHOLE'
        AND exports.state IN ('QUEUED', 'PROCESSING', 'FAILED')
        """
    )
    op.create_index(
        "tasks_due_idx",
        "tasks",
        [
            "lane",
            "user_id",
            sa.text("priority DESC"),
            "created_at",
            sa.text("frames DESC"),
            "id",
        ],
        postgresql_where=PENDING,
    )
    op.create_table(
        "cached_parts",
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("key", sa.LargeBinary(), nullable=False),
        sa.Column("export_id", sa.Text(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column(
            "stored_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column("renew", sa.Boolean(), server_default="false", nullable=False),
        sa.PrimaryKeyConstraint("user_id", "key", name=op.f("cached_parts_pkey")),
    )
    op.create_index("cached_parts_age_idx", "cached_parts", ["stored_at"])
    op.create_index(
        "cached_parts_renew_idx", "cached_parts", ["stored_at"], postgresql_where=sa.text("renew")
    )


def downgrade() -> None:
    # An older service does not know these tasks: exports that depend on them end here, and those
    # that have failed cannot be tried again. Of a source that was not known, the probe is left.
    op.execute("DELETE FROM tasks WHERE kind IN ('VIDEO', 'AUDIO', 'ASSEMBLE', 'COPY')")
    op.execute(
        """
        WITH ended AS (
            UPDATE exports SET state = 'FAILED', phase = 'UNSPECIFIED',
                ended_at = now(), updated_at = now(), error =
                '{"code": "INTERNAL", "message": "The service went back to an older version."}'
            WHERE state IN ('QUEUED', 'PROCESSING') AND NOT EXISTS (
                SELECT 1 FROM tasks WHERE tasks.export_id = exports.id
                AND tasks.state IN ('PENDING', 'DISPATCHED', 'RUNNING')
            )
            RETURNING *
        )
        INSERT INTO announcements (message)
        SELECT jsonb_strip_nulls(jsonb_build_object(
            'export_id', id,
            'user_id', user_id,
            'state', 'EXPORT_STATE_FAILED',
            'create_time',
            to_char(created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
            'end_time',
            to_char(ended_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
            'resolution', coalesce(plan ->> 'resolution', settings ->> 'resolution'),
            'quality', coalesce(plan ->> 'quality', settings ->> 'quality'),
            'error', error,
            'warnings', warnings
        ))
        FROM ended
        """
    )
    op.execute(
        """
        UPDATE exports SET error = error - 'retryable'
        WHERE state = 'FAILED' AND NOT EXISTS (
            SELECT 1 FROM tasks WHERE tasks.export_id = exports.id
            AND tasks.state IN ('FAILED', 'CANCELLED')
        )
        """
    )
    op.drop_table("cached_parts")
    op.drop_index("tasks_due_idx", table_name="tasks", postgresql_where=PENDING)
    op.drop_column("tasks", "reused")
    op.drop_column("tasks", "part_key")
    op.drop_index("exports_finished_idx", table_name="exports", postgresql_where=COMPLETED)
    for name in ("generation", "replans", "frames_encoded", "frames_to_encode", "fingerprint"):
        op.drop_column("exports", name)
