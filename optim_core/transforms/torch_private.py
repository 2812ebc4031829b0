"""Every name of torch that we use and torch does not promise to keep, in one place.

Tested with the versions in ``TESTED``; a new release of torch is let in by running the suite with it. The multi-tensor
calls are what ``torch.optim`` itself is built on; the fused kernels are those behind its ``fused=True``.
"""

from __future__ import annotations

import torch
from torch.nn.modules.batchnorm import _BatchNorm as BatchNorm
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

__all__ = ["BatchNorm", "TorchDispatchMode", "tree_leaves", "tree_map"]

TESTED = ("2.13",)

foreach_abs = torch._foreach_abs
foreach_add = torch._foreach_add
foreach_add_ = torch._foreach_add_
foreach_addcdiv_ = torch._foreach_addcdiv_
foreach_addcmul_ = torch._foreach_addcmul_
foreach_copy_ = torch._foreach_copy_
foreach_div = torch._foreach_div
foreach_div_ = torch._foreach_div_
foreach_lerp = torch._foreach_lerp
foreach_lerp_ = torch._foreach_lerp_
foreach_maximum_ = torch._foreach_maximum_
foreach_minimum_ = torch._foreach_minimum_
foreach_mul = torch._foreach_mul
foreach_mul_ = torch._foreach_mul_
foreach_neg = torch._foreach_neg
foreach_norm = torch._foreach_norm
foreach_pow = torch._foreach_pow
foreach_reciprocal_ = torch._foreach_reciprocal_
foreach_sign = torch._foreach_sign
foreach_sign_ = torch._foreach_sign_
foreach_sqrt = torch._foreach_sqrt
foreach_sqrt_ = torch._foreach_sqrt_
foreach_sub = torch._foreach_sub

fused_adam_ = torch._fused_adam_
fused_adamw_ = torch._fused_adamw_
fused_adagrad_ = torch._fused_adagrad_
fused_sgd_ = torch._fused_sgd_

set_grad_enabled = torch._C._set_grad_enabled


def multiplies_bfloat16_on_cpu() -> bool:
    """Whether the processor has instructions for products of bfloat16."""
    return torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()
