"""A module's weights and buffers, taken out and put in by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

from optim_core.vmapped.form import Refused


class Place:
    """One registration of a tensor: the module's own dictionary that holds it, its key there, and the tensor's name, which all
    registrations of a tied one share.
    """

    __slots__ = ("key", "name", "store")

    def __init__(self, store: dict[str, Any], key: str, name: str) -> None:
        self.store, self.key, self.name = store, key, name


class Binding:
    """Where a module keeps its tensors. ``weights``, ``trained``, ``buffers``: names, each tensor once."""

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        parameters, buffers = dict(module.named_parameters()), dict(module.named_buffers())
        self.weights, self.buffers = list(parameters), list(buffers)
        self.trained = [name for name, p in parameters.items() if p.requires_grad]
        self._parts = list(module.modules())
        # Which parts are in training mode while the module is.
        self._training: list[bool] = []
        self._weight_places = _places(module, "_parameters", parameters)
        self._buffer_places = _places(module, "_buffers", buffers)

    def train(self) -> None:
        """Training mode, with what the module itself makes of it. Asking every part is much cheaper than telling it."""
        if [part.training for part in self._parts] != self._training:
            self.module.train()
            self._training = [part.training for part in self._parts]

    def call(self, weights: Mapping[str, Tensor], buffers: Mapping[str, Tensor], function: Callable[[], Any]) -> Any:
        """``function()`` while the module has these tensors, and what it put in place of buffers: (result, name → tensor)."""
        places = [(place, weights[place.name]) for place in self._weight_places]
        places += [(place, buffers[place.name]) for place in self._buffer_places]
        before = [place.store[place.key] for place, _ in places]
        for place, tensor in places:
            place.store[place.key] = tensor
        try:
            result = function()
            for place in self._weight_places:
                if place.store.get(place.key) is not weights[place.name]:
                    raise Refused(f"its forward puts another tensor in place of the weight {place.name}")
            return result, self.replaced(buffers)
        finally:
            for (place, _), tensor in zip(places, before, strict=True):
                place.store[place.key] = tensor

    def replaced(self, buffers: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Buffers that the module assigned (``self.mean = …``) instead of writing into them."""
        found: dict[str, Tensor] = {}
        for place in self._buffer_places:
            now = place.store.get(place.key)
            if not isinstance(now, Tensor):
                raise Refused(f"its forward takes the buffer {place.name} away")
            if now is not buffers[place.name]:
                found[place.name] = now
        return found

    def put_buffers(self, buffers: Mapping[str, Tensor]) -> None:
        """Give the module these buffers for good."""
        for place in self._buffer_places:
            place.store[place.key] = buffers[place.name]


def _places(module: nn.Module, store: str, tensors: Mapping[str, Tensor]) -> list[Place]:
    names = {id(tensor): name for name, tensor in tensors.items()}
    found: list[Place] = []
    for inner in module.modules():
        own: dict[str, Tensor | None] = getattr(inner, store)
        found += [Place(own, key, names[id(tensor)]) for key, tensor in own.items() if tensor is not None]
    return found
