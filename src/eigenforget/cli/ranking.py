"""`eigenforget scores`: a score of each training sample in a file, for requests that rank samples
by it.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import nn

from eigenforget.cli.terminal import console, progress
from eigenforget.core import seeds
from eigenforget.core.errors import EigenforgetError
from eigenforget.data.sources import Source
from eigenforget.experiments.experiment import Experiment
from eigenforget.experiments.results import check_file
from eigenforget.experiments.specs import Specs, completed, experiment_of
from eigenforget.models import checkpoint
from eigenforget.models.heads import check_label_range
from eigenforget.models.precision import widened
from eigenforget.requests import model_scores, subsampled_memorisation, write_scores
from eigenforget.requests.scores import ModelScore, check_scores_path
from eigenforget.training.engine import Engine
from eigenforget.training.log import Watch
from eigenforget.training.recipe import fit_recipe

SampleScore = Literal["memorisation", "loss", "confidence", "margin"]


class Subsampling(NamedTuple):
    """How many models are trained for memorisation scores, and on which share of the training
    samples each.
    """

    models: int = 20
    share: float = 0.7

    def inside(self) -> int:
        """How many of the models are trained with a sample. Errors: fewer than 2 models, no model
        with or without it.
        """
        count = round(self.share * self.models) if 0 < self.share < 1 else 0
        if self.models < 2 or not 0 < count < self.models:
            raise EigenforgetError(
                f"{self.models} models on a share {self.share:g} of the samples: each sample needs models that were trained with it and "
                "models that were not (at least 2 models, and a share between 0 and 1)"
            )
        return count


def score_samples(
    specs: Specs,
    source: Path | None,
    *,
    score: SampleScore,
    out: Path,
    subsampling: Subsampling,
    seed: int,
    layer: str,
    engine: Engine,
    overwrite: bool,
) -> None:
    """`eigenforget scores`: see the command's help."""
    check_scores_path(out)
    check_file(out, overwrite)
    if score == "memorisation":
        experiment, found = _memorisation(specs, source, subsampling, seed, layer, engine)
    else:
        experiment, found = _of_model(specs, source, score, layer, engine)
    out.parent.mkdir(parents=True, exist_ok=True)
    write_scores(out, experiment.data.train_index.ids, found)
    said = f"wrote {out}: {score} of {len(found)} training samples, from {found.min():.4g} to {found.max():.4g}"
    console.print(said, highlight=False, soft_wrap=True)
    console.print(
        f"Next, in other commands: --forget 'ranked(path=\"{out}\", n=100)'",
        highlight=False,
        soft_wrap=True,
    )


def memorisation_of(
    experiment: Experiment, subsampling: Subsampling, *, seed: int, watch: Watch
) -> np.ndarray:
    """Memorisation [N] of the training samples, from models trained on random subsets of them
    (`requests.subsampled_memorisation`).

    Where a sample has an exact copy among the training samples, a model that lacks one of the two
    has mostly seen the other, so neither counts as memorised.
    """
    inside = subsampling.inside()
    whole, layer = experiment.data.train, experiment.layer
    included = subsets(len(whole), subsampling.models, inside, seed)
    found = np.empty(included.shape)
    for number, rows in enumerate(included):
        own = seeds.derive(seed, "memorisation", number) % 2**31
        log = watch(
            f"memorisation: model {number + 1} of {len(included)}", experiment.recipe.epochs
        )
        model = experiment.new_model(own)
        fit_recipe(
            model,
            whole.subset(np.flatnonzero(rows)),
            experiment.recipe,
            engine=experiment.engine,
            seed=own,
            layer=layer,
            log=log,
        )
        # exp(−loss) is the probability of the label.
        found[number] = np.exp(
            -model_scores(logits_of(model, whole, experiment.engine, layer), whole.labels(), "loss")
        )
    return subsampled_memorisation(found, included)


def subsets(n: int, models: int, inside: int, seed: int) -> np.ndarray:
    """Bools [models, n]: which samples each model is trained with. Each sample is in exactly
    `inside` subsets, drawn for it alone.

    Deviation from subsets of one size: every sample gets equally many models on both sides, and the
    sizes vary a little.
    """
    rng = np.random.default_rng(seeds.derive(seed, "memorisation", "subsets"))
    return rng.random((models, n)).argsort(axis=0).argsort(axis=0) < inside


def logits_of(model: nn.Module, source: Source, engine: Engine, layer: str | None) -> np.ndarray:
    """Logits [N, C] of all samples in their order. Errors: labels outside the head, no linear head
    and no layer named.
    """
    rows = [
        outputs.logits.cpu() for _, outputs in engine.forward(widened(model), source, layer=layer)
    ]
    logits = torch.cat(rows).numpy()
    check_label_range(source.labels(), logits.shape[1])
    return logits


def _memorisation(
    specs: Specs,
    source: Path | None,
    subsampling: Subsampling,
    seed: int,
    layer: str,
    engine: Engine,
) -> tuple[Experiment, np.ndarray]:
    if source is not None:
        raise EigenforgetError(
            f"memorisation is estimated from models trained anew, not from {source}; --score loss, confidence and margin are read off one"
        )
    missing = [f"--{name}" for name in ("data", "model") if not getattr(specs, name)]
    if missing:
        raise EigenforgetError(
            f"memorisation is estimated from models trained anew; give {' and '.join(missing)}"
        )
    subsampling.inside()
    experiment = replace(experiment_of(specs, engine), layer=layer or None)
    with progress() as watch:
        return experiment, memorisation_of(experiment, subsampling, seed=seed, watch=watch)


def _of_model(
    specs: Specs, source: Path | None, score: ModelScore, layer: str, engine: Engine
) -> tuple[Experiment, np.ndarray]:
    if source is None:
        raise EigenforgetError(
            f"--score {score} is read off one trained model; give its checkpoint"
        )
    loaded = checkpoint.load_checkpoint(source)
    experiment = replace(
        experiment_of(completed(specs, loaded.metadata), engine), layer=layer or None
    )
    whole = experiment.data.train
    logits = logits_of(experiment.stored_model(loaded), whole, engine, experiment.layer)
    return experiment, model_scores(logits, whole.labels(), score)
