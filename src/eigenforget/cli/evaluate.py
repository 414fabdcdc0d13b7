"""`eigenforget evaluate`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from eigenforget.cli.options import (
    FLAT,
    MEASURING,
    TRAINED,
    Audits,
    Layers,
    Maps,
    MeasuringOptions,
    Metrics,
    Out,
    Overwrite,
    RequestSpec,
    Require,
    Seed,
    Skip,
    Track,
    TrainedOptions,
    WeightsKey,
)
from eigenforget.cli.terminal import engine, progress, say, show_results
from eigenforget.core.errors import EigenforgetError
from eigenforget.evaluation.records import write_results
from eigenforget.evaluation.scoring import check_skip, chosen_audits, chosen_metrics
from eigenforget.evaluation.series import check_maps
from eigenforget.experiments.checkpoints import Checkpoints, compare
from eigenforget.experiments.results import PLAIN, Output, Recording
from eigenforget.experiments.specs import Specs
from eigenforget.record import RunRecord
from eigenforget.report import requirements
from eigenforget.training import trackers


def evaluate(
    models: Annotated[
        tuple[Path, ...], Parameter(help="checkpoints of unlearned models", negative=())
    ] = (),
    /,
    *,
    original: Annotated[Path, Parameter(help="checkpoint of the original, before unlearning")],
    forget: RequestSpec,
    out: Out,
    oracle: Annotated[
        tuple[Path, ...],
        Parameter(help="checkpoint retrained without the forget set; repeatable", negative=()),
    ] = (),
    peer: Annotated[
        tuple[Path, ...],
        Parameter(
            help="checkpoint made in the same way as the unlearned model, from another training "
            "seed; repeatable",
            negative=(),
        ),
    ] = (),
    trained: TrainedOptions = TRAINED,
    unseen: Annotated[
        str,
        Parameter(
            help="test samples that the method saw; they are left out of the measurement. A share "
            "such as 0.1, or a text file with one id per line"
        ),
    ] = "",
    weights: WeightsKey = "",
    also_layer: Layers = (),
    metric: Metrics = (),
    audit: Audits = (),
    skip: Skip = (),
    maps: Maps = (),
    seed: Seed = 0,
    measuring: MeasuringOptions = MEASURING,
    recording: Annotated[Recording, FLAT] = PLAIN,
    require: Require = (),
    track: Track = (),
    overwrite: Overwrite = False,
) -> None:
    r"""Measure models, and compare them with the original and with retrained models (oracles).

    The folder --out receives a table, records and one HTML page. With three or more oracles, every
    score has a band. With one model, two or more peers and three or more oracles, attacks with
    shadow models (U-LiRA) run too. Exit code 1 if a --require does not hold. The results are
    written in any case.

    Example:
        eigenforget evaluate unlearned.safetensors --original original.safetensors \
            --forget 'by_class(label=3)' --out results
    """
    wanted = [requirements.parse_requirement(text) for text in require]
    if wanted and not models:
        raise EigenforgetError(
            "--require judges unlearned models, and no model was given to evaluate"
        )
    check_skip(skip, [item.name for item in (*chosen_metrics(metric), *chosen_audits(audit))])
    check_maps(maps)
    trackers.check_trackers(track)
    Output(out, recording, overwrite).check_folder()
    specs, paths = (
        Specs(request=forget, unseen=unseen, **asdict(trained)),
        Checkpoints(original, oracle, models, peer, weights),
    )
    given = compare(paths, specs, engine(**asdict(measuring)), salt=recording.hash_ids)
    say(f"inputs: {given.experiment.data.inputs_in_words}", wrap=False)
    experiment = given.experiment
    panel = experiment.panel(
        seed=seed, layers=also_layer, skip=skip, maps=maps, metrics=metric, audits=audit
    )
    leads = experiment.engine.leads
    with trackers.tracking(track, name=out.name, leads=leads) as tracked:
        with progress() as watch:
            found = experiment.evaluate(given.candidates, panel, peers=given.peers, watch=watch)
            chain = experiment.seal(list(found), recording)
        title = f"eigenforget: {recording.shown(forget, experiment.request)}"
        with experiment.engine.led() as leads:
            if leads:
                write_results(
                    chain.records,
                    out,
                    title=title,
                    overwrite=overwrite,
                    split=chain.split,
                    ledger=recording.ledger,
                )
                show_results(chain.records, out)
        for item in chain.records:
            tracked.scores(item.name, {score.name: score.value for score in item.scores})
    if leads and wanted:
        _judge(wanted, chain.records)


def _judge(wanted: Sequence[requirements.Requirement], records: Sequence[RunRecord]) -> None:
    """Prints a line for each requirement and model; ends with code 1 if one does not hold."""
    judged = requirements.judge_records(wanted, records)
    for item in judged:
        say(item.line, wrap=False)
    if not all(item.holds for item in judged):
        raise SystemExit(1)
