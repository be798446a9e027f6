"""Places in the queue are told by forecasts, not counted by a query of their own"""

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


def downgrade() -> None:
    op.create_index("exports_queue_idx", "exports", ["created_at", "id"], postgresql_where=QUEUED)
