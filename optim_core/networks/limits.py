"""Sizes above which a network is refused before memory is spent on it."""

from __future__ import annotations

MAX_PARAMETERS = 50_000_000
# Numbers a row, all layers of a declared network together.
MAX_ACTIVATIONS = 50_000_000
# Steps of a recurrent layer wait for each other, forward and back, so a batch costs their number whatever the hardware.
MAX_STEPS = 1024
# Attention costs the square of the tokens.
MAX_TOKENS = 1024
