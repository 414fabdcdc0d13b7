"""Do a few forget samples stand out that a mean over all of them hides?"""

from __future__ import annotations

from typing import Annotated, ClassVar

import numpy as np

from eigenforget.core.fields import Between01
from eigenforget.core.spec import configured
from eigenforget.core.types import Score
from eigenforget.evaluation.audits.u_lira import PHI_LIMIT
from eigenforget.evaluation.evidence import Evidence, Reads
from eigenforget.evaluation.metrics.accuracy import interval_of_share, missing_share, share_score
from eigenforget.evaluation.metrics.attacks import margins
from eigenforget.evaluation.metrics.panel import too_few

_SHARE, _GAP = "remembered_share", "margin_gap_top"
_SPAN = (-2 * PHI_LIMIT, 2 * PHI_LIMIT)


@configured
class SampleGaps:
    """`remembered_share`, `margin_gap_top`: the forget samples that leak most, one by one.

    Ten mislabelled samples among 144 forgotten ones hardly move a mean, and the AUC of a population
    attack may even point the wrong way. Two scores look at single samples beside the retrained
    models. remembered_share: the forget samples that the model classifies correctly, minus the
    share that a retrained model would. A sample counts by the share of retrained models that get it
    wrong. So a sample that could only be learnt from the training set counts fully, and one that
    every model gets right does not count. In [0, 1]. margin_gap_top: the gap φ(model) − mean
    φ(oracles), φ = log p_y − log(1 − p_y) clipped to ±50, of the sample at quantile `top` of all
    forget samples; in nats, in [−100, 100]. A retrained model has gaps too, since training is
    random: its value is the target, and a trace shows above it.

    The interval of remembered_share covers the draw of the forget samples; margin_gap_top has none.

    Not applicable: no retrained model, fewer than 10 forget samples; for the gap fewer than
    1 / (1 − top).

    Raises:
        EigenforgetError: A logit is not finite.
    """

    name: ClassVar[str] = "sample_gaps"
    reads: ClassVar[Reads] = "logits"
    top: Annotated[Between01, "quantile of the gaps that is the score"] = 0.95

    def __call__(
        self,
        evidence: Evidence,
        seed: int,  # noqa: ARG002 (every audit is given one)
    ) -> tuple[Score, ...]:
        """The two scores, or the reason why there are none."""
        count = evidence.count("forget")
        few = too_few(forget=count)
        if reason := few if evidence.oracles else "needs 1 retrained model, got 0":
            return missing_share(_SHARE, reason=reason), _gap(reason)
        rows = evidence.parts["forget"]
        others = [oracle["forget"] for oracle in evidence.oracles]
        mine = _phi(rows.logits, rows.labels)
        theirs = np.stack([_phi(other.logits, other.labels) for other in others])
        right = rows.logits.argmax(axis=1) == rows.labels
        wrong = np.mean([o.logits.argmax(axis=1) != o.labels for o in others], axis=0)
        counted = np.where(right, wrong, 0.0)
        value, error = float(counted.mean()), float(counted.std(ddof=1)) / np.sqrt(count)
        interval = interval_of_share(value, error=error, trials=count, most=10 * count)
        needed = int(np.ceil(1 / (1 - self.top) - 1e-9))
        gap: float | str = too_few(needed, forget=count)
        if count >= needed:
            gaps = (mine - theirs).mean(axis=0)  # of identical models exactly 0
            gap = float(np.quantile(gaps, self.top, method="lower"))
        return share_score(_SHARE, value, interval), _gap(gap)


def _phi(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Clipped margins [N] of the forget samples."""
    return np.asarray(margins(logits, labels, "forget").clip(-PHI_LIMIT, PHI_LIMIT))


def _gap(value: float | str) -> Score:
    if isinstance(value, str):
        return Score(_GAP, None, "nats", "reference", _SPAN, reason=value, trace="above")
    return Score(_GAP, value, "nats", "reference", _SPAN, trace="above")
