"""A weight in the form in which methods work on it: real, contiguous, float32 or more."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class WorkingForm:
    """``p`` itself where it has that form (``plain``), else copies of it.

    16-bit weights are worked on in float32 and rounded once a step; so is whatever is remembered of them. A complex weight is
    two reals, along a last axis of 2, as in torch.optim; its state is complex again under the weight.
    """

    def __init__(self, p: Tensor) -> None:
        self._p = p
        self.real = not p.is_complex()
        double = p.dtype in (torch.float64, torch.complex128)
        self.dtype = torch.float64 if double else torch.float32
        self.plain = self.real and p.is_contiguous() and p.dtype == self.dtype
        # torch lets gradients have another precision than their weight only where that was asked for.
        self.takes_gradients = self.real and p.dtype == self.dtype and getattr(p, "grad_dtype", p.dtype) == p.dtype
        self.shape = tuple(p.shape) if self.real else (*p.shape, 2)

    def working(self) -> Tensor:
        """The weight in this form, to be changed and then given to ``write``; the weight itself where it is plain."""
        return self._p if self.plain else self._formed(self._p.detach())

    def gradient(self, g: Tensor) -> Tensor:
        """A gradient of any layout and precision in this form; never to be changed."""
        g = g.detach()
        return self._formed(g.to_dense() if g.layout != torch.strided else g)

    def write(self, new: Tensor) -> None:
        """Put what was worked out into the weight, rounded to its precision."""
        self._p.copy_(new if self.real else torch.view_as_complex(new))

    def kept(self, value: Any) -> Tensor:
        """What was loaded or put under the weight, as it has to be to be worked on in place."""
        value = torch.as_tensor(value, device=self._p.device).detach()
        if value.is_complex():
            return value.resolve_conj().to(self.dtype.to_complex()).contiguous()
        # Codes of moments in eight bits stay what they are.
        return (value if value.dtype == torch.uint8 else value.to(self.dtype)).contiguous()

    @staticmethod
    def opened(value: Tensor) -> Tensor:
        """State as the method works on it; the memory is that of ``value``."""
        return torch.view_as_real(value) if value.is_complex() else value

    def closed(self, tensor: Tensor) -> Tensor:
        """The same as it lies under the weight."""
        return tensor if self.real else torch.view_as_complex(tensor)

    def _formed(self, x: Tensor) -> Tensor:
        x = x if self.real else torch.view_as_real(x.resolve_conj())
        return x.to(self.dtype).contiguous()
