"""Rules by torch function: ``(mode, *args, **kwargs) → result``, or ``NotImplemented`` for cases that are left to vmap.

A rule runs outside vmap's sight, on the tensors that ``mode.raw`` gives, and wraps what it returns.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from optim_core.vmapped.rules import attention, dense, images, losses, packed, questions, recurrent

RULES: dict[Callable[..., Any], Callable[..., Any]] = {
    **dense.RULES,
    **attention.RULES,
    **losses.RULES,
    **images.RULES,
    **packed.RULES,
    **recurrent.RULES,
    **questions.RULES,
}
