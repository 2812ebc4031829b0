"""Fine-tuning: weights from a file in place of the initial ones, and layers that stay as they are."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from optim_core.data.paths import WEIGHTS_POINTER as POINTER
from optim_core.data.paths import open_file
from optim_core.spec.artifacts import path_of
from optim_core.spec.errors import DataError, SpecError
from optim_core.spec.problem import FineTune


@dataclass(frozen=True)
class StartWeights:
    """``tensors``: weights and statistics by name, those that fit the network; ``said``: what was done, in a sentence."""

    tensors: dict[str, Tensor]
    freeze: int
    digest: str
    said: str

    @torch.no_grad()
    def put_into(self, network: nn.Module) -> None:
        """Write the weights and freeze the first layers. Weights that the file lacks keep their initial values."""
        own = {**dict(network.named_parameters()), **dict(network.named_buffers())}
        for name, tensor in self.tensors.items():
            own[name].copy_(tensor)
        for name in layers_of(network)[: self.freeze]:
            for p in network.get_submodule(name).parameters(recurse=False):
                p.requires_grad_(False)


def layers_of(network: nn.Module) -> list[str]:
    """Modules that have weights of their own, in order."""
    return list(dict.fromkeys(name.rpartition(".")[0] for name, _ in network.named_parameters()))


def read_start(spec: FineTune, network: nn.Module, roots: Sequence[str] | None) -> StartWeights:
    """The weights of ``spec`` as far as they fit ``network`` (whose tensors may be on the meta device).

    Only tensors are ever unpickled. ``roots``: folders in which files may lie; None means anywhere. Raises DataError for a
    file that may not or cannot be read or holds what is not finite, SpecError when nothing fits or everything would be frozen.
    """
    layers = layers_of(network)
    if spec.freeze >= len(layers):
        message = f"the model has {len(layers)} layers with weights; freezing {spec.freeze} leaves nothing to train"
        raise SpecError(message, code="nothing_to_train", pointer="/training/fine_tune/freeze")
    with open_file(path_of(spec.weights), roots, POINTER)[1] as file:
        content = file.read()
    digest = hashlib.sha256(content).hexdigest()
    try:
        stored = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # whatever a damaged or hostile file provokes
        raise DataError("the file is no state_dict saved by torch.save", code="unreadable", pointer=POINTER) from error
    if not isinstance(stored, dict) or not all(isinstance(value, Tensor) for value in stored.values()):
        raise DataError("the file holds no state_dict of tensors", code="unreadable", pointer=POINTER)
    wanted = {n: t.shape for n, t in (*network.named_parameters(), *network.named_buffers()) if "dropout" not in n}
    fitting = {name: stored[name] for name, shape in wanted.items() if name in stored and stored[name].shape == shape}
    if not fitting:
        raise SpecError(
            "no weight in the file fits this model by name and shape", code="shape_mismatch", pointer=POINTER
        )
    broken = next((n for n, t in fitting.items() if t.is_floating_point() and not torch.isfinite(t).all()), None)
    if broken is not None:
        raise DataError(f"{broken} holds numbers that are not finite", code="number_not_finite", pointer=POINTER)
    fresh = [name for name in wanted if name not in fitting]
    said = f"{len(fitting)} of {len(wanted)} weights start from the file"
    said += f"; {', '.join(fresh[:5])}{' …' if len(fresh) > 5 else ''} start afresh" if fresh else ""
    said += f"; the first {spec.freeze} layers are frozen." if spec.freeze else "."
    return StartWeights(fitting, spec.freeze, digest, said)
