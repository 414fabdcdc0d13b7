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
        Parameter(help="cosine of the inputs from which on two samples count as near duplicates"),
    ] = 0.98,
) -> None:
    """Find retained samples that are almost forgotten ones. Exit code 1 where there are any."""
    experiment = Experiment(
        DATASETS.parse(data),
        None,
        Recipe(),
        REQUESTS.parse(forget),
        engine(device="cpu"),
    )
    found = similar_inputs(experiment, threshold)
    say(found.warning() or f"no retained sample is within cosine {threshold} of a forgotten one")
    raise SystemExit(1 if found.pairs else 0)
