"""Whether a model knows the samples that it was supposedly trained on."""

from __future__ import annotations

from dataclasses import replace
from math import sqrt
from typing import Any, NamedTuple

import numpy as np
from torch import nn

from eigenforget.core import notices
from eigenforget.core.errors import EigenforgetError
from eigenforget.data.sources import Source
from eigenforget.data.sources.reading import undisturbed
from eigenforget.models.heads import check_label_range
from eigenforget.training.engine import Engine, Meter

MOST_RECALLED = 1024
"""Samples that are looked at, evenly over the source: an accuracy is known to 0.03 then."""
_LEAST = 20
"""Of fewer samples nothing is concluded."""
_GUESSING = 0.01
"""A model that only guesses is as often right in one of a hundred cases."""
_LITTLE = 0.2
"""Share of the way from guessing to knowing all below which little is known (Cohen's kappa)."""
_LOST = 0.15
"""Accuracy that is lost where a model meets other inputs than it was trained on; the samples that
are looked at differ, and so does rounding, by less."""


class Recall(NamedTuple):
    """How many samples a model classifies correctly.

    Attributes:
        correct: How many.
        samples: Of how many.
        chance: The share that would be right if the same answers were given at random; 1 if all
            samples are of one class.
    """

    correct: int
    samples: int
    chance: float

    @property
    def accuracy(self) -> float:
        """The share of correct answers."""
        return self.correct / self.samples

    def as_json(self) -> dict[str, Any]:
        """As it stands in records and checkpoints."""
        return {"correct": self.correct, "samples": self.samples, "chance": round(self.chance, 6)}

    @classmethod
    def from_json(cls, value: Any) -> Recall | None:
        """The inverse; None where it is none."""
        try:
            found = cls(int(value["correct"]), int(value["samples"]), float(value["chance"]))
        except (KeyError, TypeError, ValueError, OverflowError):
            return None
        return found if 0 <= found.correct <= found.samples and found.samples else None

    @property
    def guesses(self) -> bool:
        """Whether it is no more often right than guessing would be."""
        if self.samples < _LEAST or self.chance >= 1:
            return False
        from scipy.stats import binom

        return bool(binom.sf(self.correct - 1, self.samples, self.chance) > _GUESSING)

    def doubt(self, before: Recall | None = None) -> str:
        """Why the samples may not be what the model was trained on; "" where nothing is odd.

        Args:
            before: What it knew when it was saved; None where that is not known.
        """
        if self.samples < _LEAST:
            return ""
        said = f"accuracy {self.accuracy:.3f} on {self.samples} samples of its training data"
        if self.guesses:
            return f"{said}, where guessing gives {self.chance:.3f}"
        if before is not None:
            noise = 3 * sqrt(0.25 / self.samples + 0.25 / before.samples)
            lost = before.accuracy - self.accuracy
            return f"{said}, and {before.accuracy:.3f} when saved" if lost > _LOST + noise else ""
        chance = 0.0 if self.chance >= 1 else self.chance  # of one class nobody guesses
        known = (self.accuracy - chance) / (1 - chance)
        return f"{said}, where guessing gives {chance:.3f}" if known < _LITTLE else ""

    def lost(self, before: Recall) -> str:
        """What a model lost that classified the same samples before; "" where it is little."""
        if self.samples < _LEAST or before.accuracy - self.accuracy <= _LOST:
            return ""
        return (
            f"it classifies {self.accuracy:.3f} of {self.samples} retained samples correctly, and "
            f"the original {before.accuracy:.3f}"
        )


def warn_of_damage(method: str, after: Recall, before: Recall) -> None:
    """Warns if a method took from a model what it knew of the retain set.

    Args:
        method: The name of the method.
        after: What the unlearned model knows of retained samples.
        before: What the original knows of the same.
    """
    found = after.lost(before)
    if found:
        notices.warn(
            f"{method} damaged the model: {found}; take a smaller lr, fewer steps or another method"
        )


REASONS = (
    "likely reasons: its inputs were normalised in another way (for a data set: normalize=…), its "
    "classes have another order, or it was trained on other data or with another head"
)
"""What to look at where a model does not know its training data."""
TRAIN_LONGER = "train it longer, or with another recipe"
NEVER_LEARNED = f"it knew no more when it was saved: {TRAIN_LONGER}"


def recall(model: nn.Module, source: Source, engine: Engine, layer: str | None = None) -> Recall:
    """What a model knows of at most MOST_RECALLED samples; no meter counts it.

    Args:
        model: The model.
        source: The samples.
        engine: Runs the model.
        layer: The feature layer of a model without a linear head.

    Raises:
        EigenforgetError: A label has no logit.
    """
    count = min(len(source), MOST_RECALLED)
    rows = np.linspace(0, len(source) - 1, count).round().astype(np.int64)
    apart = replace(engine, meter=Meter())
    answers, labels = [], []
    with undisturbed():  # items may be drawn at random
        for batch, outputs in apart.forward(model, source.subset(rows), layer=layer):
            answers.append(outputs.logits.argmax(1).cpu().numpy())
            labels.append(batch.labels.cpu().numpy())
            check_label_range(labels[-1], outputs.logits.shape[1])
    return of_answers(np.concatenate(answers), np.concatenate(labels))


def recall_if_any(
    model: nn.Module, source: Source, engine: Engine, layer: str | None = None
) -> Recall | None:
    """As `recall`; None where the model cannot be run, which whoever works with it will say."""
    try:
        return recall(model, source, engine, layer)
    except EigenforgetError:
        return None


def warn_of_poor_recall(found: Recall | None) -> None:
    """Warns if a model hardly knows the samples that it was supposedly trained on."""
    doubt = found.doubt() if found is not None else ""
    if doubt:
        notices.warn(f"the original may not know its training data: {doubt}; {REASONS}")


def of_answers(answers: np.ndarray, labels: np.ndarray) -> Recall:
    """The recall of answers [N] where the labels are [N]."""
    if len(np.unique(labels)) == 1:
        return Recall(int((answers == labels).sum()), len(labels), 1.0)
    size = int(max(answers.max(), labels.max())) + 1
    said, true = (np.bincount(column, minlength=size) / len(labels) for column in (answers, labels))
    return Recall(int((answers == labels).sum()), len(labels), float(said @ true))
