"""Are the checkpoints that are to be compared what they are said to be? What their metadata and
weights can tell, before any work.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from eigenforget.core.errors import EigenforgetError
from eigenforget.core.spec import parse
from eigenforget.experiments.experiment import Experiment
from eigenforget.models import checkpoint
from eigenforget.requests import REQUESTS, split


class Given(NamedTuple):
    """A checkpoint that was named, and what is in it."""

    path: Path
    stored: checkpoint.Checkpoint

    def says(self, key: str) -> str:
        return self.stored.metadata.get(key, "")


def check_references(original: Given, oracles: Sequence[Given], experiment: Experiment) -> None:
    """Errors: the original is an unlearned model; a retrained model is the original, stands twice,
    or was trained with other data left out.

    A checkpoint that does not say how it was made is taken for what it is said to be.
    """
    if original.says("eigenforget") == "unlearn":
        raise EigenforgetError(
            f"--original {original.path} was made by unlearning, with {original.says('method')}; give the model before that"
        )
    seen = {checkpoint.tensors_digest(original.stored.tensors): original}
    for oracle in oracles:
        same = seen.setdefault(checkpoint.tensors_digest(oracle.stored.tensors), oracle)
        if same is not oracle:
            raise EigenforgetError(
                f"--oracle {oracle.path} has the very weights of {same.path}; retrain one for each, from seeds of their own"
            )
        _check_retrained(oracle, experiment)


def doubts(models: Sequence[Given], experiment: Experiment) -> list[str]:
    """One line for each model that was made to forget something else than what is asked now."""
    lines = []
    for model in models:
        if _forgot(model, experiment) not in (None, experiment.split.digest):
            lines.append(
                f"{model.path} was made to forget {model.says('request')}, which is not what is asked for now"
            )
    return lines


def _check_retrained(oracle: Given, experiment: Experiment) -> None:
    made = oracle.says("eigenforget")
    if made == "unlearn" and not oracle.says("method").startswith("retrain("):
        raise EigenforgetError(
            f"--oracle {oracle.path} was not retrained but made by {oracle.says('method')}"
        )
    if made == "train" and not oracle.says("request"):
        raise EigenforgetError(
            f"--oracle {oracle.path} was trained on all of the data; a retrained model is trained --without the request"
        )
    if _forgot(oracle, experiment) not in (None, experiment.split.digest):
        raise EigenforgetError(
            f"--oracle {oracle.path} was trained without {oracle.says('request')}, which is not what is asked for"
        )


def _forgot(given: Given, experiment: Experiment) -> str | None:
    """The digest of the split by the request that the checkpoint names; None where it names none
    that can be read here.
    """
    try:
        request = parse(given.says("request"), REQUESTS, "request")
        return split(request, experiment.data.train_index).digest
    except EigenforgetError:
        return None  # another data set, a hidden name, a file that is gone
