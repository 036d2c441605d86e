"""${message}

Rules:
- The release before must keep working on the new schema: add columns as nullable or with a default, and drop only what
  no released code reads or writes.
- On PostgreSQL, a lock on a large table stops the service: create indices CONCURRENTLY in a revision of their own, and
  add constraints NOT VALID first.
- On SQLite, a table that is rebuilt (batch mode) loses its triggers: create them again.
- No imports from core: a migration says what the schema was on its day.
"""

import sqlalchemy as sa
from alembic import op
${imports if imports else ""}

revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}
branch_labels = ${repr(branch_labels)}
depends_on = ${repr(depends_on)}


def upgrade() -> None:
    ${upgrades if upgrades else "pass"}


def downgrade() -> None:
    ${downgrades if downgrades else "pass"}
