"""Names of torch's compiler and hooks that torch does not promise to keep. Tested with the version in ``TESTED``."""

from __future__ import annotations

import torch
from torch._C._autograd import _profiler_enabled, _record_function_with_args_enter, _record_function_with_args_exit
from torch._C._dynamo.eval_frame import get_eval_frame_callback
from torch.optim.optimizer import _global_optimizer_post_hooks, _global_optimizer_pre_hooks

TESTED = "2.13"

# torch's own record_function takes ten times as long.
record_enter, record_exit = _record_function_with_args_enter, _record_function_with_args_exit


def compiler_watches() -> bool:
    """Whether this call is being compiled, or runs where the compiler looks at every function that is called."""
    return torch.compiler.is_compiling() or get_eval_frame_callback() is not None


def somebody_listens(optimizer: torch.optim.Optimizer) -> bool:
    """Whether a profiler runs, or a hook before or after steps is registered, for this optimizer or for all."""
    return bool(
        _profiler_enabled()
        or optimizer._optimizer_step_pre_hooks
        or optimizer._optimizer_step_post_hooks
        or _global_optimizer_pre_hooks
        or _global_optimizer_post_hooks
    )
