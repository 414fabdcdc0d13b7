"""Whether checkpoints are what they are said to be: by the record beside, metadata and weights."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from eigenforget import record
from eigenforget.core import notices
from eigenforget.core.errors import EigenforgetError
from eigenforget.core.text import joined
from eigenforget.experiments.data_facts import DataFacts
from eigenforget.experiments.experiment import Experiment
from eigenforget.models import checkpoint
from eigenforget.models.different import check_different
from eigenforget.record import SCHEMA, RunRecord
from eigenforget.requests import REQUESTS, split

_RECORD_MARK = SCHEMA.partition("/")[0].encode()
_SPECS = ("data", "model", "recipe", "request", "method", "unseen")


class CheckpointFile(NamedTuple):
    """A checkpoint, and what is known of how it was made.

    Attributes:
        path: Its file.
        stored: Weights and metadata.
        made: The record beside it, which names this very file; None where there is none.
    """

    path: Path
    stored: checkpoint.Checkpoint
    made: RunRecord | None = None

    @classmethod
    def read(cls, path: Path, weights: str = "") -> CheckpointFile:
        """The checkpoint in a file, with the record beside it.

        Args:
            path: The file.
            weights: The key of the weights in it, where there are several sets.

        Raises:
            EigenforgetError: It cannot be read, or the record is one of another file or says
                something else than the metadata.
        """
        found = cls(path, checkpoint.load_checkpoint(path, weights=weights))
        made = _record_beside(path)
        if made is not None:
            _check_record(found, made)
        return found._replace(made=made)

    def warn_without_record(self) -> None:
        """Warns that there is no record, where one was written."""
        if self.made is None and self.stored.metadata.get("eigenforget"):
            notices.warn(
                f"{self.path.name} has no record beside it ({self.path.stem}.json): its metadata "
                "say how it was made, and its cost is unknown"
            )

    def entry(self, key: str) -> str:
        """What metadata, or else the record, say: a spec, or the kind of run; "" for nothing."""
        told = "" if self.made is None else _told(self.made, key)
        return self.stored.metadata.get(key, "") or told

    @property
    def weights_digest(self) -> str:
        """The `model_digest` of the weights in it."""
        return checkpoint.tensors_digest(self.stored.tensors)

    @property
    def unseen_digest(self) -> str:
        """The digest of the unseen samples that it saw, from metadata or record; "" for none."""
        entry = {} if self.made is None else self.made.job.get("unseen")
        told = entry.get("digest", "") if isinstance(entry, Mapping) else ""
        return self.stored.metadata.get("unseen_digest", "") or str(told)


def _record_beside(path: Path) -> RunRecord | None:
    """The record that has the name of the checkpoint; None where there is none."""
    beside = path.with_suffix(".json")
    if not os.path.lexists(beside):
        return None
    if _RECORD_MARK not in record.read_bytes(beside):
        notices.warn(
            f"{beside.name} beside {path.name} is not a record of a run (no {SCHEMA!r} in it) and "
            "is not used"
        )
        return None
    return record.read(beside)


def _check_record(file: CheckpointFile, made: RunRecord) -> None:
    """Checks that a record is about this very file, and says what the metadata say."""
    outputs, digest = made.outcome.outputs, record.file_digest(file.path)
    beside = file.path.with_suffix(".json").name
    cure = f"put the right record there, or remove {beside}: then its origin counts as unknown"
    named = outputs.get(f"file:{file.path.name}")
    weights = file.weights_digest
    # Under another name or in another format it is known by its content.
    same = named == digest if named else digest in outputs.values()
    if not same and not (named is None and weights == outputs.get("model")):
        told = named or outputs.get("model") or "no model"
        raise EigenforgetError(
            f"{file.path}: is not the model of the record beside it: {beside} names {told}, and "
            f"this file is {digest}, with the weights {weights}; {cure}"
        )
    role, pairs = made.job.get("role", "unlearned"), made.job.get("near_duplicates", {})
    if role not in ("unlearned", "control") or not isinstance(pairs, Mapping):
        raise EigenforgetError(
            f"{file.path.with_suffix('.json')}: no run writes the role {role!r} with the near "
            f"duplicates {pairs!r:.60}; {cure}"
        )
    for key in ("eigenforget", *_SPECS):
        ours, theirs = file.stored.metadata.get(key, ""), _told(made, key)
        if ours and theirs and ours != theirs:
            raise EigenforgetError(
                f"{file.path}: its metadata and the record beside it disagree on {key}: {ours!r}, "
                f"and in {beside} {theirs!r}; {cure}"
            )


def _told(made: RunRecord, key: str) -> str:
    """What a record says of a spec, or as "eigenforget" of its kind; "" for nothing."""
    if key == "eigenforget":
        return made.kind
    entry = made.job.get(key)
    return str(entry.get("spec", "")) if isinstance(entry, Mapping) else ""


def trained_original(file: CheckpointFile) -> CheckpointFile | None:
    """The trained model that a checkpoint goes back to, by the records beside the checkpoints.

    None where a file between them is no longer there, or is another one.
    """
    while file.entry("eigenforget") == "unlearn":
        before = _made_from(file)
        if before is None:
            return None
        file = before
    return file


def _made_from(file: CheckpointFile) -> CheckpointFile | None:
    """The checkpoint in the same folder that the record names as what it was made from."""
    for key, digest in ({} if file.made is None else file.made.inputs).items():
        path = file.path.parent / key.removeprefix("file:")
        if key != f"file:{path.name}" or not path.is_file() or record.file_digest(path) != digest:
            continue
        try:
            return CheckpointFile.read(path)
        except EigenforgetError:
            continue  # a list of ids, or another file that the job read
    return None


def check_original_and_oracles(
    original: CheckpointFile, oracles: Sequence[CheckpointFile], experiment: Experiment
) -> None:
    """Checks that the original and the oracles can be what they are given as.

    A checkpoint that does not say how it was made is taken for what it is given as.

    Raises:
        EigenforgetError: The original was made by unlearning; or an oracle is the original, is
            given twice, or was trained without other data than the request's.
    """
    if original.entry("eigenforget") == "unlearn":
        raise EigenforgetError(
            f"--original {original.path} was made by unlearning, with "
            f"{original.entry('method')}; give the model before that"
        )
    check_different(
        {str(original.path): original.weights_digest},
        [(f"--oracle {oracle.path}", oracle.weights_digest) for oracle in oracles],
    )
    for oracle in oracles:
        _check_retrained(oracle, experiment)
    recipes: dict[str, str] = {}
    for file in (original, *oracles):
        recipes.setdefault(file.entry("recipe"), file.path.name)
    told = [f"{path} by {recipe}" for recipe, path in recipes.items() if recipe]
    if len(told) > 1:
        notices.warn(
            f"original and retrained models were trained in different ways ({joined(told)}): what "
            "tells them apart may be the training and not the forget set"
        )


def warn_of_doubts(
    original: CheckpointFile, models: Sequence[CheckpointFile], experiment: Experiment
) -> None:
    """Warns of each model that was not made from the original to forget what is asked for."""
    known = {record.file_digest(original.path), original.weights_digest}
    for model in models:
        made_from = {} if model.made is None else model.made.inputs
        if "input_model" in made_from and known.isdisjoint(made_from.values()):
            first = trained_original(model)  # after a second request it is a model further back
            if first is None or first.weights_digest not in known:
                notices.warn(
                    f"{model.path.name} was made from another model than {original.path.name}: its "
                    f"record names {made_from['input_model']}"
                )
        if model.entry("eigenforget") == "train":
            notices.warn(
                f"{model.path.name} was made by training, not by unlearning; it is measured as an "
                "unlearned model"
            )
        elif _split_of(model, experiment) not in (None, experiment.split.digest):
            notices.warn(
                f"{model.path.name} was made to forget {model.entry('request')}, which is not what "
                "is asked for now"
            )


def _check_retrained(oracle: CheckpointFile, experiment: Experiment) -> None:
    kind, method = oracle.entry("eigenforget"), oracle.entry("method")
    if kind == "unlearn" and not method.startswith("retrain("):
        raise EigenforgetError(f"--oracle {oracle.path} was not retrained but made by {method}")
    if kind == "train" and not oracle.entry("request"):
        raise EigenforgetError(
            f"--oracle {oracle.path} was trained on all of the data; a retrained model is trained "
            "--without the request"
        )
    if _split_of(oracle, experiment) not in (None, experiment.split.digest):
        raise EigenforgetError(
            f"--oracle {oracle.path} was trained without {oracle.entry('request')}, which is not "
            "what is asked for"
        )


def _split_of(file: CheckpointFile, experiment: Experiment) -> str | None:
    """The digest of the checkpoint's split; None where it cannot be known here.

    It is told where the data is as it was; else the request is drawn again.
    """
    facts = DataFacts.read(file.stored.metadata)
    if facts.split and facts.data == experiment.data.digest:
        return facts.split
    try:
        request = REQUESTS.parse(file.entry("request"))
        return split(request, experiment.data.train_index).digest
    except EigenforgetError:
        return None  # another data set, a hidden name, a file that is gone
