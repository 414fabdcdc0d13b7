"""Does a support vector machine on confidences call the forget set non-members?"""

from __future__ import annotations

from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field
from scipy.special import softmax
from sklearn.svm import SVC

from eigenforget.core.seeds import derive
from eigenforget.core.spec import configured
from eigenforget.core.types import Part, Score
from eigenforget.evaluation.audits.sides import balanced
from eigenforget.evaluation.evidence import Evidence, PartOutputs, Reads
from eigenforget.evaluation.metrics.accuracy import Interval, wilson_interval
from eigenforget.evaluation.metrics.attacks import finite_logits
from eigenforget.evaluation.metrics.panel import MIN_SAMPLES, too_few

_PENALTY = 3
"""C of the published attack; its other settings are an RBF kernel and gamma="auto"."""


@configured
class SVCMIA:
    """`svc_mia`: share of the forget set that the attack of printed tables calls non-members.

    A support vector machine (C = 3, RBF kernel, gamma = "auto") is fitted to one number of each
    sample, the probability of its label. Members are retained training samples, as many as there
    are samples of test_retain, the non-members. In [0, 1], with Wilson's interval over the forget
    samples, not over the fit. It is the column "MIA" of SalUn and of the tables that follow it.
    There retrained models are near 1 for a class, and near 0.1 for a random tenth of CIFAR-10. Any
    model that gives the label a low probability scores 1, whatever it still knows, so read it
    beside the value of the retrained models. `mia_forget_rate` is another attack; do not compare it
    with published columns of that name.

    Cost: fitting grows with the square of the samples: 2 s at 4,000 a side, so 13 s at 10,000.

    Not applicable: fewer than 10 samples of forget, retain or test_retain.

    Raises:
        EigenforgetError: A logit is not finite.

    Source: SVC_MIA in the code of SalUn (arXiv 2310.12508), "confidence". Deviations: that code
    takes the first rows of the retain set as members; here they are a seeded draw, since data may
    be sorted by class. If the retain set is smaller than the test set, as many test samples are
    taken, where that code stops.
    """

    name: ClassVar[str] = "svc_mia"
    reads: ClassVar[Reads] = "logits"
    opt_in: ClassVar[bool] = True
    most: Annotated[
        int,
        Field(ge=MIN_SAMPLES),
        "most samples on either side; the test set of CIFAR-10 has 10,000",
    ] = 10_000

    def __call__(self, evidence: Evidence, seed: int) -> tuple[Score, ...]:
        """The share, or the reason why there is none."""
        needed: tuple[Part, ...] = ("forget", "retain", "test_retain")
        counts = {part: evidence.count(part) for part in needed}
        if few := too_few(**counts):
            return _scores(few)
        forget, retain, test = (confidences(evidence.parts[p], p) for p in needed)
        rng = np.random.default_rng(derive(seed, self.name))
        members, others = balanced([len(retain), len(test)], self.most, rng)
        # The state draws nothing without probabilities, but None would move the global one.
        attack = SVC(C=_PENALTY, kernel="rbf", gamma="auto", random_state=0)
        attack.fit(
            np.concatenate([retain[members], test[others]])[:, None],
            np.r_[np.ones(len(members)), np.zeros(len(others))],
        )
        called = int((attack.predict(forget[:, None]) == 0).sum())
        interval = wilson_interval(successes=called, trials=len(forget))
        return _scores(called / len(forget), interval)


def confidences(rows: PartOutputs, part: Part) -> np.ndarray:
    """The probability [N] of each sample's label."""
    shares = softmax(finite_logits(rows.logits, part), axis=1)
    return np.asarray(shares[np.arange(len(rows.labels)), rows.labels])


def _scores(value: float | str, interval: Interval | None = None) -> tuple[Score, ...]:
    """The score from its value, or from the reason why there is none."""
    name, span = SVCMIA.name, (0.0, 1.0)
    if isinstance(value, str):
        return (Score(name, None, "share", "reference", span, reason=value, trace="below"),)
    low, high = (None, None) if interval is None else interval
    return (Score(name, value, "share", "reference", span, low, high, trace="below"),)
