"""Forecasts: speeds weighed by their frames, places in the queue without an index of their own"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0004"
down_revision: str | None = "0003"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

QUEUED = sa.text("state = 'QUEUED'")


def upgrade() -> None:
    op.drop_index("exports_queue_idx", table_name="exports", postgresql_where=QUEUED)
    op.add_column(
        "encode_speeds",
        sa.Column("overhead_seconds", sa.Double(), server_default="1", nullable=False),
    )
    op.add_column(
        "encode_speeds", sa.Column("frames", sa.BigInteger(), server_default="0", nullable=False)
    )


def downgrade() -> None:
    op.drop_column("encode_speeds", "frames")
    op.drop_column("encode_speeds", "overhead_seconds")
    op.create_index("exports_queue_idx", "exports", ["created_at", "id"], postgresql_where=QUEUED)
