"""Trains packs of trials. ``run_pack``, ``probe`` and ``run_reference`` are all that the rest of the house calls."""

from optim_core.engine.loop import run_pack
from optim_core.engine.probe import probe
from optim_core.engine.reference import run_reference
from optim_core.engine.result import Chunk, Interrupted, PackTooLarge

__all__ = ["Chunk", "Interrupted", "PackTooLarge", "probe", "run_pack", "run_reference"]
