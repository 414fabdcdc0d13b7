"""What commands share: specs, the engine, checks of outputs before work begins, and results that
are written as a whole.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from eigenforget.core.errors import EigenforgetError
from eigenforget.core.spec import parse
from eigenforget.data import DATASETS
from eigenforget.experiments.experiment import Experiment
from eigenforget.models import MODELS
from eigenforget.requests import REQUESTS
from eigenforget.training.engine import Engine
from eigenforget.training.recipe import RECIPES, Recipe


class Specs(NamedTuple):
    """Spec strings of a job; "" takes what the checkpoint says."""

    data: str
    model: str
    recipe: str
    request: str


def experiment_of(specs: Specs, engine: Engine) -> Experiment:
    """The experiment that the specs spell. Errors: one of them is wrong."""
    return Experiment(
        data_spec=parse(specs.data, DATASETS, "data set"),
        model_spec=parse(specs.model, MODELS, "model"),
        recipe=parse(specs.recipe, RECIPES, "recipe") if specs.recipe else Recipe(),
        request=parse(specs.request, REQUESTS, "request") if specs.request else None,
        engine=engine,
    )


def completed(specs: Specs, metadata: Mapping[str, str]) -> Specs:
    """Missing specs from the checkpoint's metadata. Errors: neither says it."""
    filled = {}
    for name in ("data", "model", "recipe"):
        filled[name] = getattr(specs, name) or metadata.get(name, "")
        if not filled[name] and name != "recipe":
            raise EigenforgetError(f"the checkpoint does not say its {name}; give --{name}")
    return specs._replace(**filled)
