"""`eigenforget train`."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

from cyclopts import Parameter

from eigenforget.cli.options import (
    FLAT,
    TRAINING,
    DataSpec,
    Layer,
    ModelSpec,
    Out,
    Overwrite,
    RecipeSpec,
    Seed,
    Track,
    TrainingOptions,
)
from eigenforget.cli.terminal import engine, progress, say
from eigenforget.core import notices
from eigenforget.experiments.experiment import Experiment, Run
from eigenforget.experiments.results import PLAIN, Output, Recording
from eigenforget.experiments.specs import Specs
from eigenforget.training import trackers
from eigenforget.training.log import both


def train(
    *,
    data: DataSpec,
    model: ModelSpec,
    out: Out,
    recipe: RecipeSpec = "recipe()",
    without: Annotated[
        str,
        Parameter(
            help="request whose samples are left out of the training data; makes an oracle",
        ),
    ] = "",
    layer: Layer = "",
    seed: Seed = 0,
    training: TrainingOptions = TRAINING,
    recording: Annotated[Recording, FLAT] = PLAIN,
    track: Track = (),
    overwrite: Overwrite = False,
) -> None:
    """Train a model. With --without REQUEST, train an oracle, which never sees the forget set.

    Example:
        eigenforget train --data 'digits()' --model 'mlp()' --out original.safetensors
    """
    specs = Specs(data=data, model=model, recipe=recipe, request=without, layer=layer)
    experiment = Experiment.parse(specs, engine(**asdict(training)))
    output = Output(out, recording, overwrite)
    output.check_checkpoint()
    trackers.check_trackers(track)
    experiment.check(seed)
    say(f"inputs: {experiment.data.inputs_in_words}", wrap=False)
    leads = experiment.engine.leads
    with progress() as watch, trackers.tracking(track, name=out.stem, leads=leads) as tracked:
        log = both(tracked.row, watch("train", experiment.recipe.epochs))
        made = experiment.train(seed=seed, without_forget=bool(without), log=log)
    known = experiment.recall(made.model)
    if known.guesses:
        notices.warn(f"the model has not learned its training data: {known.doubt()}")
    with experiment.engine.led() as leads:
        if leads:
            experiment.save(Run("train", made, {"seed": seed, "recall": known.as_json()}), output)
            say(f"wrote {out} and {out.with_suffix('.json')} ({made.seconds:.1f} s)")
