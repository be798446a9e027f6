"""Ends of exports in a table of their own, so that none is lost with its export"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "0002"
down_revision: str | None = "0001"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

UNANNOUNCED = sa.text("ended_at IS NOT NULL AND announced_at IS NULL")


def upgrade() -> None:
    op.create_table(
        "announcements",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("message", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("announcements_pkey")),
    )
    op.execute(
        """
        INSERT INTO announcements (message)
        SELECT jsonb_strip_nulls(jsonb_build_object(
            'export_id', id,
            'user_id', user_id,
            'state', 'EXPORT_STATE_' || state,
            'create_time',
            to_char(created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
            'end_time',
            to_char(updated_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
            'resolution', coalesce(plan ->> 'resolution', settings ->> 'resolution'),
            'quality', coalesce(plan ->> 'quality', settings ->> 'quality'),
            'error', error,
            'warnings', warnings
        ))
        FROM exports WHERE ended_at IS NOT NULL AND announced_at IS NULL ORDER BY ended_at
        """
    )
    op.drop_index("exports_unannounced_idx", table_name="exports", postgresql_where=UNANNOUNCED)
    op.drop_column("exports", "announced_at")


def downgrade() -> None:
    op.add_column("exports", sa.Column("announced_at", sa.DateTime(timezone=True), nullable=True))
    op.execute(
        """
        UPDATE exports SET announced_at = ended_at
        WHERE id NOT IN (SELECT message ->> 'export_id' FROM announcements)
        """
    )
    op.create_index(
        "exports_unannounced_idx",
        "exports",
        ["ended_at"],
        unique=False,
        postgresql_where=UNANNOUNCED,
    )
    op.drop_table("announcements")
