"""Do a few samples of the forgotten class, averaged, bring it back without any training?"""

from __future__ import annotations

from typing import Annotated, ClassVar, NamedTuple

import numpy as np
import torch

from eigenforget.core.fields import Count, TwoOrMore
from eigenforget.core.seeds import generator
from eigenforget.core.spec import configured
from eigenforget.core.text import listed
from eigenforget.core.types import Part, Score
from eigenforget.evaluation.audits.linear_probe import both_sides, finite_features, none
from eigenforget.evaluation.evidence import Evidence, PartOutputs, Reads
from eigenforget.evaluation.metrics.panel import no_samples


class Shots(NamedTuple):
    """Training features [N_c, D] of a class."""

    label: int
    features: np.ndarray


@configured
class Prototypes:
    """`prototype_forget`, `prototype_retain`: nearest class mean of a few samples a class.

    By cosine of features minus the mean of the retain features (as in arXiv 1911.04623), so that a
    shift that the head undoes changes nothing. In each seeded draw the prototype p_c [D] of every
    class is the mean of `shots` training samples: forget samples of the forgotten classes, retain
    samples of the others. A held-out feature f goes to argmax_c cos(f, p_c), in float64; of equal
    ones the first class counts. The scores are mean accuracies over the draws on test_forget, where
    all classes compete, and on test_retain, in [0, 1]; intervals: see `linear_probe.averaged`. A
    feature that equals the mean has no direction and counts as wrong.

    Not applicable: no class is forgotten as a whole, a part is missing, one retained class (its
    prototype would be the mean itself), a class has fewer than `shots` training samples, constant
    training features, a prototype of length zero.

    Raises:
        EigenforgetError: A feature is not finite.

    Source: the prototypical relearning attack (arXiv 2506.01318), which puts the prototype of the
    forgotten class into the model's classifier. Deviation: the classifier is left out, and the
    retained classes have prototypes too. So the scale and edits of a head play no part, and models
    with different heads are compared by their features alone.
    """

    name: ClassVar[str] = "prototypes"
    reads: ClassVar[Reads] = "features"
    scores: ClassVar[tuple[str, str]] = ("prototype_forget", "prototype_retain")
    shots: Annotated[Count, "training samples per class in a prototype"] = 10
    draws: Annotated[TwoOrMore, "seeded draws to average over; their spread needs 2"] = 10

    def __call__(self, evidence: Evidence, seed: int) -> tuple[Score, ...]:
        """The two mean accuracies, or the reason why there are none."""
        classes = self._classes(evidence)
        if isinstance(classes, str):
            return none(self.scores, classes)
        centre = evidence.parts["retain"].features.mean(axis=0, dtype=np.float64)
        labels = np.array([c.label for c in classes])
        means = [drawn - centre for drawn in self._means(classes, seed)]
        gone = sorted({int(labels[i]) for m in means for i in np.flatnonzero(~m.any(axis=1))})
        if gone:
            return none(
                self.scores,
                f"the prototype of class {listed(gone)} has length zero, so it has no direction",
            )

        units = [unit_rows(prototypes) for prototypes in means]

        def right(rows: PartOutputs, part: Part) -> np.ndarray:
            features = finite_features(rows.features, part, "the prototype attack")
            directions = unit_rows(features.astype(np.float64) - centre)
            usable = directions.any(axis=1)
            return np.stack(
                [usable & (labels[nearest(directions, unit)] == rows.labels) for unit in units]
            )

        return both_sides(evidence, self.scores, ("test_forget", "test_retain"), right)

    def _means(self, classes: list[Shots], seed: int) -> np.ndarray:
        """Prototypes [draws, C, D]."""
        chosen = np.empty((len(classes), self.draws, self.shots), dtype=np.int64)
        for draw in range(self.draws):
            rng = generator(seed, self.name, draw)
            for number, c in enumerate(classes):
                rows = torch.randperm(len(c.features), generator=rng)
                chosen[number, draw] = rows[: self.shots].numpy()
        means = [
            c.features[rows].mean(axis=1, dtype=np.float64)
            for c, rows in zip(classes, chosen, strict=True)
        ]
        return np.stack(means, axis=1)

    def _classes(self, evidence: Evidence) -> list[Shots] | str:
        """The training features of every class, by label, or the reason why there is no attack."""
        if not evidence.forgotten_classes:
            return "needs a class that is forgotten as a whole"
        sides: tuple[Part, Part] = ("forget", "retain")
        missing = [part for part in sides if not evidence.has(part)]
        if missing:
            return f"prototypes are made from both sides: {'; '.join(map(no_samples, missing))}"
        classes = []
        for part in sides:
            features, labels = (
                finite_features(evidence.parts[part].features, part, "the prototype attack"),
                evidence.parts[part].labels,
            )
            for label in np.unique(labels):
                if (label in evidence.forgotten_classes) == (part == "forget"):
                    classes.append(Shots(int(label), features[labels == label]))
        if len(classes) < 2 + len(evidence.forgotten_classes):
            return "needs 2 retained classes; the prototype of one would be the mean of all"
        few = [c for c in classes if len(c.features) < self.shots]
        if few:
            return (
                f"a prototype needs {self.shots} training samples of class {few[0].label}, got "
                f"{len(few[0].features)}"
            )
        every = np.concatenate([c.features for c in classes])
        if (every.max(axis=0) == every.min(axis=0)).all():
            return (
                "the training features are constant, so the prototypes of all classes are the same"
            )
        return sorted(classes, key=lambda c: c.label)


def unit_rows(rows: np.ndarray) -> np.ndarray:
    """Rows [N, D] at length 1 in float64; a zero row stays zero."""
    rows = rows.astype(np.float64)
    # Scaled by the largest entry first, so that no square overflows or vanishes.
    rows = np.divide(
        rows,
        np.abs(rows).max(axis=1, keepdims=True),
        out=np.zeros_like(rows),
        where=rows.any(axis=1, keepdims=True),
    )
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    np.divide(rows, lengths, out=rows, where=rows.any(axis=1, keepdims=True))
    return rows


def nearest(directions: np.ndarray, unit: np.ndarray) -> np.ndarray:
    """Row [N] of the unit prototype [C, D] with the largest cosine to each unit row [N, D]."""
    return np.asarray(np.argmax(directions @ unit.T, axis=1))
