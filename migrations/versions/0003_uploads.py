"""uploads in several goes, reference sets"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "upload",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("org_id", sa.String(length=40), nullable=False),
        sa.Column("length", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.CHAR(length=64), nullable=True),
        sa.Column("filename", sa.String(length=255), nullable=False),
        sa.Column("client_metadata", sa.Text(), nullable=False),
        sa.Column("blob_sha256", sa.CHAR(length=64), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("length >= 0", name=op.f("ck_upload_length")),
        sa.ForeignKeyConstraint(["org_id"], ["org.id"], name=op.f("fk_upload_org_id_org")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_upload")),
    )
    op.create_index(op.f("ix_upload_org_id"), "upload", ["org_id"], unique=False)
    op.create_index(op.f("ix_upload_expires_at"), "upload", ["expires_at"], unique=False)
    op.create_table(
        "reference_set",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("org_id", sa.String(length=40), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("sha256", sa.CHAR(length=64), nullable=False),
        sa.Column("source", sa.JSON(), nullable=False),
        sa.Column("facts", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["org_id"], ["org.id"], name=op.f("fk_reference_set_org_id_org")),
        sa.ForeignKeyConstraint(["sha256"], ["blob.sha256"], name=op.f("fk_reference_set_sha256_blob")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_reference_set")),
        sa.UniqueConstraint("org_id", "name", name=op.f("uq_reference_set_org_id_name")),
    )
    op.create_index(op.f("ix_reference_set_sha256"), "reference_set", ["sha256"], unique=False)


def downgrade() -> None:
    op.drop_table("reference_set")
    op.drop_table("upload")
