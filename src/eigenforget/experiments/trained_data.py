"""Whether data is what a checkpoint was trained on, and whether its model knows it."""

from __future__ import annotations

from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from eigenforget.core import notices
from eigenforget.core.errors import EigenforgetError, naming
from eigenforget.data.bundle import Data
from eigenforget.data.normalisation import Normalisation
from eigenforget.experiments.data_facts import DataFacts, described_changes
from eigenforget.experiments.experiment import Experiment
from eigenforget.experiments.specs import CHANGED_DATA, POOR_ORIGINAL, Specs
from eigenforget.models.checkpoint import Checkpoint
from eigenforget.training.engine import Engine
from eigenforget.training.recall import NEVER_LEARNED, REASONS

_WAY_ON = (
    "give the data as it was (--data; rows that were deleted since can be put back at the end of "
    f"the file), or --allow {CHANGED_DATA}"
)


def experiment_of(
    path: Path, stored: Checkpoint, specs: Specs, engine: Engine, *, salt: Path | None = None
) -> Experiment:
    """The experiment of a checkpoint, on the data that it was trained on.

    Missing specs are taken from the checkpoint. If the data changed and the specs allow that, rows
    that the model knows stay on their side, new and changed rows are left out, and values are
    normalised as before. The record says so.

    Args:
        path: The checkpoint.
        stored: What is in it.
        specs: The specs of the job.
        engine: Where it computes.
        salt: File with the salt under which ids are hidden.

    Raises:
        EigenforgetError: The data, or what is done to its values, is not as it was.
    """
    completed = specs.completed(stored.metadata)
    experiment = Experiment.parse(completed, engine)
    experiment = replace(experiment, trained_here=bool(completed.recipe))
    _ = experiment.data  # whose own errors name its files
    with naming(str(path)):
        facts = DataFacts.read(stored.metadata)
        if facts.data and facts.data != experiment.data.digest:
            experiment = _as_trained(experiment, facts, path, specs, salt)
        facts.check_inputs(experiment.data)
    if specs.allow:
        remarks = {**experiment.remarks, "allowed": sorted(set(specs.allow))}
        experiment = replace(experiment, loaded=experiment.data, remarks=remarks)
    return experiment


def check_same_data(path: Path, stored: Checkpoint, original: Checkpoint, data: Data) -> None:
    """Checks that a checkpoint was made from the data of the original, and from the same inputs.

    Args:
        path: The checkpoint.
        stored: What is in it.
        original: The original.
        data: The data that all are measured on; its digest counts for an original that tells of
            none.

    Raises:
        EigenforgetError: It was made from other data, or from other inputs, as by another
            normalisation.
    """
    facts = DataFacts.read(stored.metadata)
    if facts.data and facts.data != (DataFacts.read(original.metadata).data or data.digest):
        raise EigenforgetError(
            f"{path} was made from other data than the original; compare models of the same data, "
            f"or give --allow {CHANGED_DATA}"
        )
    with naming(str(path)):
        facts.check_inputs(data, cure="compare models that were made from the same inputs")


def check_recall(
    model: nn.Module, path: Path, stored: Checkpoint, experiment: Experiment, specs: Specs
) -> Experiment:
    """Checks that the original knows its training data; the record has what it knows.

    Raises:
        EigenforgetError: It hardly does, and the specs do not allow that.
    """
    found = experiment.recall(model)
    before = DataFacts.read(stored.metadata).recall
    doubt = found.doubt(before)
    if doubt and POOR_ORIGINAL not in specs.allow:
        why = NEVER_LEARNED if before is not None and before.guesses else REASONS
        raise EigenforgetError(f"{path}: {doubt}; {why}; --allow {POOR_ORIGINAL} continues anyway")
    if doubt:
        notices.warn(f"the original may not know its training data: {doubt}")
    remarks = {**experiment.remarks, "original_recall": found.as_json()}
    return replace(experiment, loaded=experiment.data, remarks=remarks)


def _as_trained(
    experiment: Experiment, facts: DataFacts, path: Path, specs: Specs, salt: Path | None
) -> Experiment:
    """The experiment on what is left of the data that the model was trained on."""
    known = facts.known_rows(path, salt)
    words, counts = described_changes(known, experiment.data)
    if CHANGED_DATA not in specs.allow:
        raise EigenforgetError(f"the data is not what it was trained on: {words}; {_WAY_ON}")
    spec = _pinned(experiment.data_spec, facts.normalisation)
    experiment = replace(experiment, data_spec=spec, loaded=None)
    if known is not None:
        experiment = replace(experiment, loaded=known.divided(experiment.data))
    notices.warn(
        f"{path.name} was trained on other data ({words}); only rows that it knows are used, "
        "each on the side where it was"
        if known is not None
        else f"{path.name} was trained on other data, and which rows differ is not known: training "
        "rows may be among the test rows"
    )
    remarks = {"changed_data": {"trained_on": facts.data, **counts}}
    return replace(experiment, remarks={**experiment.remarks, **remarks})


def _pinned(spec: Any, normalisation: Normalisation | None) -> Any:
    """The data set with the numbers of a checkpoint in the place of those of its training rows."""
    if normalisation is None or not is_dataclass(spec) or isinstance(spec, type):
        return spec
    changed = {
        f.name: _pinned(getattr(spec, f.name), normalisation)
        for f in fields(spec)
        if is_dataclass(getattr(spec, f.name))
    }
    if getattr(spec, "normalize", None) == "train":
        changed["normalize"] = normalisation.spelled()
    return replace(spec, **changed) if changed else spec
