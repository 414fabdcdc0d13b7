"""`eigenforget unlearn`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter
from torch import nn

from eigenforget.cli.options import (
    FLAT,
    TRAINED,
    TRAINING,
    MethodSpec,
    Out,
    Overwrite,
    RequestSpec,
    RetainFraction,
    Seed,
    Track,
    TrainedOptions,
    TrainingOptions,
    Unseen,
    WeightsKey,
)
from eigenforget.cli.terminal import engine, progress, quoted, say
from eigenforget.core import notices
from eigenforget.core.errors import EigenforgetError
from eigenforget.core.spec import spell
from eigenforget.experiments.earlier_requests import Remaining, remaining
from eigenforget.experiments.experiment import Experiment, Run
from eigenforget.experiments.near_duplicates import similar_inputs, worth_a_search
from eigenforget.experiments.provenance import CheckpointFile, trained_original
from eigenforget.experiments.results import PLAIN, Output, Recording, file_of
from eigenforget.experiments.specs import Specs
from eigenforget.experiments.trained_data import check_recall, experiment_of
from eigenforget.methods import METHODS
from eigenforget.methods.base import Method
from eigenforget.methods.certified_head import certificate_of
from eigenforget.models import checkpoint as checkpoints
from eigenforget.models.state_files import weights_file
from eigenforget.models.unchanged import frozen_weights, unchanged_weights
from eigenforget.training import trackers
from eigenforget.training.cost import ModelAndCost
from eigenforget.training.log import both
from eigenforget.training.recall import Recall, warn_of_damage


def unlearn(
    checkpoint: Annotated[
        Path,
        Parameter(
            help="trained model: .safetensors, or a file of PyTorch, Lightning, Hugging Face"
        ),
    ],
    *,
    forget: RequestSpec,
    out: Out,
    method: MethodSpec = "muda()",
    trained: TrainedOptions = TRAINED,
    weights: WeightsKey = "",
    like: Annotated[
        Path | None,
        Parameter(help="save in the form of this file: the same kind, keys, names and types"),
    ] = None,
    retain_fraction: RetainFraction = 1.0,
    unseen: Unseen = "",
    seed: Seed = 0,
    training: TrainingOptions = TRAINING,
    recording: Annotated[Recording, FLAT] = PLAIN,
    track: Track = (),
    overwrite: Overwrite = False,
) -> None:
    r"""Make a model forget, and write the new checkpoint with a record beside it.

    The given checkpoint is not changed. By default, --data and --model are those that the
    checkpoint was trained with, if it records them.

    Example:
        eigenforget unlearn original.safetensors --forget 'by_class(label=3)' \
            --method 'muda()' --out unlearned.safetensors
    """
    specs = Specs(request=forget, retain_fraction=retain_fraction, unseen=unseen, **asdict(trained))
    chosen, output = METHODS.parse(method), Output(out, recording, overwrite, like, weights)
    output.check_checkpoint()
    if os.path.realpath(out) == os.path.realpath(checkpoint):
        raise EigenforgetError(f"--out {out} is the input checkpoint, which is never overwritten")
    trackers.check_trackers(track)
    file, place = CheckpointFile.read(checkpoint, weights), engine(**asdict(training))
    stored = file.stored
    experiment = experiment_of(checkpoint, stored, specs, place, salt=recording.hash_ids)
    say(f"inputs: {experiment.data.inputs_in_words}", wrap=False)
    left = _remaining(file, experiment, recording.hash_ids)
    model = left.experiment.stored_model(stored)
    experiment = check_recall(model, checkpoint, stored, left.experiment, specs)
    form = checkpoints.fitted(model, stored).form.line
    inputs = {**file_of(weights_file(checkpoint)), "input_model": checkpoints.model_digest(model)}
    job = _job(experiment, model, chosen) | {"seed": seed, **left.job}
    job |= {"form": form} if form else {}
    trace: list[Mapping[str, Any]] = []
    leads = experiment.engine.leads
    with progress() as watch, trackers.tracking(track, name=out.stem, leads=leads) as tracked:
        log = both(
            both(trace.append, tracked.row), watch(f"unlearn: {chosen.name}", chosen.log_rows)
        )
        result = experiment.try_unlearn(model, chosen, seed=seed, log=log, only=left.new)
    if isinstance(result, ModelAndCost):
        job |= _found(experiment, model, result.model, chosen)
    with experiment.engine.led() as leads:
        if leads:
            experiment.save(Run("unlearn", result, job, inputs, trace), output)
    if not isinstance(result, ModelAndCost):
        raise result
    if (stayed := job.get("frozen_weights")) is not None:
        say(f"{stayed['said']}: {stayed['share']:.1%} of the weights", wrap=False)
    say(f"wrote {out} and {out.with_suffix('.json')} ({result.seconds:.1f} s)")
    options = {"weights": weights, "hash-ids": recording.hash_ids, "ledger": recording.ledger}
    asked = spell(experiment.request) if left.said else forget
    _say_next(out, trained_original(file), asdict(trained) | options | {"forget": asked})
    _say_oracles(experiment, asked)


def _remaining(file: CheckpointFile, experiment: Experiment, salt: Path | None) -> Remaining:
    """What the request leaves to forget; says what was forgotten before."""
    left = remaining(file, experiment, salt=salt)
    if left.said:
        say(left.said, wrap=False)
    return left


def _say_next(made: Path, original: CheckpointFile | None, options: dict[str, Any]) -> None:
    """Prints the command that measures the result."""
    named = "ORIGINAL" if original is None else str(original.path)
    words = ["eigenforget", "evaluate", str(made), "--original", named]
    for name in options.pop("allow"):
        words += ["--allow", name]
    for name, value in options.items():
        words += [f"--{name}", str(value)] if value else []
    words += ["--out", "results"]
    say(f"Next: {' '.join(map(quoted, words))}", wrap=False)


def _say_oracles(experiment: Experiment, forget: str) -> None:
    """Prints what a verdict takes, as a command where we know how the original was trained."""
    specs = {"data": experiment.data_spec, "model": experiment.model_spec}
    specs |= {"recipe": experiment.recipe} if experiment.trained_here else {}
    words = [word for name, value in specs.items() for word in (f"--{name}", spell(value))]
    command = ["eigenforget", "train", *words, "--without", forget]
    named = " ".join(map(quoted, command))
    say(
        "For a verdict, train three models as the original was, each with a seed of its own, and "
        "give them by --oracle FILE:"
    )
    say(f"  {named} --seed 1 --out oracle1.safetensors", wrap=False)


def _found(
    experiment: Experiment, original: nn.Module, made: nn.Module, method: Method
) -> dict[str, Any]:
    """What the record says of the result. Warns if it lost what the original knew."""
    known = experiment.recall(made)
    before = Recall.from_json(experiment.remarks.get("original_recall"))
    if before is not None and method.role == "unlearned":
        warn_of_damage(method.name, known, before)
    return {
        **unchanged_weights(original, after=made),
        **frozen_weights(original, after=made),
        **certificate_of(made),
        "recall": known.as_json(),
    }


def _job(experiment: Experiment, model: nn.Module, method: Method) -> dict[str, Any]:
    """What the record says about the task. Warns if retain samples nearly equal forget samples."""
    experiment.check_layer(model)
    job = {
        "method": experiment.method_in_words(method),
        "role": method.role,
        "retain_fraction": experiment.retain_fraction,
        "sizes": experiment.sizes(),
    }
    if not worth_a_search(experiment):
        return job
    found = similar_inputs(experiment)
    if found.pairs:
        notices.warn(found.doubt)
    pairs = [list(pair) for pair in found.pairs[:10]]
    return job | {"near_duplicates": {"total": found.total, "pairs": pairs}}
