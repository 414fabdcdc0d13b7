"""`eigenforget duplicates`."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from eigenforget.cli.options import DataSpec, RequestSpec
from eigenforget.cli.terminal import engine, say
from eigenforget.data import DATASETS
from eigenforget.experiments.experiment import Experiment
from eigenforget.experiments.near_duplicates import similar_inputs
from eigenforget.requests import REQUESTS
from eigenforget.training.recipe import Recipe


def duplicates(
    *,
    data: DataSpec,
    forget: RequestSpec,
    threshold: Annotated[
        float,
        Parameter(help="lowest cosine of the inputs at which two samples count as near duplicates"),
    ] = 0.98,
) -> None:
    """Find retain samples that nearly equal a forget sample. Exit code 1 if there are any.

    Example:
        eigenforget duplicates --data 'digits()' --forget 'at_random(n=100)' --threshold 0.99
    """
    experiment = Experiment(
        DATASETS.parse(data), None, Recipe(), REQUESTS.parse(forget), engine(device="cpu")
    )
    found = similar_inputs(experiment, threshold)
    say(
        found.warning()
        or f"no retain sample has a cosine of {threshold} or more to a forget sample"
    )
    raise SystemExit(1 if found.pairs else 0)
