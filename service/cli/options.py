"""The options that several commands share, as typer reads them."""

from __future__ import annotations

from typing import Annotated

import typer

Server = Annotated[str | None, typer.Option("--server", help="Address of a running server (or WHICHOPT_SERVER).")]
Key = Annotated[
    str | None,
    typer.Option("--key", help="What the server lets you in with (better WHICHOPT_KEY: other accounts see arguments)."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
RequireVerdict = Annotated[
    bool, typer.Option("--require-verdict", help="Exit with 3 when the verdict is inconclusive.")
]
Verbose = Annotated[bool, typer.Option("--verbose", help="Of an error in your own code show the whole traceback.")]
StudyId = Annotated[str, typer.Argument(metavar="STUDY", help="Its id, the beginning of it, or its name.")]

# What a study is about. Each overrides what a spec file or a task file says.
Model = Annotated[
    str | None, typer.Option(help="FILE.py:NAME, or linear, mlp, cnn, resnet, gru, lstm, transformer or tabular.")
]
Data = Annotated[
    str | None,
    typer.Option(help="FILE.py:NAME, a table (CSV, Excel, Parquet, …; - for a pipe), a text, or bundled data."),
]
Target = Annotated[str | None, typer.Option(help="The column of a table to predict; a text has none.")]
Loss = Annotated[str | None, typer.Option(help="Of your own model: cross_entropy, mse, … or FILE.py:NAME.")]
Metric = Annotated[str | None, typer.Option(help="What is measured: accuracy, f1, rmse, … or FILE.py:NAME.")]
MetricDirection = Annotated[str | None, typer.Option(help="max or min: which is better of a metric of your own.")]
Task = Annotated[str | None, typer.Option(help="classification or regression, where the target could be either.")]
Epochs = Annotated[int | None, typer.Option(help="How often a full training goes through the training rows.")]
Steps = Annotated[int | None, typer.Option(help="Optimizer steps of a full training, in place of epochs.")]
Split = Annotated[
    str | None, typer.Option(help="How rows are split: random, time:COLUMN, group:COLUMN, column:COLUMN or files:TEST.")
]
BatchSize = Annotated[int | None, typer.Option(help="Rows a step.")]
Budget = Annotated[str | None, typer.Option(help="40s, 5m, '200 trials', or '5m,200 trials'.")]
Optimizers = Annotated[str | None, typer.Option(help="Compare only these, separated by commas.")]
Name = Annotated[str | None, typer.Option(help="What the study is called in lists.")]
Seed = Annotated[int | None, typer.Option(help="Seed of the whole study: splits, weights, search.")]
