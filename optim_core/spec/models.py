"""What is trained: a ready-made network, a list of layers, a network of the person's own, or whatever their own loop trains."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from optim_core.spec.base import Value, clean_text
from optim_core.spec.entrypoints import EntrypointText
from optim_core.spec.layers import Layer


class CatalogueModel(Value):
    """A ready-made network. Options left out take the defaults of ``optim_core.tasks.models``.

    Of a text, ``transformer`` is a causal decoder (``optim_core.nn.decoder``).

    ``gru`` and ``lstm`` read images row by row and tables feature by feature. ``tabular`` gives each category column of a
    table an embedding of ``width`` numbers, where the other models see one-hot columns.
    """

    kind: Literal["catalogue"] = "catalogue"
    name: Literal["linear", "mlp", "cnn", "resnet", "gru", "lstm", "transformer", "tabular"]
    hidden: Annotated[list[Annotated[int, Field(ge=1, le=8192)]], Field(max_length=16)] | None = None
    activation: Literal["relu", "gelu", "tanh", "silu"] = "relu"
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    width: Annotated[int, Field(ge=1, le=1024)] | None = None
    depth: Annotated[int, Field(ge=1, le=32)] | None = None
    heads: Annotated[int, Field(ge=1, le=64)] | None = None
    stages: Annotated[int, Field(ge=1, le=5)] | None = None


class LayersModel(Value):
    """A network written as a list of allow-listed layers; input width and output width are checked at the probe."""

    kind: Literal["layers"]
    layers: Annotated[list[Layer], Field(min_length=1, max_length=200)]


class PythonModel(Value):
    """A person's own network: what ``entrypoint`` names is a ``torch.nn.Module``, its class, or a function that makes it.

    ``folder``: where a file's name starts and modules are looked for first; null: the current folder, and installed modules.
    Only workers run it.
    """

    kind: Literal["python"]
    entrypoint: EntrypointText
    folder: Annotated[str, Field(min_length=1, max_length=4096)] | None = None

    _clean = field_validator("folder")(clean_text)


class ExternalModel(Value):
    """Whatever the person trains in a loop of their own, which asks for configurations and tells what came of them.

    ``steps``: optimizer steps of a whole run. ``train_rows``: rows that a run learns from, where it tells what each row of the
    test split scored; null: as many as those. ``parameters`` and ``batch_size`` are only repeated in the answer.
    """

    kind: Literal["external"]
    steps: Annotated[int, Field(ge=1, le=10_000_000)]
    train_rows: Annotated[int, Field(ge=1, le=10**15)] | None = None
    parameters: Annotated[int, Field(ge=1, le=10**15)] | None = None
    batch_size: Annotated[int, Field(ge=1, le=10**9)] | None = None


TableModel = CatalogueModel | LayersModel
Model = Annotated[CatalogueModel | LayersModel | PythonModel | ExternalModel, Field(discriminator="kind")]
