"""Models of libraries, small: timm's and transformers' own, as people build them from a name or a configuration."""

from __future__ import annotations

import importlib
import importlib.machinery
import sys
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn as nn

from benchmarks.own_models import Own, classify, images_and_classes


class _Anything(type):
    """A class that has every attribute."""

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return name


class _StandIn:
    """Finds any module of torchvision, filled with empty classes."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        if name.partition(".")[0] != "torchvision":
            return None
        return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def create_module(self, spec: Any) -> types.ModuleType:
        module: Any = types.ModuleType(spec.name)

        def attribute(name: str) -> Any:
            if name.startswith("__"):
                raise AttributeError(name)
            return _Anything(name, (nn.Module,), {})

        module.__getattr__ = attribute
        return module

    def exec_module(self, module: types.ModuleType) -> None:
        pass


@contextmanager
def with_torchvision() -> Iterator[None]:
    """timm asks torchvision for its data sets and transforms, which no model needs. Where torchvision is not installed, empty
    classes stand for them while timm is imported.
    """
    finder: Any = _StandIn()
    missing = importlib.util.find_spec("torchvision") is None
    if missing:
        sys.meta_path.append(finder)
    try:
        yield
    finally:
        if missing:
            sys.meta_path.remove(finder)
            for name in [n for n in sys.modules if n.partition(".")[0] == "torchvision"]:
                del sys.modules[name]


def from_timm(name: str, **options: Any) -> Callable[[], nn.Module]:
    def make() -> nn.Module:
        with with_torchvision():
            timm: Any = importlib.import_module("timm")
        return timm.create_model(name, num_classes=4, **options)

    return make


def bert() -> nn.Module:
    from transformers import BertConfig, BertForSequenceClassification

    return BertForSequenceClassification(
        BertConfig(
            vocab_size=50, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=24,
            max_position_embeddings=16, num_labels=3,
        )
    )  # fmt: skip


def llama() -> nn.Module:
    from transformers import LlamaConfig, LlamaForCausalLM

    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=50, hidden_size=16, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
            intermediate_size=24, max_position_embeddings=16, use_cache=False,
        )
    )  # fmt: skip


def encodings(labels: Callable[[torch.Tensor, torch.Generator], torch.Tensor]) -> Callable[[int, torch.Generator], Any]:
    """What a tokenizer gives, with labels in it."""

    def batch(rows: int, g: torch.Generator) -> Any:
        from transformers import BatchEncoding

        ids = torch.randint(1, 50, (rows, 9), generator=g)
        mask = torch.ones_like(ids)
        mask[1:, 6:] = 0
        return BatchEncoding({"input_ids": ids, "attention_mask": mask, "labels": labels(ids, g)})

    return batch


def one_of_three(ids: torch.Tensor, g: torch.Generator) -> torch.Tensor:
    return torch.randint(3, (len(ids),), generator=g)


LIBRARIES: dict[str, Own] = {
    "timm_resnet10t": Own(
        from_timm("resnet10t", channels=(8, 16, 24, 32), stem_width=8), images_and_classes(32), classify
    ),
    "timm_vit_tiny": Own(
        from_timm(
            "vit_tiny_patch16_224",
            img_size=16,
            patch_size=8,
            embed_dim=24,
            depth=2,
            num_heads=2,
            drop_path_rate=0.2,
            proj_drop_rate=0.1,
        ),
        images_and_classes(16),
        classify,
        is_random=True,
    ),
    "hf_bert": Own(bert, encodings(one_of_three), lambda m, b: m(**b).loss, is_random=True),
    "hf_llama": Own(llama, encodings(lambda ids, _: ids), lambda m, b: m(**b).loss, loss_tolerance=1e-5),
}
