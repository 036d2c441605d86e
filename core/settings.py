"""Deployment settings: where things are and how long the machinery waits. Read in composition roots only.

What a verdict depends on is never a setting: see core/config.py.
"""

from pathlib import Path
from typing import Self

from pydantic import AliasChoices, Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from core.domain import SandboxMode

_GIB = 1024**3


class Settings(BaseSettings):
    """Values from the environment, each with the prefix ASSAY_. Addresses may hold passwords: they stay out of repr.

    Raises (on construction):
        pydantic.ValidationError: a value is out of range, or the intervals contradict each other.
    """

    model_config = SettingsConfigDict(
        env_prefix="ASSAY_", frozen=True, extra="ignore", env_ignore_empty=True, populate_by_name=True
    )

    #: SQLAlchemy address; empty: SQLite in data_dir.
    database_url: str = Field(default="", repr=False)
    #: Celery broker; none: the worker is embedded in the API process.
    broker_url: str | None = Field(default=None, repr=False)
    #: Database (when embedded) and blobs.
    data_dir: Path = Path(".assay")
    #: Benchmark data, never needed by the service.
    datasets_dir: Path | None = None

    #: A claim is lost when it was not renewed for this long.
    lease_s: float = Field(default=60, gt=0)
    renew_s: float = Field(default=15, gt=0)
    sweep_s: float = Field(default=30, gt=0)
    #: A queued scan is announced again when no worker took it for this long.
    republish_s: float = Field(default=60, gt=0)
    #: Longest a single attempt may run.
    deadline_s: float = Field(default=7200, gt=0)
    max_attempts: int = Field(default=3, ge=1)

    max_upload_bytes: int = Field(default=8 * _GIB, gt=0)
    #: An upload in several goes is removed when nothing was added to it for this long.
    upload_expiry_s: float = Field(default=86_400, gt=0)
    #: Uploads of one organisation that may be open at once.
    max_open_uploads: int = Field(default=32, ge=1)
    #: What one organisation may store, bytes announced by open uploads included; 0: no limit.
    max_stored_bytes: int = Field(default=0, ge=0)
    #: Uploads are refused when they would leave less than this on the disk.
    free_space_reserve_bytes: int = Field(default=_GIB, ge=0)
    #: What to do where the host cannot give the parsing process all of its sandbox.
    sandbox: SandboxMode = SandboxMode.AUTO
    #: CPU threads of a scan; 0: all cores.
    threads: int = Field(default=0, ge=0)

    #: Where Hub references point to; the names that the Hub's own client knows count as well.
    hub_endpoint: str = Field(
        default="https://huggingface.co",
        pattern=r"^https?://[A-Za-z0-9.\-\[\]:]+(/[A-Za-z0-9._/\-]*)?$",
        validation_alias=AliasChoices("ASSAY_HUB_ENDPOINT", "HF_ENDPOINT"),
    )
    #: Hosts the Hub may send us to for files, with commas between: HOST, HOST:PORT or .DOMAIN.
    hub_redirect_hosts: str = Field(default="", pattern=r"^[A-Za-z0-9.:, \-]*$")
    #: No network: Hub references are answered from a folder.
    hub_offline: bool = Field(default=False, validation_alias=AliasChoices("ASSAY_HUB_OFFLINE", "HF_HUB_OFFLINE"))
    #: That folder, which implies hub_offline; without it: the cache of the Hub's own client.
    hub_mirror: Path | None = None
    #: All files of a model from the Hub together.
    hub_max_model_bytes: int = Field(default=16 * _GIB, gt=0)
    #: What stored Hub tokens are encrypted with: in the environment or in a file.
    secret_key: SecretStr | None = None
    secret_key_file: Path | None = None

    #: For the command line client only.
    server: str | None = None
    api_key: SecretStr | None = None
    hub_token: SecretStr | None = Field(default=None, validation_alias=AliasChoices("ASSAY_HUB_TOKEN", "HF_TOKEN"))

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.renew_s * 2 > self.lease_s:
            raise ValueError("ASSAY_RENEW_S must be at most half of ASSAY_LEASE_S: one lost renewal is no lost worker")
        if self.secret_key is not None and self.secret_key_file is not None:
            raise ValueError("of ASSAY_SECRET_KEY and ASSAY_SECRET_KEY_FILE only one can be meant")
        return self

    @property
    def is_embedded(self) -> bool:
        """Whether the worker runs inside the API process."""
        return not self.broker_url

    @property
    def redirect_hosts(self) -> tuple[str, ...]:
        """`hub_redirect_hosts`, one by one."""
        return tuple(item.strip().lower() for item in self.hub_redirect_hosts.split(",") if item.strip())

    @property
    def resolved_database_url(self) -> str:
        """The database address with the default filled in."""
        return self.database_url or f"sqlite:///{self.data_dir.absolute() / 'assay.db'}"

    @property
    def blobs_dir(self) -> Path:
        """Where LocalBlobStore lives."""
        return self.data_dir.absolute() / "blobs"
