"""History: every change of state of exports and tasks, written by the database itself"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0006"
down_revision: str | None = "0005"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

# Who and why, as the transaction has said; a replica of before says nothing. What was set in
# an earlier transaction of a connection is left behind as an empty text.
SAID = "\n".join(
    f"said_{name} text := nullif(current_setting('videoexport.{name}', true), '');"
    for name in ("actor", "reason", "detail", "run_id")
)

# New rows come by the thousand: one INSERT for all of a statement.
EXPORTS_CREATED = """
    INSERT INTO state_changes (export_id, to_state, actor, reason, detail, run_id)
    SELECT id, state, said_actor, said_reason, said_detail, said_run_id FROM created;
"""
TASKS_CREATED = """
    INSERT INTO state_changes (
        export_id, task_id, kind, to_state, attempt, actor, reason, detail, run_id
    )
    SELECT export_id, id, kind, state, attempt,
        said_actor, said_reason, said_detail, said_run_id
    FROM created;
"""
EXPORT_CHANGED = """
    INSERT INTO state_changes (export_id, from_state, to_state, actor, reason, detail, run_id)
    VALUES (
        NEW.id, OLD.state, NEW.state, said_actor, said_reason, said_detail, said_run_id
    );
"""
TASK_CHANGED = """
    INSERT INTO state_changes (
        export_id, task_id, kind, from_state, to_state, attempt, actor, reason, detail, run_id
    )
    VALUES (
        NEW.export_id, NEW.id, NEW.kind, OLD.state, NEW.state, NEW.attempt,
        said_actor, said_reason, said_detail, said_run_id
    );
"""
# A second run of an attempt that runs: the row of its task stays as it is.
RUN_BEGUN = """
    INSERT INTO state_changes (
        export_id, task_id, kind, from_state, to_state, attempt, actor, reason, run_id
    )
    SELECT export_id, id, kind, state, state, NEW.attempt,
        'encoder:' || NEW.encoder_id, 'DELIVERED_AGAIN', NEW.id
    FROM tasks WHERE id = NEW.task_id AND state = 'RUNNING' AND attempt <= NEW.attempt;
"""
EXPORTS_DELETED = """
    DELETE FROM state_changes WHERE export_id IN (SELECT id FROM deleted);
"""

CHANGES = "FOR EACH ROW WHEN (OLD.state IS DISTINCT FROM NEW.state)"
TRIGGERS = (
    # Trigger and function, the table, when, what.
    (
        *("exports_created", "exports"),
        "AFTER INSERT ON exports REFERENCING NEW TABLE AS created FOR EACH STATEMENT",
        EXPORTS_CREATED,
    ),
    (
        *("tasks_created", "tasks"),
        "AFTER INSERT ON tasks REFERENCING NEW TABLE AS created FOR EACH STATEMENT",
        TASKS_CREATED,
    ),
    ("export_changed", "exports", f"AFTER UPDATE OF state ON exports {CHANGES}", EXPORT_CHANGED),
    ("task_changed", "tasks", f"AFTER UPDATE OF state ON tasks {CHANGES}", TASK_CHANGED),
    (
        *("run_begun", "runs"),
        "AFTER INSERT ON runs FOR EACH ROW WHEN (NEW.ended_at IS NULL)",
        RUN_BEGUN,
    ),
    (
        *("exports_deleted", "exports"),
        "AFTER DELETE ON exports REFERENCING OLD TABLE AS deleted FOR EACH STATEMENT",
        EXPORTS_DELETED,
    ),
)


def upgrade() -> None:
    op.create_table(
        "state_changes",
        sa.Column("export_id", sa.Text(), nullable=False),
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("task_id", sa.Text(), nullable=True),
        sa.Column("kind", sa.Text(), nullable=True),
        sa.Column("from_state", sa.Text(), nullable=True),
        sa.Column("to_state", sa.Text(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=True),
        sa.Column("actor", sa.Text(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("detail", sa.Text(), nullable=True),
        sa.Column("run_id", sa.Text(), nullable=True),
        sa.Column(
            "changed_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("clock_timestamp()"),
            nullable=False,
        ),
        sa.PrimaryKeyConstraint("export_id", "id", name=op.f("state_changes_pkey")),
    )
    for name, _, when, what in TRIGGERS:
        op.execute(
            f"CREATE FUNCTION note_{name}() RETURNS trigger LANGUAGE plpgsql"
            f" AS $$ DECLARE {SAID} BEGIN {what} RETURN NULL; END $$"
        )
        op.execute(f"CREATE TRIGGER {name} {when} EXECUTE FUNCTION note_{name}()")


def downgrade() -> None:
    for name, table, _, _ in TRIGGERS:
        op.execute(f"DROP TRIGGER {name} ON {table}")
        op.execute(f"DROP FUNCTION note_{name}()")
    op.drop_table("state_changes")
