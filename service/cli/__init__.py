"""The commands that talk to a server through the SDK. Light: no torch, no optuna, no database at import."""

from service.cli.backend import Local, OpenLocal
from service.cli.commands import add_commands

__all__ = ["Local", "OpenLocal", "add_commands"]
