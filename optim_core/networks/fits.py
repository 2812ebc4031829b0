"""Whether a study's model, techniques and methods go with its data."""

from __future__ import annotations

from optim_core.networks.catalogue import InputShape, catalogue_network
from optim_core.networks.declared import declared_network
from optim_core.networks.decoder import decoder_network
from optim_core.networks.part import Network
from optim_core.spec.errors import SpecError
from optim_core.spec.optimizers.limits import check_size
from optim_core.spec.problem import ExternalModel, LayersModel, Model, PythonModel, StudySpec


def describe(
    model: Model,
    shape: tuple[int, ...],
    outputs: int,
    *,
    cardinalities: tuple[int, ...] = (),
    always_dropout: bool = False,
) -> Network:
    """The network for rows of ``shape``, (d,) or (c, h, w). ``cardinalities``: codes of each category column, see
    ``data.Arrays``; ``always_dropout``: see ``catalogue_network``. Raises SpecError when it does not fit or is too large.
    """
    assert not isinstance(model, PythonModel | ExternalModel)
    if isinstance(model, LayersModel):
        return declared_network(model, shape, outputs)
    return catalogue_network(model, InputShape(shape, cardinalities), outputs, always_dropout=always_dropout)


def fitting(
    spec: StudySpec, shape: tuple[int, ...], classes: int | None, cardinalities: tuple[int, ...] = ()
) -> Network:
    """The network of ``spec`` for rows of ``shape``; ``classes``: None of a regression. Raises SpecError with the pointer of
    what does not go with the data, the network, or the size of a batch.
    """
    wanted = spec.search.techniques
    network = describe(spec.model, shape, classes or 1, cardinalities=cardinalities, always_dropout="dropout" in wanted)
    if "label_smoothing" in wanted and classes is None:
        raise _refused("label_smoothing", "it needs classes; this is a regression")
    if "dropout" in wanted and not any(part.kind == "SeededDropout" for part in network.leaves()):
        raise _refused("dropout", "this model has no place for dropout layers")
    if spec.training.batch_size == 1 and any(part.lone for part in network.leaves()):
        message = "a batch norm compares the rows of a batch, and 1 row has no other; take more, or LayerNorm"
        raise SpecError(message, code="shape_mismatch", pointer="/training/batch_size")
    check_size(spec.search.included(), network.parameter_count, "/search/optimizers")
    return network


def fitting_text(spec: StudySpec, symbols: int, block: int) -> Network:
    """The causal decoder of a text with ``symbols`` tokens, which sees ``block`` of them. Raises SpecError
    ``model_too_large``.
    """
    network = decoder_network(spec.model, symbols, block)
    check_size(spec.search.included(), network.parameter_count, "/search/optimizers")
    return network


def _refused(name: str, why: str) -> SpecError:
    pointer = f"/search/techniques/{name}"
    return SpecError(f"technique {name} does not apply: {why}", code="option_not_applicable", pointer=pointer)
