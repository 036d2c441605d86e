"""models of several files, references to a Hub, and tokens for it

manifest_file and hub_reference belong to what an organisation knows of the manifest: they go with its org_blob row.
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_ROLES = "'purified_original', 'purified_safetensors', 'trigger_image'"
_MORE_ROLES = "'purified_original', 'purified_safetensors', 'purified_repository', 'purified_manifest', 'trigger_image'"


def upgrade() -> None:
    op.create_table(
        "manifest_file",
        sa.Column("org_id", sa.String(length=40), nullable=False),
        sa.Column("manifest_sha256", sa.CHAR(length=64), nullable=False),
        sa.Column("path", sa.String(length=255), nullable=False),
        sa.Column("sha256", sa.CHAR(length=64), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("git_oid", sa.String(length=40), nullable=True),
        sa.ForeignKeyConstraint(
            ["org_id", "manifest_sha256"],
            ["org_blob.org_id", "org_blob.sha256"],
            name=op.f("fk_manifest_file_org_id_manifest_sha256_org_blob"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("org_id", "manifest_sha256", "path", name=op.f("pk_manifest_file")),
    )
    op.create_index("ix_manifest_file_org_id_sha256", "manifest_file", ["org_id", "sha256"], unique=False)
    op.create_table(
        "hub_reference",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("org_id", sa.String(length=40), nullable=False),
        sa.Column("repo", sa.String(length=255), nullable=False),
        sa.Column("revision", sa.String(length=255), nullable=False),
        sa.Column("commit_sha", sa.String(length=40), nullable=False),
        sa.Column("rules", sa.String(length=16), nullable=False),
        sa.Column("manifest_sha256", sa.CHAR(length=64), nullable=False),
        sa.Column("ignored", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["org_id", "manifest_sha256"],
            ["org_blob.org_id", "org_blob.sha256"],
            name=op.f("fk_hub_reference_org_id_manifest_sha256_org_blob"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_hub_reference")),
        sa.UniqueConstraint(
            "org_id",
            "repo",
            "revision",
            "commit_sha",
            "rules",
            "manifest_sha256",
            name=op.f("uq_hub_reference_resolved"),
        ),
    )
    op.create_table(
        "hub_token",
        sa.Column("org_id", sa.String(length=40), nullable=False),
        sa.Column("endpoint", sa.String(length=255), nullable=False),
        sa.Column("ciphertext", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["org_id"], ["org.id"], name=op.f("fk_hub_token_org_id_org")),
        sa.PrimaryKeyConstraint("org_id", "endpoint", name=op.f("pk_hub_token")),
    )
    # Part of the column, so that SQLite need not rebuild the table, which would lose its trigger.
    op.add_column(
        "scan_job",
        sa.Column(
            "hub_reference_id",
            sa.String(length=40),
            sa.ForeignKey("hub_reference.id", name=op.f("fk_scan_job_hub_reference_id_hub_reference")),
            nullable=True,
        ),
        inline_references=True,
    )
    _set_roles(_MORE_ROLES)


def downgrade() -> None:
    op.execute("DELETE FROM scan_artifact WHERE role = 'purified_repository'")
    _set_roles(_ROLES)
    op.execute("UPDATE scan_job SET hub_reference_id = NULL")
    if op.get_bind().dialect.name == "sqlite":
        # SQLite drops no column that another table is referred to by, and rebuilding would lose the trigger.
        op.execute("DROP TRIGGER scan_job_finished")
        with op.batch_alter_table("scan_job") as batch:
            batch.drop_column("hub_reference_id")
        op.execute(
            "CREATE TRIGGER scan_job_finished BEFORE UPDATE ON scan_job FOR EACH ROW "
            "WHEN (OLD.state IN ('succeeded', 'failed', 'canceled') AND NEW.state <> OLD.state) "
            "BEGIN SELECT RAISE(ABORT, 'UPDATE on scan_job is refused'); END"
        )
    else:
        op.drop_column("scan_job", "hub_reference_id")
    for table in ("hub_token", "hub_reference", "manifest_file"):
        op.drop_table(table)


def _set_roles(roles: str) -> None:
    """What a file that a scan produced may be. The table has no trigger that a rebuild could lose."""
    name = op.f("ck_scan_artifact_role")
    with op.batch_alter_table("scan_artifact") as batch:
        batch.drop_constraint(name, type_="check")
        batch.create_check_constraint(name, f"role IN ({roles})")
