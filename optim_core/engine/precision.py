"""What float32 means: the same on every device."""

from __future__ import annotations

import torch


def full_precision() -> None:
    """No TF32 on a GPU, neither in products nor in convolutions.

    A verdict about optimizers must not depend on the device that it was made on, and small steps feel a mantissa of ten
    bits. bfloat16 is left to what asks for it: Muon's Newton-Schulz iteration, as in torch.
    """
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False
