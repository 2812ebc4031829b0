"""The precision of forward and backward. Weights, state and updates are float32 whatever it is."""

from __future__ import annotations

import torch


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """``fp32``: nothing changes; ``bf16``: torch's autocast, whose casts are not kept, for weights differ between trials."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16", cache_enabled=False)
