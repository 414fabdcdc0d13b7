"""How well a population attack tells forgotten training samples from samples the model never saw."""

from __future__ import annotations

import math
from typing import ClassVar, Literal, NamedTuple, Self

import numpy as np
import torch
from scipy.stats import rankdata
from torch import Tensor

from eigenforget.metrics.accuracy import Z95, Interval, checked, not_applicable, wilson_interval
from eigenforget.metrics.panel import Measurement, PanelMetric
from eigenforget.types import Batch, EigenforgetError, Outputs, Part, Score

MIN_SAMPLES = 10
"""Below this many samples on a side the asymptotic interval means nothing."""


class Delong(NamedTuple):
    auc: float
    variance: float


class PopulationMIA(PanelMetric):
    """AUC of one threshold for all samples: P(member scores above non-member) + ½ P(tie). 0.5 means no advantage.

    Members are the forget samples. Where classes are forgotten as a whole, non-members are test_forget, unseen images
    of the same classes; members of other classes (a mixed request) are then left out, and without test_forget there is
    no score, since test_retain would measure the difference of classes. In other requests non-members are test_forget
    if it was seen, else test_retain; if the class mix of the members differs from theirs, part of the AUC is that
    difference. `mia_auc` ranks by the negative loss of the true label, `mia_confidence_auc` by the largest probability,
    in float64. Intervals: see auc_interval. Not applicable: fewer than 10 samples on a side. Errors: NaN or +inf
    logits. A population attack is weak: an AUC near the retrained model's does not prove that no single sample can be
    recognised (arXiv 2403.01218).
    """

    name: ClassVar[str] = "population_mia"
    reads: ClassVar[Literal["logits", "features"]] = "logits"
    members: list[Tensor]
    unseen_forget: list[Tensor]
    unseen_retain: list[Tensor]

    def __init__(self, forgotten_classes: tuple[int, ...]) -> None:
        super().__init__()
        self.forgotten_classes = tuple(forgotten_classes)
        for state in ("members", "unseen_forget", "unseen_retain"):
            self.add_state(state, [], dist_reduce_fx="cat")

    @classmethod
    def made_for(cls, what: Measurement) -> Self:
        return cls(what.forgotten_classes)

    def update(self, part: Part, batch: Batch, outputs: Outputs) -> None:
        logits, labels = checked(part, batch, outputs)
        scores = attack_scores(logits, labels)
        if bool(scores.isnan().any()):
            raise EigenforgetError(f"part {part}: a logit is +inf, so the loss is not a number")
        if part == "forget" and self.forgotten_classes:
            scores = scores[torch.isin(labels, torch.tensor(self.forgotten_classes, device=labels.device))]
        states = {"forget": self.members, "test_forget": self.unseen_forget, "test_retain": self.unseen_retain}
        for kept, state in states.items():
            # Every list gets rows of the right type, if only none: a rank with an empty list cannot be gathered.
            state.append(scores if kept == part else scores.new_empty((0, 2)))

    def measure(self) -> tuple[Score, ...]:
        members, unseen_forget = _rows(self.members), _rows(self.unseen_forget)
        same_classes = bool(self.forgotten_classes) or len(unseen_forget) > 0
        others, part = (unseen_forget, "test_forget") if same_classes else (_rows(self.unseen_retain), "test_retain")
        names = ("mia_auc", "mia_confidence_auc")
        if min(len(members), len(others)) < MIN_SAMPLES:
            reason = (
                f"needs {MIN_SAMPLES} members (forget) and {MIN_SAMPLES} non-members ({part}), "
                f"got {len(members)} and {len(others)}"
            )
            return tuple(not_applicable(name, reason) for name in names)
        return tuple(_score(name, members=members[:, i], others=others[:, i]) for i, name in enumerate(names))


def attack_scores(logits: Tensor, labels: Tensor) -> Tensor:
    """[B, 2] float64: negative cross-entropy loss of the true label, largest softmax probability."""
    log_p = logits.double().log_softmax(dim=1)
    own = log_p.gather(1, labels.long().unsqueeze(1)).squeeze(1)
    return torch.stack([own, log_p.max(dim=1).values.exp()], dim=1)


def delong(*, members: np.ndarray, others: np.ndarray) -> Delong:
    """AUC of members [m] over others [n] and its variance (DeLong et al. 1988), by mid-ranks (Sun & Xu 2014).

    The variance is S10/m + S01/n: the sample variances of each member's share of others below it, and of each other's
    share of members below it. Error: fewer than 2 samples on a side.
    """
    m, n = len(members), len(others)
    if min(m, n) < 2:
        raise EigenforgetError(f"DeLong's variance needs 2 samples on each side, got {m} and {n}")
    # Sorted first, so that the sums below do not depend on the order of the samples.
    members, others = np.sort(members), np.sort(others)
    ranks = rankdata(np.concatenate([members, others]))
    wins = ranks[:m] - rankdata(members)
    below = ranks[m:] - rankdata(others)
    variance = np.var(wins / n, ddof=1) / m + np.var(below / m, ddof=1) / n
    return Delong(auc=float(wins.sum() / (m * n)), variance=float(variance))


def auc_interval(estimate: Delong, *, m: int, n: int) -> Interval:
    """95 % interval: AUC ± 1.96 DeLong standard errors, cut to [0, 1].

    Where the variance is 0 (no overlap at all, or all scores tied) a point would claim certainty, and Hanley–McNeil's
    variance is 0 too at 0 and 1. Then it is Wilson's interval for min(m, n) trials: that many disjoint pairs of a
    member and a non-member are independent draws with mean AUC and variance at most AUC(1 − AUC), and the AUC over all
    pairs is no less precise.
    """
    if estimate.variance == 0:
        trials = min(m, n)
        return wilson_interval(successes=estimate.auc * trials, trials=trials)
    half = Z95 * math.sqrt(estimate.variance)
    return Interval(low=max(estimate.auc - half, 0.0), high=min(estimate.auc + half, 1.0))


def _score(name: str, *, members: np.ndarray, others: np.ndarray) -> Score:
    estimate = delong(members=members, others=others)
    low, high = auc_interval(estimate, m=len(members), n=len(others))
    return Score(name, estimate.auc, "AUC", "reference", (0.0, 1.0), low=low, high=high)


def _rows(state: list[Tensor] | Tensor) -> np.ndarray:
    if len(state) == 0:
        return np.empty((0, 2))
    return (state if isinstance(state, Tensor) else torch.cat(state)).cpu().numpy()
