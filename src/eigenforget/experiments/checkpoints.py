"""Checkpoints to compare: read, checked against each other, and made candidates for measuring."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from torch import nn

from eigenforget.core.errors import EigenforgetError
from eigenforget.core.text import listed
from eigenforget.core.types import Index
from eigenforget.experiments.data_facts import row_key
from eigenforget.experiments.earlier_requests import warn_of_unseen
from eigenforget.experiments.experiment import Candidate, Experiment, described
from eigenforget.experiments.provenance import (
    CheckpointFile,
    check_original_and_oracles,
    warn_of_doubts,
)
from eigenforget.experiments.results import file_of
from eigenforget.experiments.specs import CHANGED_DATA, Specs
from eigenforget.experiments.trained_data import check_recall, check_same_data, experiment_of
from eigenforget.experiments.unseen import UnseenSamples, digest_of_unseen
from eigenforget.methods import METHODS
from eigenforget.record.fields import check_names
from eigenforget.record.schema import Role
from eigenforget.training.cost import ModelAndCost
from eigenforget.training.engine import Engine


@dataclass(frozen=True)
class Checkpoints:
    """Files of models to compare.

    Attributes:
        original: The model before unlearning.
        oracles: Models that were trained without the forget set.
        models: Unlearned models.
        peers: Models made like the one unlearned model, from other training seeds.
        weights: The key of the weights in files that hold several sets of them.
    """

    original: Path
    oracles: tuple[Path, ...]
    models: tuple[Path, ...] = ()
    peers: tuple[Path, ...] = ()
    weights: str = ""

    def named(self) -> list[tuple[str, Role, Path]]:
        """Names, roles and files of all that are measured.

        Raises:
            EigenforgetError: Two of them have one name, or there are peers of several models.
        """
        if self.peers and len(self.models) != 1:
            raise EigenforgetError(
                f"--peer names models made like the one that is evaluated; {len(self.models)} "
                "models were given"
            )
        found: list[tuple[str, Role, Path]] = [("original", "original", self.original)]
        found += [(f"oracle {i}", "oracle", path) for i, path in enumerate(self.oracles, start=1)]
        found += [(path.stem, "unlearned", path) for path in self.models]
        names = [name for name, _, _ in found]
        if len(set(names)) < len(names):
            raise EigenforgetError(
                f"models take their file names, which must differ: {listed(names)}"
            )
        check_names(names, "the name of a model's file")
        return found


class Comparison(NamedTuple):
    """What checkpoints hold.

    Attributes:
        experiment: The experiment that they belong to.
        candidates: The models to measure: original, oracles, unlearned models.
        peers: Models made like the one unlearned model.
    """

    experiment: Experiment
    candidates: list[Candidate]
    peers: list[nn.Module]


def compare(
    paths: Checkpoints, specs: Specs, engine: Engine, *, salt: Path | None = None
) -> Comparison:
    """Reads the checkpoints. Missing specs are taken from the original.

    It warns of a model that may not be what was meant.

    Raises:
        EigenforgetError: A file cannot be read, or the models cannot be compared.
    """
    named = paths.named()
    files = [CheckpointFile.read(path, paths.weights) for *_, path in named]
    peers = [CheckpointFile.read(path, paths.weights) for path in paths.peers]
    for file in (*files, *peers):
        file.warn_without_record()
    original = files[0].path, files[0].stored
    experiment = experiment_of(*original, specs, engine, salt=salt)
    if CHANGED_DATA not in specs.allow:
        for file in (*files[1:], *peers):
            check_same_data(file.path, file.stored, original[1], experiment.data)
    last = 1 + len(paths.oracles)
    check_original_and_oracles(files[0], files[1:last], experiment)
    warn_of_unseen(files[0], experiment)
    warn_of_doubts(files[0], [*files[last:], *peers], experiment)
    experiment = replace(experiment, unseen=_unseen([*files, *peers], experiment, salt))
    models = [experiment.stored_model(file.stored) for file in files]
    experiment = check_recall(models[0], *original, experiment, specs)
    return Comparison(
        experiment,
        [
            _candidate(name, role, model, file)
            for (name, role, _), model, file in zip(named, models, files, strict=True)
        ],
        [experiment.stored_model(file.stored) for file in peers],
    )


def _unseen(
    files: Sequence[CheckpointFile], experiment: Experiment, salt: Path | None
) -> tuple[UnseenSamples, ...]:
    """The test samples that any of the models saw, beside those that the experiment names.

    Raises:
        EigenforgetError: Which samples a model saw cannot be known any more.
    """
    found, test = dict.fromkeys(experiment.unseen), experiment.data.test_index
    for file in files:
        spec = file.entry("unseen")
        if not spec:
            continue
        named: list[UnseenSamples | str] = [*experiment.unseen, spec]
        for choice in named:
            seen = _choice_of_digest(choice, file.unseen_digest, test, salt)
            if seen is not None:
                found[seen] = None
                break
        else:
            raise EigenforgetError(
                f"{file.path}: saw {spec} of the test side as unseen samples, which are no longer "
                "the same: the data or the list of ids changed, or ids are hidden (--hash-ids); "
                "name them with --unseen FILE"
            )
    return tuple(found)


def _choice_of_digest(
    choice: UnseenSamples | str, digest: str, test: Index, salt: Path | None
) -> UnseenSamples | None:
    """The choice, where it still gives the samples of this digest."""
    try:
        parsed = UnseenSamples.parse(choice) if isinstance(choice, str) else choice
        ids = test.ids[parsed.rows(test)]
    except EigenforgetError:
        return None  # a list of ids that is gone, or of ids that are
    known = {digest_of_unseen(ids, key) for key in (b"", row_key(salt))}
    return parsed if digest in known else None


def _candidate(name: str, role: Role, model: nn.Module, file: CheckpointFile) -> Candidate:
    """The model, with what the record beside its checkpoint says of how it was made.

    Without a record, the metadata say by which method, so that a control stays a control.
    """
    job: dict[str, Any] = {"checkpoint": file.path.name}
    inputs, made, method = file_of(file.path), file.made, file.entry("method")
    if made is None:
        if method:
            chosen = METHODS.parse(method)
            job["method"] = described(chosen)
            role = chosen.role if role == "unlearned" else role
        return Candidate(name, role, ModelAndCost(model, 0.0, {}), job, inputs)
    job |= {key: made.job[key] for key in ("method", "near_duplicates") if key in made.job}
    if role == "unlearned":
        role = made.job.get("role", role)
    spent = ModelAndCost(model, made.outcome.seconds, made.outcome.cost)
    return Candidate(name, role, spent, job, inputs, made.series.get("trace", ()))
