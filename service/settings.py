"""All settings of a process, read once from ``WHICHOPT_*`` environment variables (or given as arguments)."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict


class Settings(BaseSettings):
    """Times in seconds. Without a broker workers poll the database, which is all that one machine needs."""

    # An empty variable is none: a compose file hands on what its reader may set.
    model_config = SettingsConfigDict(env_prefix="WHICHOPT_", env_ignore_empty=True, extra="ignore", frozen=True)

    data_dir: Path = Field(default=Path.home() / ".whichopt", description="Folder of the SQLite database")
    database_url: str = Field(default="", description="SQLAlchemy URL; empty = a SQLite file in data_dir")
    broker_url: str | None = Field(default=None, description="Redis URL that wakes workers; none = workers poll")
    host: str = Field(default="127.0.0.1", description="Address the API binds")
    port: int = Field(default=8000, ge=0, le=65535, description="Port the API binds; 0 = any free port")
    allowed_hosts: Annotated[list[str] | None, NoDecode] = Field(
        default=None,
        description=(
            "Names under which browsers and clients reach the API, separated by commas, *.example.org among them; always those "
            "of loopback, and the address it binds unless that is all of them"
        ),
    )
    lease_s: float = Field(
        default=60.0, gt=0, description="How long a claimed unit belongs to its worker without a heartbeat"
    )
    quantum_s: float = Field(
        default=120.0, gt=0, description="How long a worker trains for one study before it looks whether others wait"
    )
    heartbeat_s: float = Field(default=15.0, gt=0, description="How often a worker extends its lease")
    sweep_s: float = Field(default=10.0, gt=0, description="How often expired leases are taken back")
    poll_s: float = Field(default=0.5, gt=0, description="How often an idle worker looks for work")
    max_attempts: int = Field(default=3, ge=1, description="Claims of one unit before it is failed")
    max_body_bytes: int = Field(default=1 << 20, ge=1024, description="Largest request body of the API")
    reads_per_minute: int = Field(default=600, ge=1, description="GET requests of one key a minute")
    submissions_per_minute: int = Field(default=60, ge=1, description="Other requests of one key a minute")
    reports_per_minute: int = Field(
        default=30_000,
        ge=1,
        description="What the clients of people's own loops ask, report and tell with one key a minute",
    )
    streams_per_key: int = Field(default=200, ge=1, description="Event streams that one key may have open at once")
    uploads_per_key: int = Field(default=8, ge=1, description="Uploads that one key may have under way at once")
    data_roots: Annotated[list[Path] | None, NoDecode] = Field(
        default=None,
        description=(
            f"Folders that files of studies may lie in, separated by {os.pathsep!r}; none = the working folder of a server "
            "or worker, any folder where a command runs a study by itself"
        ),
    )
    artifacts_dir: Path | None = Field(
        default=None,
        description="Folder of uploaded files, shared by the API and all workers; none = artifacts in data_dir",
    )
    max_artifact_bytes: int = Field(default=512 << 20, ge=1024, description="Largest file that may be uploaded")
    artifact_days: float = Field(
        default=30.0, gt=0, description="Uploaded files that no study has named for so many days are removed"
    )
    keep_days: float | None = Field(
        default=None, gt=0, description="Studies that ended so many days ago are removed; none = kept for ever"
    )
    webhook_hosts: Annotated[list[str], NoDecode] = Field(
        default=[],
        description="Where webhooks may go, such as https://hooks.example.org, separated by commas; none = nowhere. Names "
        "have to be public, addresses and localhost that are listed need not",
    )
    python_entrypoints: Annotated[list[str] | None, NoDecode] = Field(
        default=None,
        description="Modules (and what is in them) that a study may take models and data from, separated by commas",
    )
    own_process: bool = Field(
        default=False, description="Set by commands for their own stack: one person's Python runs, files included"
    )
    hang_s: float = Field(
        default=60.0,
        gt=0,
        description="One call of a person's code may take so long, or as long as its study's budget, before the study fails",
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        default="INFO", description="Least level that is logged"
    )

    @field_validator("data_roots", mode="before")
    @classmethod
    def _split_roots(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        parts = [Path(part).expanduser() for part in value.split(os.pathsep) if part]
        if not parts or not all(part.is_absolute() for part in parts):
            raise ValueError(f"{value!r} names no folders; write whole paths, separated by {os.pathsep!r}")
        return parts

    @field_validator("database_url")
    @classmethod
    def _known_database(cls, value: str) -> str:
        if value and not re.match(r"(sqlite(\+\w+)?:///.|postgres(ql)?(\+\w+)?://)", value):
            raise ValueError(f"write sqlite:///FILE or postgresql://…, not {value.partition(':')[0]}:…")
        return value

    @field_validator("broker_url")
    @classmethod
    def _known_broker(cls, value: str | None) -> str | None:
        if value and not re.match(r"(rediss?|redis\+socket|sentinel)://", value):
            raise ValueError(f"write redis://…, not {value.partition(':')[0]}:…")
        return value

    @field_validator("webhook_hosts")
    @classmethod
    def _origins(cls, value: list[str]) -> list[str]:
        for one in value:
            if not re.fullmatch(r"https?://(\[[0-9A-Fa-f:]+\]|[\w.-]+)(:\d+)?/?", one, re.ASCII):
                raise ValueError(f"{one!r} is no origin; write https://hooks.example.org or http://127.0.0.1:9000")
        return value

    @field_validator("python_entrypoints", "allowed_hosts", "webhook_hosts", mode="before")
    @classmethod
    def _split_names(cls, value: object) -> object:
        return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value

    @field_validator("allowed_hosts")
    @classmethod
    def _host_names(cls, value: list[str] | None) -> list[str] | None:
        # starlette takes these, and checks them by assertions.
        for name in value or ():
            if not re.fullmatch(r"(\*\.)?[A-Za-z0-9._-]+|\[[0-9A-Fa-f:]+\]", name):
                raise ValueError(
                    f"{name!r} is no name of a host; write example.org, *.example.org or [::1], without a port"
                )
        return value

    @field_validator("data_dir", "artifacts_dir")
    @classmethod
    def _absolute(cls, value: Path | None) -> Path | None:
        return None if value is None else value.expanduser().absolute()

    @property
    def artifacts(self) -> Path:
        """The folder of uploaded files."""
        return self.artifacts_dir or self.data_dir / "artifacts"

    @field_validator("data_roots")
    @classmethod
    def _absolute_roots(cls, value: list[Path] | None) -> list[Path] | None:
        return None if value is None else [root.expanduser().absolute() for root in value]

    @property
    def roots(self) -> list[str] | None:
        """Folders in which files of studies may lie, and what of ours is never read there (``!``), for those who open them, see
        ``optim_core.data.open_file``; None: anywhere.
        """
        if self.data_roots is None and self.own_process:
            return None
        named = [os.getcwd()] if self.data_roots is None else self.data_roots
        return [*map(str, named), *(f"!{one}" for one in self._ours)]

    @property
    def _ours(self) -> list[str]:
        """Where keys, uploads and the database lie."""
        found = re.match(r"sqlite(\+\w+)?:///", self.url)
        sqlite = (
            [] if found is None else [os.path.abspath(self.url[found.end() :]) + end for end in ("", "-wal", "-shm")]
        )
        # By themselves too: tables may lie in the data folder where this is a root.
        within = [self.data_dir / name for name in ("key", "serving", "piped")]
        return [*map(str, (self.data_dir, *within, self.artifacts)), *sqlite]

    @property
    def url(self) -> str:
        """The database URL in use."""
        return self.database_url or f"sqlite:///{self.data_dir / 'whichopt.db'}"
