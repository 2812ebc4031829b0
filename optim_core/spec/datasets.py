"""What is learned from: a bundled data set, a file, data of the person's own, or data that only their own loop knows."""

from __future__ import annotations

from typing import Annotated, Literal, Self
from unicodedata import normalize

from pydantic import Field, field_validator, model_validator

from optim_core.spec.artifacts import ArtifactId
from optim_core.spec.base import Value, clean_name, clean_text
from optim_core.spec.entrypoints import EntrypointText
from optim_core.spec.errors import SpecError
from optim_core.spec.metrics import Task
from optim_core.spec.text import check_dataset

BUILTIN_TASKS: dict[str, Task] = {
    "digits": "classification",
    "breast_cancer": "classification",
    "wine": "classification",
    "iris": "classification",
    "diabetes": "regression",
    "synthetic_classification": "classification",
    "synthetic_regression": "regression",
    "sparse_classification": "classification",
    "noisy_labels": "classification",
    "teacher_student": "regression",
    "python_docs": "own",
}
# The bundled texts, which are no tables.
BUILTIN_TEXTS = frozenset({"python_docs"})

# How many tokens a network sees at once.
Block = Annotated[int, Field(ge=4, le=1024)]
Unit = Literal["bytes", "characters"]
FileFormat = Literal["csv", "json", "parquet", "arrow", "xlsx", "arff", "npz", "text"]


class BuiltinDataset(Value):
    """A bundled or synthetic data set. ``samples``, ``features``, ``classes`` and ``noise`` only fit the synthetic ones,
    ``unit`` and ``block`` the text ``python_docs``; see ``FileDataset``.
    """

    kind: Literal["builtin"] = "builtin"
    name: Literal[
        "digits",
        "breast_cancer",
        "wine",
        "iris",
        "diabetes",
        "synthetic_classification",
        "synthetic_regression",
        "sparse_classification",
        "noisy_labels",
        "teacher_student",
        "python_docs",
    ]
    samples: Annotated[int, Field(ge=50, le=1_000_000)] | None = None
    features: Annotated[int, Field(ge=1, le=10_000)] | None = None
    classes: Annotated[int, Field(ge=2, le=1000)] | None = None
    noise: Annotated[float, Field(ge=0, le=100)] | None = None
    unit: Unit | None = None
    block: Block | None = None

    @property
    def is_text(self) -> bool:
        """Whether it is learned as a language."""
        return self.name in BUILTIN_TEXTS

    @model_validator(mode="after")
    def _shape_only_for_synthetic(self) -> BuiltinDataset:
        given = [k for k in ("samples", "features", "classes", "noise") if getattr(self, k) is not None]
        if given and self.name in {"digits", "breast_cancer", "wine", "iris", "diabetes", "python_docs"}:
            raise ValueError(f"{given[0]} does not fit the fixed data set {self.name}")
        check_dataset(self.is_text, {"unit": self.unit, "block": self.block}, file=False)
        return self


_NO_SEPARATORS = "\"'.\r\n"


class DatasetInFile(Value):
    """How a table in a file is read, or with ``format: text`` a text.

    Of a table ``format`` is taken from the file name when left out; ``features`` from the columns other than ``target``.
    ``weight``: a column that says how much each row counts in the training loss and in the metric; it is no feature. A text
    is learned token by token, a token being a byte (default) or a character (``unit``), from blocks of ``block`` tokens
    (default 64); it has no ``target``.

    How a table is written is found out, and these say it where that is wrong: ``sep``, the sign between the fields of csv,
    ``decimal`` mark of numbers, ``encoding`` of a text (any that Python knows), ``na``: what stands for no value, instead of
    ``NA``, ``?``, ``-`` and the like; the empty cell always does; ``header: none`` where no row holds names, so that the
    columns are ``column 1`` and so on; ``sheet`` of a spreadsheet.
    """

    format: FileFormat | None = None
    target: Annotated[str, Field(min_length=1, max_length=1024)] | None = None
    features: Annotated[list[Annotated[str, Field(min_length=1, max_length=1024)]], Field(min_length=1)] | None = None
    weight: Annotated[str, Field(min_length=1, max_length=1024)] | None = None
    sep: Annotated[str, Field(max_length=64)] | None = None
    decimal: Literal[".", ","] | None = None
    encoding: Annotated[str, Field(min_length=1, max_length=64)] | None = None
    na: Annotated[list[Annotated[str, Field(max_length=64)]], Field(max_length=100)] | None = None
    header: Literal["none"] | None = None
    sheet: Annotated[str, Field(min_length=1, max_length=255)] | None = None
    unit: Unit | None = None
    block: Block | None = None

    @field_validator("target", "weight", "sheet")
    @classmethod
    def _clean_name(cls, text: str | None) -> str | None:
        return clean_name(text)

    @field_validator("features")
    @classmethod
    def _clean_names(cls, names: list[str] | None) -> list[str] | None:
        # What may be in them is a matter of the file.
        return None if names is None else [normalize("NFC", name) for name in names]

    @field_validator("sep")
    @classmethod
    def _one_sign(cls, sep: str | None) -> str | None:
        if sep is not None and (len(sep) != 1 or sep.isalnum() or sep in _NO_SEPARATORS):
            message = f"{sep!r} is not one sign that may stand between fields; letters, digits, quotes and points stand in them"
            raise SpecError(message, code="unknown_value")
        return sep

    @field_validator("encoding")
    @classmethod
    def _known_encoding(cls, name: str | None) -> str | None:
        if name is not None:
            try:
                "".encode(clean_text(name))
            except (LookupError, ValueError):
                raise SpecError(f"there is no encoding {name!r}", code="invalid_value") from None
        return name

    @property
    def is_text(self) -> bool:
        """Whether it is learned as a language."""
        return self.format == "text"

    @property
    def column(self) -> str:
        """The target of a table."""
        assert self.target is not None
        return self.target

    @model_validator(mode="after")
    def _table_or_text(self) -> Self:
        fields = (
            "target",
            "features",
            "weight",
            "sep",
            "decimal",
            "encoding",
            "na",
            "header",
            "sheet",
            "unit",
            "block",
        )
        given = {name: getattr(self, name) for name in fields}
        check_dataset(self.is_text, given, file=True)
        if self.weight is not None and self.weight in (self.target, *(self.features or ())):
            raise ValueError(f"{self.weight} is the weight of rows, and neither target nor feature")
        return self


class FileDataset(DatasetInFile):
    """A table or text on disk."""

    kind: Literal["file"] = "file"
    path: Annotated[str, Field(min_length=1, max_length=4096)]

    _clean_path = field_validator("path")(clean_text)


class ArtifactDataset(DatasetInFile):
    """A table or text that was uploaded, by the ``id`` it was given. Whoever reads it reads the stored file."""

    kind: Literal["artifact"]
    id: ArtifactId


class PythonDataset(Value):
    """A person's own data: what ``entrypoint`` names is a data set, splits of one, or a function that makes them.

    ``folder``: as of ``PythonModel``.
    """

    kind: Literal["python"]
    entrypoint: EntrypointText
    folder: Annotated[str, Field(min_length=1, max_length=4096)] | None = None

    _clean = field_validator("folder")(clean_text)


class ExternalDataset(Value):
    """What the person's own loop reads; nobody else sees it. Goes with ``ExternalModel``, which implies it."""

    kind: Literal["external"] = "external"

    @property
    def is_text(self) -> bool:
        """Nothing is known of it."""
        return False


Dataset = Annotated[
    BuiltinDataset | FileDataset | ArtifactDataset | PythonDataset | ExternalDataset, Field(discriminator="kind")
]
