"""first tables

Rules the database enforces by triggers, whatever the code does:
- scan_result: a verdict never changes (it leaves only with its scan);
- scan_job: a finished scan never changes its state;
- gate_decision: nothing is changed or removed.
"""

from datetime import UTC, datetime

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


_LIVE = sa.text("state IN ('queued', 'running') AND NOT forced AND cancel_requested_at IS NULL")
_FINISHED = "('succeeded', 'failed', 'canceled')"

#: (name, event, table, condition)
_TRIGGERS = (
    ("scan_result_immutable", "UPDATE", "scan_result", None),
    ("scan_job_finished", "UPDATE", "scan_job", f"OLD.state IN {_FINISHED} AND NEW.state <> OLD.state"),
    ("gate_decision_no_update", "UPDATE", "gate_decision", None),
    ("gate_decision_no_delete", "DELETE", "gate_decision", None),
)


def upgrade() -> None:
    op.create_table(
        "blob",
        sa.Column("sha256", sa.CHAR(length=64), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("size_bytes >= 0", name=op.f("ck_blob_size")),
        sa.PrimaryKeyConstraint("sha256", name=op.f("pk_blob")),
    )
    op.create_table(
        "org",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_org")),
    )
    op.create_table(
        "api_key",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("org_id", sa.String(length=40), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("prefix", sa.String(length=16), nullable=False),
        sa.Column("hash", sa.CHAR(length=64), nullable=False),
        sa.Column("scopes", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_used_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["org_id"], ["org.id"], name=op.f("fk_api_key_org_id_org")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_api_key")),
        sa.UniqueConstraint("prefix", name=op.f("uq_api_key_prefix")),
    )
    op.create_index(op.f("ix_api_key_org_id"), "api_key", ["org_id"], unique=False)
    op.create_table(
        "checkpoint",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("org_id", sa.String(length=40), nullable=False),
        sa.Column(
            "kind",
            sa.Enum("classifier", "clip", name="kind", native_enum=False, create_constraint=True, length=32),
            nullable=False,
        ),
        sa.Column("architecture", sa.String(length=255), nullable=True),
        sa.Column("num_targets", sa.Integer(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["org_id"], ["org.id"], name=op.f("fk_checkpoint_org_id_org")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_checkpoint")),
    )
    op.create_index(op.f("ix_checkpoint_org_id"), "checkpoint", ["org_id"], unique=False)
    op.create_table(
        "gate_decision",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("org_id", sa.String(length=40), nullable=False),
        sa.Column("sha256", sa.CHAR(length=64), nullable=False),
        sa.Column(
            "decision",
            sa.Enum(
                "allow", "quarantine", "block", name="decision", native_enum=False, create_constraint=True, length=32
            ),
            nullable=False,
        ),
        sa.Column("allow", sa.Boolean(), nullable=False),
        sa.Column("reasons", sa.JSON(), nullable=False),
        sa.Column("engine_versions", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["org_id"], ["org.id"], name=op.f("fk_gate_decision_org_id_org")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_gate_decision")),
    )
    op.create_index("ix_gate_decision_org_id_sha256", "gate_decision", ["org_id", "sha256"], unique=False)
    op.create_table(
        "org_blob",
        sa.Column("org_id", sa.String(length=40), nullable=False),
        sa.Column("sha256", sa.CHAR(length=64), nullable=False),
        sa.Column("uploaded", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["org_id"], ["org.id"], name=op.f("fk_org_blob_org_id_org")),
        sa.ForeignKeyConstraint(["sha256"], ["blob.sha256"], name=op.f("fk_org_blob_sha256_blob")),
        sa.PrimaryKeyConstraint("org_id", "sha256", name=op.f("pk_org_blob")),
    )
    op.create_index(op.f("ix_org_blob_sha256"), "org_blob", ["sha256"], unique=False)
    op.create_table(
        "checkpoint_file",
        sa.Column("checkpoint_id", sa.String(length=40), nullable=False),
        sa.Column("sha256", sa.CHAR(length=64), nullable=False),
        sa.Column("org_id", sa.String(length=40), nullable=False),
        sa.Column("filename", sa.String(length=255), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["checkpoint_id"], ["checkpoint.id"], name=op.f("fk_checkpoint_file_checkpoint_id_checkpoint")
        ),
        sa.ForeignKeyConstraint(["org_id"], ["org.id"], name=op.f("fk_checkpoint_file_org_id_org")),
        sa.PrimaryKeyConstraint("checkpoint_id", "sha256", name=op.f("pk_checkpoint_file")),
        sa.UniqueConstraint("org_id", "sha256", name=op.f("uq_checkpoint_file_org_id_sha256")),
    )
    op.create_table(
        "scan_job",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("org_id", sa.String(length=40), nullable=False),
        sa.Column("checkpoint_id", sa.String(length=40), nullable=False),
        sa.Column("model_sha256", sa.CHAR(length=64), nullable=False),
        sa.Column("model_filename", sa.String(length=255), nullable=False),
        sa.Column("reference_sha256", sa.CHAR(length=64), nullable=True),
        sa.Column("config", sa.JSON(), nullable=False),
        sa.Column(
            "preset",
            sa.Enum(
                "fast", "standard", "thorough", name="preset", native_enum=False, create_constraint=True, length=32
            ),
            nullable=False,
        ),
        sa.Column("engine_version", sa.String(length=64), nullable=False),
        sa.Column("content_key", sa.CHAR(length=64), nullable=False),
        sa.Column("forced", sa.Boolean(), nullable=False),
        sa.Column(
            "state",
            sa.Enum(
                "queued",
                "running",
                "succeeded",
                "failed",
                "canceled",
                name="state",
                native_enum=False,
                create_constraint=True,
                length=32,
            ),
            nullable=False,
        ),
        sa.Column(
            "stage",
            sa.Enum(
                "fetching",
                "loading",
                "inverting",
                "detecting",
                "unlearning",
                "verifying",
                "publishing",
                name="stage",
                native_enum=False,
                create_constraint=True,
                length=32,
            ),
            nullable=True,
        ),
        sa.Column("progress", sa.Double(), nullable=False),
        sa.Column("eta_s", sa.Double(), nullable=True),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("released", sa.Integer(), nullable=False),
        sa.Column("event_count", sa.Integer(), nullable=False),
        sa.Column("not_before", sa.DateTime(timezone=True), nullable=False),
        sa.Column("lease_owner", sa.String(length=255), nullable=True),
        sa.Column("lease_expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("deadline_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("published_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("cancel_requested_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("error_code", sa.String(length=64), nullable=True),
        sa.Column("error_detail", sa.Text(), nullable=True),
        sa.Column("error_hint", sa.Text(), nullable=True),
        sa.CheckConstraint("(state = 'running') = (lease_expires_at IS NOT NULL)", name=op.f("ck_scan_job_lease")),
        sa.CheckConstraint(
            "(state IN ('succeeded', 'failed', 'canceled')) = (finished_at IS NOT NULL)",
            name=op.f("ck_scan_job_finished"),
        ),
        sa.CheckConstraint("attempt >= 0 AND released >= 0 AND released <= attempt", name=op.f("ck_scan_job_attempt")),
        sa.CheckConstraint("progress >= 0 AND progress <= 1", name=op.f("ck_scan_job_progress")),
        sa.ForeignKeyConstraint(
            ["checkpoint_id"], ["checkpoint.id"], name=op.f("fk_scan_job_checkpoint_id_checkpoint")
        ),
        sa.ForeignKeyConstraint(["model_sha256"], ["blob.sha256"], name=op.f("fk_scan_job_model_sha256_blob")),
        sa.ForeignKeyConstraint(["org_id"], ["org.id"], name=op.f("fk_scan_job_org_id_org")),
        sa.ForeignKeyConstraint(["reference_sha256"], ["blob.sha256"], name=op.f("fk_scan_job_reference_sha256_blob")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_scan_job")),
    )
    op.create_index(op.f("ix_scan_job_checkpoint_id"), "scan_job", ["checkpoint_id"], unique=False)
    op.create_index("ix_scan_job_content", "scan_job", ["org_id", "content_key"], unique=False)
    op.create_index(
        "ix_scan_job_leased",
        "scan_job",
        ["lease_expires_at"],
        unique=False,
        sqlite_where=sa.text("state = 'running'"),
        postgresql_where=sa.text("state = 'running'"),
    )
    op.create_index(op.f("ix_scan_job_model_sha256"), "scan_job", ["model_sha256"], unique=False)
    op.create_index("ix_scan_job_org_id_id", "scan_job", ["org_id", "id"], unique=False)
    op.create_index(
        "ix_scan_job_queued",
        "scan_job",
        ["not_before"],
        unique=False,
        sqlite_where=sa.text("state = 'queued'"),
        postgresql_where=sa.text("state = 'queued'"),
    )
    op.create_index(op.f("ix_scan_job_reference_sha256"), "scan_job", ["reference_sha256"], unique=False)
    op.create_index(
        "uq_scan_job_live_content",
        "scan_job",
        ["org_id", "content_key"],
        unique=True,
        sqlite_where=_LIVE,
        postgresql_where=_LIVE,
    )
    op.create_table(
        "lineage",
        sa.Column("child_id", sa.String(length=40), nullable=False),
        sa.Column("parent_id", sa.String(length=40), nullable=False),
        sa.Column("scan_id", sa.String(length=40), nullable=False),
        sa.ForeignKeyConstraint(["child_id"], ["checkpoint.id"], name=op.f("fk_lineage_child_id_checkpoint")),
        sa.ForeignKeyConstraint(["parent_id"], ["checkpoint.id"], name=op.f("fk_lineage_parent_id_checkpoint")),
        sa.ForeignKeyConstraint(["scan_id"], ["scan_job.id"], name=op.f("fk_lineage_scan_id_scan_job")),
        sa.PrimaryKeyConstraint("child_id", "parent_id", "scan_id", name=op.f("pk_lineage")),
    )
    op.create_index(op.f("ix_lineage_parent_id"), "lineage", ["parent_id"], unique=False)
    op.create_index(op.f("ix_lineage_scan_id"), "lineage", ["scan_id"], unique=False)
    op.create_table(
        "scan_artifact",
        sa.Column("scan_id", sa.String(length=40), nullable=False),
        sa.Column("position", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column(
            "role",
            sa.Enum(
                "purified_original",
                "purified_safetensors",
                "trigger_image",
                name="role",
                native_enum=False,
                create_constraint=True,
                length=32,
            ),
            nullable=False,
        ),
        sa.Column("sha256", sa.CHAR(length=64), nullable=False),
        sa.Column("filename", sa.String(length=255), nullable=False),
        sa.Column("media_type", sa.String(length=255), nullable=False),
        sa.ForeignKeyConstraint(["scan_id"], ["scan_job.id"], name=op.f("fk_scan_artifact_scan_id_scan_job")),
        sa.ForeignKeyConstraint(["sha256"], ["blob.sha256"], name=op.f("fk_scan_artifact_sha256_blob")),
        sa.PrimaryKeyConstraint("scan_id", "position", name=op.f("pk_scan_artifact")),
    )
    op.create_index(op.f("ix_scan_artifact_sha256"), "scan_artifact", ["sha256"], unique=False)
    op.create_table(
        "scan_event",
        sa.Column("scan_id", sa.String(length=40), nullable=False),
        sa.Column("seq", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("payload", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(["scan_id"], ["scan_job.id"], name=op.f("fk_scan_event_scan_id_scan_job")),
        sa.PrimaryKeyConstraint("scan_id", "seq", name=op.f("pk_scan_event")),
    )
    op.create_table(
        "scan_result",
        sa.Column("scan_id", sa.String(length=40), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column(
            "verdict",
            sa.Enum(
                "clean",
                "backdoored",
                "inconclusive",
                name="verdict",
                native_enum=False,
                create_constraint=True,
                length=32,
            ),
            nullable=False,
        ),
        sa.Column("score", sa.Double(), nullable=False),
        sa.Column("threshold", sa.Double(), nullable=False),
        sa.Column("statistics", sa.JSON(), nullable=False),
        sa.Column(
            "purification_status",
            sa.Enum(
                "published",
                "withheld",
                "not_needed",
                "not_requested",
                "refused",
                name="purification_status",
                native_enum=False,
                create_constraint=True,
                length=32,
            ),
            nullable=False,
        ),
        sa.Column("report", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["scan_id"], ["scan_job.id"], name=op.f("fk_scan_result_scan_id_scan_job")),
        sa.PrimaryKeyConstraint("scan_id", name=op.f("pk_scan_result")),
    )

    org = sa.table("org", sa.column("id"), sa.column("name"), sa.column("created_at", sa.DateTime(timezone=True)))
    op.execute(org.insert().values(id="org_default", name="default", created_at=datetime.now(UTC)))
    _create_triggers(sqlite=op.get_bind().dialect.name == "sqlite")


def downgrade() -> None:
    for table in (
        "scan_result",
        "scan_event",
        "scan_artifact",
        "lineage",
        "scan_job",
        "checkpoint_file",
        "org_blob",
        "gate_decision",
        "checkpoint",
        "api_key",
        "org",
        "blob",
    ):
        op.drop_table(table)
    if op.get_bind().dialect.name != "sqlite":  # on SQLite they went with their tables
        op.execute("DROP FUNCTION assay_refuse()")


def _create_triggers(*, sqlite: bool) -> None:
    if not sqlite:
        op.execute(
            """
            CREATE FUNCTION assay_refuse() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN
                RAISE EXCEPTION '% on % is refused', TG_OP, TG_TABLE_NAME USING ERRCODE = 'check_violation';
            END $$
            """
        )
    for name, event, table, condition in _TRIGGERS:
        when = f"WHEN ({condition})" if condition else ""
        body = (
            f"BEGIN SELECT RAISE(ABORT, '{event} on {table} is refused'); END"
            if sqlite
            else "EXECUTE FUNCTION assay_refuse()"
        )
        op.execute(f"CREATE TRIGGER {name} BEFORE {event} ON {table} FOR EACH ROW {when} {body}")
