"""Whether checkpoints are what they are said to be, as far as metadata and weights can tell."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from eigenforget.core.errors import EigenforgetError
from eigenforget.experiments.experiment import Experiment
from eigenforget.models import checkpoint
from eigenforget.requests import REQUESTS, split


class CheckpointFile(NamedTuple):
    """A checkpoint with its path."""

    path: Path
    stored: checkpoint.Checkpoint

    @classmethod
    def read(cls, path: Path) -> CheckpointFile:
        """The checkpoint in a file."""
        return cls(path, checkpoint.load_checkpoint(path))

    def entry(self, key: str) -> str:
        """An entry of the metadata; "" where there is none."""
        return self.stored.metadata.get(key, "")


def check_references(
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
    seen = {checkpoint.tensors_digest(original.stored.tensors): original}
    for oracle in oracles:
        same = seen.setdefault(checkpoint.tensors_digest(oracle.stored.tensors), oracle)
        if same is not oracle:
            raise EigenforgetError(
                f"--oracle {oracle.path} has the very weights of {same.path}; retrain one for "
                "each, from seeds of their own"
            )
        _check_retrained(oracle, experiment)


def doubts(models: Sequence[CheckpointFile], experiment: Experiment) -> list[str]:
    """One line for each model that was made to forget something else than the request."""
    return [
        f"{model.path} was made to forget {model.entry('request')}, which is not what is asked "
        "for now"
        for model in models
        if _split_of(model, experiment) not in (None, experiment.split.digest)
    ]


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
    """The digest of the split by the checkpoint's request; None where it cannot be known here."""
    try:
        request = REQUESTS.parse(file.entry("request"))
        return split(request, experiment.data.train_index).digest
    except EigenforgetError:
        return None  # another data set, a hidden name, a file that is gone
