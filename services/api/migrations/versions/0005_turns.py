"""Users take turns: when each was served last"""

from collections.abc import Sequence

from alembic import op

revision: str = "0005"
down_revision: str | None = "0004"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.create_index("tasks_served_idx", "tasks", ["user_id", "lane", "ended_at"])


def downgrade() -> None:
    op.drop_index("tasks_served_idx", table_name="tasks")
