"""`eigenforget duplicates`."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from eigenforget.cli.options import DataSpec, RequestSpec
from eigenforget.cli.terminal import engine, say
from eigenforget.data import DATASETS
from eigenforget.experiments.experiment import Experiment
from eigenforget.experiments.near_duplicates import check_threshold, is_narrow, similar_inputs
from eigenforget.requests import REQUESTS
from eigenforget.training.recipe import Recipe


def duplicates(
    *,
    data: DataSpec,
    forget: RequestSpec,
    threshold: Annotated[
        float | None,
        Parameter(
            help="lowest cosine of the inputs at which two samples count as near duplicates; by "
            "default 0.98, and for inputs of fewer than 32 numbers 1, as those of copies"
        ),
    ] = None,
) -> None:
    """Find retain samples that nearly equal a forget sample. Exit code 1 if there are any.

    Example:
        eigenforget duplicates --data 'digits()' --forget 'at_random(n=100)' --threshold 0.99
    """
    if threshold is not None:
        check_threshold(threshold)
    experiment = Experiment(
        DATASETS.parse(data), None, Recipe(), REQUESTS.parse(forget), engine(device="cpu")
    )
    least = threshold if threshold is not None else 1 - 1e-9 if is_narrow(experiment) else 0.98
    found = similar_inputs(experiment, least)
    none = f"no retain sample has a cosine of {least:g} or more to a forget sample"
    say(found.line or none, wrap=False)
    raise SystemExit(1 if found.pairs else 0)
