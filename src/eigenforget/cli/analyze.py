"""`eigenforget analyze`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from eigenforget.cli.options import (
    MEASURING,
    TRAINED,
    HashIds,
    Layers,
    MeasuringOptions,
    Overwrite,
    RequestSpec,
    Seed,
    TrainedOptions,
    WeightsKey,
)
from eigenforget.cli.terminal import engine, progress, say
from eigenforget.core.errors import EigenforgetError
from eigenforget.evaluation.analysis import earlier_layers, measure_features
from eigenforget.evaluation.records import write_chain
from eigenforget.experiments.checkpoints import Checkpoints, Comparison, compare
from eigenforget.experiments.results import Recording, check_records
from eigenforget.experiments.specs import Specs
from eigenforget.record import RunRecord, check_place, transaction
from eigenforget.report.pages.analysis import headlines, render_analysis


def analyze(
    *,
    original: Annotated[Path, Parameter(help="checkpoint that was trained on all data")],
    oracle: Annotated[
        tuple[Path, ...],
        Parameter(help="checkpoint retrained without the forget set; repeatable", negative=()),
    ],
    forget: RequestSpec,
    out: Annotated[Path, Parameter(help="HTML page to write")] = Path("analysis.html"),
    records: Annotated[
        str,
        Parameter(
            help="folder of the records; default: beside the page, analysis-records for "
            "analysis.html"
        ),
    ] = "",
    trained: TrainedOptions = TRAINED,
    weights: WeightsKey = "",
    also_layer: Layers = (),
    seed: Seed = 0,
    measuring: MeasuringOptions = MEASURING,
    hash_ids: HashIds = None,
    overwrite: Overwrite = False,
) -> None:
    r"""Show on one page where a model places the features of data that it never saw.

    The page compares the original with retrained models, layer by layer, in words and figures.
    Three oracles or more show how much retrained models differ from each other. Without
    --also-layer, up to three earlier blocks are chosen, spread evenly over the depth of the model.

    Example:
        eigenforget train --data 'digits()' --model 'mlp()' --without 'by_class(label=3)' \
            --seed 1 --out oracle.safetensors
        eigenforget analyze --original original.safetensors --oracle oracle.safetensors \
            --forget 'by_class(label=3)' --out analysis.html
    """
    folder = Path(records) if records else out.with_name(f"{out.stem}-records")
    recording = Recording(hash_ids=hash_ids)
    check_place(out, overwrite=overwrite)
    check_records(folder, overwrite=overwrite)
    recording.check()
    if not oracle:
        raise EigenforgetError("analyze compares the original with at least one --oracle")
    specs = Specs(request=forget, **asdict(trained))
    given = compare(
        Checkpoints(original, oracle, weights=weights),
        specs,
        engine(**asdict(measuring)),
        salt=recording.hash_ids,
    )
    say(f"inputs: {given.experiment.data.inputs_in_words}", wrap=False)
    experiment = given.experiment
    chain = experiment.seal(_analysis_records(given, also_layer, seed), recording)
    title = f"Features of seen and unseen data: {recording.shown(forget, experiment.request)}"
    page = render_analysis(chain.records, title)
    with experiment.engine.led() as leads:
        if leads:
            with transaction(overwrite=overwrite) as step:
                write_chain(chain.records, step.draft(folder), split=chain.split)
                step.draft(out).write_text(page, encoding="utf-8")
    for line in headlines(chain.records):
        say(line)
    say(f"wrote {out} and {len(chain.records)} records in {folder}")


def _analysis_records(given: Comparison, also_layer: tuple[str, ...], seed: int) -> list[RunRecord]:
    """Unsealed records of the features of original and oracles."""
    experiment, models = given.experiment, [item.made.model for item in given.candidates]
    layers: Sequence[str] = also_layer or earlier_layers(
        models[0], experiment.retain, engine=experiment.engine, layer=experiment.layer
    )
    panel = experiment.panel(seed=seed, layers=layers)
    with progress() as watch:
        done = watch(f"features at {len(layers) + 1} layers", len(models))
        measured = measure_features(
            panel, models, [item.role for item in given.candidates], log=done
        )
    chosen = {
        "seed": seed,
        "layers": list(layers),
        "layers_chosen": "by the user" if also_layer else "automatically",
    }
    return [
        experiment.evaluation_record(
            item.name,
            item.made,
            found,
            job={"checkpoint": item.job["checkpoint"], **chosen},
            inputs=item.inputs,
        )
        for item, found in zip(given.candidates, measured, strict=True)
    ]
