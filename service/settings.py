"""All settings of a process, read once from ``WHICHOPT_*`` environment variables (or given as arguments)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict


class Settings(BaseSettings):
    """Times in seconds. Without a broker workers poll the database, which is all that one machine needs."""

    model_config = SettingsConfigDict(env_prefix="WHICHOPT_", extra="ignore", frozen=True)

    data_dir: Path = Field(default=Path.home() / ".whichopt", description="Folder of the SQLite database")
    database_url: str = Field(default="", description="SQLAlchemy URL; empty = a SQLite file in data_dir")
    broker_url: str | None = Field(default=None, description="Redis URL that wakes workers; none = workers poll")
    host: str = Field(default="127.0.0.1", description="Address the API binds")
    port: int = Field(default=8000, ge=0, le=65535, description="Port the API binds; 0 = any free port")
    lease_s: float = Field(
        default=60.0, gt=0, description="How long a claimed unit belongs to its worker without a heartbeat"
    )
    heartbeat_s: float = Field(default=15.0, gt=0, description="How often a worker extends its lease")
    sweep_s: float = Field(default=10.0, gt=0, description="How often expired leases are taken back")
    poll_s: float = Field(default=0.5, gt=0, description="How often an idle worker looks for work")
    max_attempts: int = Field(default=3, ge=1, description="Claims of one unit before it is failed")
    max_body_bytes: int = Field(default=1 << 20, ge=1024, description="Largest request body of the API")
    data_roots: Annotated[list[Path] | None, NoDecode] = Field(
        default=None,
        description=f"Folders that file data sets may live in, separated by {os.pathsep!r}; none = any folder",
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
        return [Path(part) for part in value.split(os.pathsep) if part] if isinstance(value, str) else value

    @field_validator("python_entrypoints", mode="before")
    @classmethod
    def _split_modules(cls, value: object) -> object:
        return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value

    @field_validator("data_dir")
    @classmethod
    def _absolute(cls, value: Path) -> Path:
        return value.expanduser().absolute()

    @property
    def url(self) -> str:
        """The database URL in use."""
        return self.database_url or f"sqlite:///{self.data_dir / 'whichopt.db'}"
