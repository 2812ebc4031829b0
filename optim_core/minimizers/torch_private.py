"""The one name of torch's compiler that we use and torch does not promise to keep. Tested with the version in ``TESTED``."""

from __future__ import annotations

import torch
from torch._C._dynamo.eval_frame import get_eval_frame_callback

TESTED = "2.13"


def compiler_watches() -> bool:
    """Whether this call is being compiled, or runs where the compiler looks at every function that is called."""
    return torch.compiler.is_compiling() or get_eval_frame_callback() is not None
