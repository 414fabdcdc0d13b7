"""`eigenforget scores`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from cyclopts import Parameter

from eigenforget.cli.options import (
    DEVICE,
    FLAT,
    TRAINED,
    DeviceOptions,
    Out,
    Overwrite,
    RecipeSpec,
    Seed,
    TrainedOptions,
)
from eigenforget.cli.terminal import engine, progress, say
from eigenforget.core.errors import EigenforgetError
from eigenforget.core.text import joined
from eigenforget.experiments.experiment import Experiment
from eigenforget.experiments.memorisation import Subsampling, memorisation_of, sample_logits
from eigenforget.experiments.specs import Specs
from eigenforget.experiments.trained_data import experiment_of
from eigenforget.experiments.worst_case import WorstCaseSearch, worst_case_of
from eigenforget.models.checkpoint import load_checkpoint
from eigenforget.record import check_place
from eigenforget.requests import model_scores, write_scores
from eigenforget.requests.scores import check_scores_path
from eigenforget.training.engine import Engine

_SUBSAMPLING, _SEARCH, _RECIPE = Subsampling(), WorstCaseSearch(), "recipe()"


def scores(
    checkpoint: Annotated[
        Path | None, Parameter(help="trained model, for loss, confidence, margin and worst_case")
    ] = None,
    /,
    *,
    out: Out,
    score: Annotated[
        Literal["memorisation", "loss", "confidence", "margin", "worst_case"],
        Parameter(
            help="memorisation trains models on random subsets; worst_case unlearns sets of "
            "samples from a checkpoint; the others only evaluate the checkpoint"
        ),
    ] = "memorisation",
    trained: TrainedOptions = TRAINED,
    recipe: RecipeSpec = _RECIPE,
    subsampling: Annotated[Subsampling, FLAT] = _SUBSAMPLING,
    search: Annotated[WorstCaseSearch, FLAT] = _SEARCH,
    seed: Seed = 0,
    device: DeviceOptions = DEVICE,
    overwrite: Overwrite = False,
) -> None:
    """Score every training sample, for the requests ranked, by_memorisation and worst_case.

    The scores are written to a .csv or .jsonl file, by id. memorisation: how much more likely a
    model is to classify the sample correctly because it was trained on it (Feldman, Zhang). loss:
    the cross-entropy of the label. confidence: the largest probability. margin: the label's logit
    minus the largest other logit. worst_case: the --n samples with the highest scores are the set
    that a method found hardest to forget in a search.

    Example:
        eigenforget scores original.safetensors --score loss --out loss.csv
    """
    check_scores_path(out)
    check_place(out, overwrite=overwrite)
    _check_used(score, "memorisation", _given(subsampling, _SUBSAMPLING))
    _check_used(score, "memorisation", [] if recipe == _RECIPE else ["--recipe"])
    _check_used(score, "worst_case", _given(search, _SEARCH))
    if score == "worst_case":
        search.parsed()
    specs, place = Specs(recipe=recipe, **asdict(trained)), engine(**asdict(device))
    if score == "memorisation":
        experiment = _to_train(specs, checkpoint, place)
        subsampling.check()
        with progress() as watch:
            found = memorisation_of(experiment, subsampling, seed=seed, watch=watch)
    elif checkpoint is None:
        raise EigenforgetError(f"--score {score} takes one trained model; give its checkpoint")
    else:
        stored = load_checkpoint(checkpoint)
        experiment = experiment_of(checkpoint, stored, specs, place)
        whole, model = experiment.data.train, experiment.stored_model(stored)
        if score == "worst_case":
            with progress() as watch:
                found = worst_case_of(experiment, model, search, seed=seed, watch=watch)
        else:
            logits = sample_logits(model, whole, place, experiment.layer)
            found = model_scores(logits, whole.labels(), score)
    write_scores(out, experiment.data.train_index.ids, found, overwrite=overwrite)
    _say_written(out, found, score)
    request, n = ("worst_case", search.n) if score == "worst_case" else ("ranked", 100)
    say(f"Next, in other commands: --forget '{request}(path=\"{out}\", n={n})'", wrap=False)


def _given(options: Subsampling | WorstCaseSearch, default: Any) -> list[str]:
    """The options that are not at their defaults, as they are typed."""
    names = [field.name for field in fields(options)]
    return [f"--{n}" for n in names if getattr(options, n) != getattr(default, n)]


def _check_used(score: str, user: str, given: Sequence[str]) -> None:
    """Checks that options of one score are not given for another.

    Raises:
        EigenforgetError: They are; the message names them.
    """
    if given and score != user:
        verb = "belongs" if len(given) == 1 else "belong"
        raise EigenforgetError(f"{joined(given)} {verb} to --score {user}, not to {score}")


def _to_train(specs: Specs, checkpoint: Path | None, place: Engine) -> Experiment:
    """The experiment whose model is trained anew, for which no checkpoint may be given."""
    anew = "memorisation is estimated from models trained anew"
    if checkpoint is not None:
        raise EigenforgetError(
            f"{anew}, not from {checkpoint}; --score loss, confidence, margin and worst_case take "
            "one"
        )
    missing = [f"--{name}" for name in ("data", "model") if not getattr(specs, name)]
    if missing:
        raise EigenforgetError(f"{anew}; give {joined(missing)}")
    return Experiment.parse(specs, place)


def _say_written(out: Path, found: np.ndarray, score: str) -> None:
    say(
        f"wrote {out}: {score} of {len(found)} training samples, from {found.min():.4g} to "
        f"{found.max():.4g}",
        wrap=False,
    )
