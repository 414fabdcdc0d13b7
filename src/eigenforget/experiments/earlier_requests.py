"""What a checkpoint was made without already, where it is asked to forget more."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from eigenforget.core import notices
from eigenforget.core.errors import EigenforgetError
from eigenforget.core.text import counted
from eigenforget.core.types import Split
from eigenforget.experiments.data_facts import DataFacts
from eigenforget.experiments.experiment import Experiment
from eigenforget.experiments.provenance import CheckpointFile
from eigenforget.requests import REQUESTS, Union, split

_CHANGED = "changed_data"


class Remaining(NamedTuple):
    """What is left to forget.

    Attributes:
        experiment: Its request is everything that is forgotten by then, so that nothing of it is
            retained.
        new: Positions of the samples to forget now; None: all of the request.
        said: What was forgotten before, as a sentence; "" for nothing.
        job: The same for the record: the numbers of samples.
    """

    experiment: Experiment
    new: np.ndarray | None = None
    said: str = ""
    job: Mapping[str, Any] = {}


def remaining(file: CheckpointFile, experiment: Experiment, *, salt: Path | None) -> Remaining:
    """What a request leaves to forget of a model that was made without other samples.

    Samples that an earlier request took are not retained: training on them would bring them back.
    The request becomes the union of both, as a step of a sequence has it. A model that forgot the
    same samples may forget them once more.

    Args:
        file: The checkpoint that the request is for.
        experiment: The request, on the data that the checkpoint was trained on.
        salt: File with the salt under which ids are hidden.

    Raises:
        EigenforgetError: The model was trained without all samples of the request.
    """
    told = file.entry("request")
    if not told or _CHANGED in experiment.remarks:  # what it knows is all that is left of these
        return Remaining(experiment)
    before = _drawn_again(file, experiment)
    if before is None:
        return _without_unknown(file, experiment, salt)
    earlier, asked = REQUESTS.parse(told), experiment.split.forget
    new = np.setdiff1d(asked, before.forget)
    job = {"earlier": {"forgotten": len(before.forget), "new": len(new)}}
    name = file.path.name
    if len(new):
        both = replace(experiment, request=_joined(earlier, experiment.request))
        stay = counted(len(before.forget), "sample that stays", "samples that stay")
        said = f"{name} was made without {told}, {stay} forgotten"
        return Remaining(replace(both, loaded=experiment.data), new, said, job)
    if _never_saw(file):
        raise EigenforgetError(
            f"{file.path} was trained without {told}: there is nothing to forget; give a model "
            "that has seen these samples"
        )
    same = replace(experiment, request=earlier, loaded=experiment.data)
    return Remaining(same, asked, f"{name} has forgotten {told} before, and forgets again", job)


def warn_of_unseen(original: CheckpointFile, experiment: Experiment) -> None:
    """Warns of an original that was trained without some of the data.

    Raises:
        EigenforgetError: It was trained without all that is to be forgotten.
    """
    told = original.entry("request")
    if not told:
        return
    name, before = f"--original {original.path}", _drawn_again(original, experiment)
    if before is not None and np.isin(experiment.split.forget, before.forget).all():
        raise EigenforgetError(
            f"{name} was itself trained without {told}; give the model that was trained on all of "
            "the data"
        )
    notices.warn(
        f"{name} was itself trained without {told}: it has never seen these samples, and they "
        "count as forgotten or as retained here"
    )


def _joined(earlier: Any, asked: Any) -> Union:
    """The union, whose parts are listed side by side."""
    parts = earlier.requests if isinstance(earlier, Union) else (earlier,)
    return Union(requests=(*parts, asked))


def _never_saw(file: CheckpointFile) -> bool:
    return file.entry("eigenforget") == "train" or file.entry("method").startswith("retrain(")


def _drawn_again(file: CheckpointFile, experiment: Experiment) -> Split | None:
    """The split of the checkpoint's own request; None where it is not that of before any more."""
    facts, data = DataFacts.read(file.stored.metadata), experiment.data
    try:
        found = split(REQUESTS.parse(file.entry("request")), data.train_index)
    except EigenforgetError:
        return None  # another data set, a hidden name, a file that is gone
    told = facts.split if facts.data == data.digest else ""
    return found if told in ("", found.digest) else None


def _without_unknown(file: CheckpointFile, experiment: Experiment, salt: Path | None) -> Remaining:
    """The request on the rows that the model keeps, where its own request cannot be drawn again."""
    name, told = file.path.name, file.entry("request")
    known = DataFacts.read(file.stored.metadata).known_rows(file.path, salt)
    if known is None:
        notices.warn(
            f"{name} was made without {told}, and which samples these are cannot be known any "
            "more; those that are still in the data count as retained, and training on them brings "
            "them back"
        )
        return Remaining(experiment)
    data = known.divided(experiment.data)
    count = len(experiment.data.train_index) - len(data.train_index)
    left = counted(count, "sample is", "samples are")
    return Remaining(
        replace(experiment, loaded=data),
        said=f"{name} was made without {told}: {left} left out",
        job={"earlier": {"forgotten": count}},
    )
