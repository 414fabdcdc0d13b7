"""Commands that make models: parse every spec first, check outputs before work begins, then run and
write files atomically.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from eigenforget.cli.terminal import console, engine, one_thread, progress, show_results
from eigenforget.core.errors import Diverged, EigenforgetError, Refused
from eigenforget.core.spec import parse
from eigenforget.experiments.experiment import Experiment, described, problem
from eigenforget.experiments.near_duplicates import few_enough, twins
from eigenforget.experiments.results import (
    SPLIT,
    Recording,
    check_file,
    check_folder,
    file_of,
    keep,
    write_record,
    write_results,
)
from eigenforget.experiments.specs import Specs, completed, experiment_of
from eigenforget.experiments.study import Study
from eigenforget.methods import METHODS
from eigenforget.models import checkpoint
from eigenforget.models.features import find_layer
from eigenforget.models.unchanged import unchanged_weights
from eigenforget.record import Outcome
from eigenforget.training import trackers
from eigenforget.training.cost import ModelAndCost
from eigenforget.training.engine import Engine
from eigenforget.training.log import both


def demo(*, out: Path, label: int, seed: int, overwrite: bool) -> None:
    """`eigenforget demo`: see the command's help."""
    specs = Specs(
        "digits()",
        "small_resnet(width=16)",
        "recipe(epochs=20, batch_size=64)",
        f"by_class(label={label})",
    )
    chosen = (
        "muda(alternations=15, batch_size=32)",
        "finetune()",
        "random_label(epochs=3, lr=0.1)",
        "head_mask()",
    )
    study = Study(
        experiment_of(specs, engine(device="cpu")),
        [parse(m, METHODS, "method") for m in chosen],
        seed=seed,
    )
    study.experiment.split  # noqa: B018  (an unknown class must fail before any output is made)
    check_folder(out, overwrite)
    with progress() as watch, one_thread():
        kept = keep(study.records(watch), study.experiment, SPLIT)
    write_results(
        kept.records,
        out,
        title=f"eigenforget demo: forget digit {label}",
        overwrite=overwrite,
        split=kept.split,
    )
    show_results(kept.records, out)
    console.print(
        f"Open {out}/report.html in a browser. Next, a job of your own, from the same data:"
    )
    console.print(
        "  eigenforget train --data 'digits()' --model 'small_resnet(width=16)' --out original.safetensors",
        soft_wrap=True,
        highlight=False,
    )


def train(
    specs: Specs,
    *,
    out: Path,
    seed: int,
    layer: str,
    engine: Engine,
    recording: Recording,
    track: Sequence[str],
    overwrite: bool,
) -> None:
    """`eigenforget train`: a checkpoint and a record beside it. track: trackers that also get the
    log.
    """
    trackers.check_trackers(track)
    experiment = replace(experiment_of(specs, engine), layer=layer or None)
    checkpoint.check_target(out)
    check_file(out, overwrite)
    recording.check()
    experiment.new_model(seed)  # data and model fit each other, or nothing begins
    if specs.request:
        experiment.split  # noqa: B018  (fail before training)
    with (
        progress() as watch,
        trackers.tracking(track, name=out.stem, leads=engine.leads) as tracked,
    ):
        log = both(tracked.row, watch("train", experiment.recipe.epochs))
        made = experiment.train(seed=seed, without_forget=bool(specs.request), log=log)
    with engine.led() as leads:
        if leads:
            _save(
                experiment,
                made,
                out,
                kind="train",
                job={"seed": seed},
                recording=recording,
                overwrite=overwrite,
            )


def unlearn(
    source: Path,
    specs: Specs,
    *,
    method: str,
    out: Path,
    seed: int,
    retain_fraction: float,
    layer: str,
    engine: Engine,
    recording: Recording,
    track: Sequence[str],
    overwrite: bool,
) -> None:
    """`eigenforget unlearn`: a new checkpoint, a record and the split beside it; a refused or
    failed run leaves no checkpoint.

    track: trackers that also get the log.
    """
    trackers.check_trackers(track)
    chosen = parse(method, METHODS, "method")
    loaded, inputs = checkpoint.load_checkpoint(source), file_of(source)
    experiment = experiment_of(completed(specs, loaded.metadata), engine)
    experiment = replace(experiment, retain_fraction=retain_fraction, layer=layer or None)
    checkpoint.check_target(out)
    check_file(out, overwrite)
    if out.resolve() == source.resolve():
        raise EigenforgetError(f"--out {out} is the input checkpoint, which is never overwritten")
    recording.check()
    model = experiment.stored_model(loaded)
    if layer:
        find_layer(model, layer)
    job = {
        "seed": seed,
        "method": described(chosen),
        "role": chosen.role,
        "retain_fraction": retain_fraction,
    }
    job |= {"sizes": experiment.sizes()} | _near_duplicates(experiment)
    inputs["input_model"] = checkpoint.weights_digest(model)
    trace: list[Mapping[str, Any]] = []
    try:
        with (
            progress() as watch,
            trackers.tracking(track, name=out.stem, leads=engine.leads) as tracked,
        ):
            log = both(
                both(trace.append, tracked.row), watch(f"unlearn: {chosen.name}", chosen.log_rows)
            )
            made = experiment.unlearn(model, chosen, seed=seed, log=log)
    except (Refused, Diverged) as error:
        refused = experiment.record("unlearn", out.stem, problem(error), job=job, inputs=inputs)
        with engine.led() as leads:
            if leads:
                write_record(refused, experiment, out, recording=recording, overwrite=overwrite)
        raise
    job |= unchanged_weights(model, made.model)
    more = {"job": job, "inputs": inputs, "series": {"trace": trace}}
    with engine.led() as leads:
        if leads:
            _save(
                experiment,
                made,
                out,
                kind="unlearn",
                recording=recording,
                overwrite=overwrite,
                **more,
            )
    said = (
        ("data", specs.data),
        ("model", specs.model),
        ("layer", layer),
        ("hash-ids", recording.salt),
        ("ledger", recording.ledger),
    )
    given = "".join(f" --{name} '{value}'" for name, value in said if value)
    console.print(
        f"Next: eigenforget evaluate {out} --original {source}{given} --forget '{specs.request}' --out results",
        highlight=False,
    )


def _near_duplicates(experiment: Experiment) -> dict[str, Any]:
    """A warning and an entry for the record where retained samples are almost forgotten ones; {}
    where it was not looked for.
    """
    first = next(experiment.forget.batches(1)).inputs
    if not (
        few_enough(experiment) and isinstance(first, torch.Tensor) and first.is_floating_point()
    ):
        return {}
    found = twins(experiment)
    if found.pairs:
        console.print(f"warning: {found.warning()}", highlight=False, markup=False)
    return {
        "near_duplicates": {
            "total": found.total,
            "pairs": [list(pair) for pair in found.pairs[:10]],
        }
    }


def _save(
    experiment: Experiment,
    made: ModelAndCost,
    out: Path,
    *,
    kind: str,
    job: Mapping[str, Any],
    recording: Recording,
    overwrite: bool,
    **more: Any,
) -> None:
    spelled = {key: value["spec"] for key, value in experiment.job().items()}
    if "method" in job:
        spelled["method"] = job["method"]["spec"]
    if "request" in spelled:
        spelled["request"] = recording.shown(experiment, spelled["request"])
    out.parent.mkdir(parents=True, exist_ok=True)
    checkpoint.save_checkpoint(
        made.model, out, {"eigenforget": kind, **spelled}, overwrite=overwrite
    )
    outcome = Outcome(
        "ok",
        made.seconds,
        cost=made.cost,
        outputs={"model": checkpoint.weights_digest(made.model), **file_of(out)},
    )
    unsealed = experiment.record(kind, out.stem, outcome, job=dict(job), **more)
    write_record(unsealed, experiment, out, recording=recording, overwrite=overwrite)
    console.print(
        f"wrote {out} and {out.with_suffix('.json')} ({made.seconds:.1f} s)", highlight=False
    )
