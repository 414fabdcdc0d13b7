"""Do the classes next to a forgotten one suffer?"""

from __future__ import annotations

from typing import Annotated, ClassVar

import numpy as np
from scipy.special import softmax

from eigenforget.core.fields import Count
from eigenforget.core.spec import configured
from eigenforget.core.types import Score
from eigenforget.evaluation.evidence import Evidence, Observation, Reads
from eigenforget.evaluation.metrics.accuracy import missing_share, share
from eigenforget.evaluation.metrics.attacks import finite_logits

_NAME = "neighbour_accuracy"


@configured
class NeighbourAccuracy:
    """`neighbour_accuracy`: accuracy on held-out samples of the classes next to a forgotten one.

    The neighbours of the forgotten classes are the retained classes to which the original gives the
    largest mean probability on the forget set. They share most with what is removed, so damage
    shows there first; the mean over all retained classes (`test_retain_accuracy`) dilutes it. A
    share in [0, 1] with Wilson's interval; higher is better.

    Not applicable: no class is forgotten as a whole, no original, no forget sample, no held-out
    sample of these classes.

    Raises:
        EigenforgetError: A logit is not finite.
    """

    name: ClassVar[str] = "neighbours"
    reads: ClassVar[Reads] = "logits"
    classes: Annotated[Count, "how many retained classes count as neighbours"] = 2

    def __call__(
        self,
        evidence: Evidence,
        seed: int,  # noqa: ARG002 (every audit is given one)
    ) -> tuple[Score, ...]:
        """The accuracy, or the reason why there is none."""
        gone, original = evidence.forgotten_classes, evidence.original
        if not gone:
            return (
                missing_share(_NAME, reason="no class is forgotten as a whole", better="higher"),
            )
        if original is None or not evidence.has("forget"):
            missing = "the original's outputs on the forget set say which classes are neighbours"
            return (missing_share(_NAME, reason=f"{missing}; there are none", better="higher"),)
        if not np.isin(original["forget"].labels, gone).any():
            reason = "no forget sample is of a class that is gone as a whole"
            return (missing_share(_NAME, reason=reason, better="higher"),)
        near = neighbours_of(original, gone, self.classes)
        rows = evidence.parts.get("test_retain")
        kept = np.isin(rows.labels, near) if rows is not None else np.zeros(0, dtype=bool)
        if rows is None or not kept.any():
            reason = f"no held-out sample of neighbouring class {', '.join(map(str, near))}"
            return (missing_share(_NAME, reason=reason, better="higher"),)
        right = finite_logits(rows.logits[kept], "test_retain").argmax(axis=1) == rows.labels[kept]
        return (share(_NAME, correct=int(right.sum()), seen=len(right), better="higher"),)


def neighbours_of(original: Observation, gone: tuple[int, ...], count: int) -> list[int]:
    """The retained classes that the original's outputs on the forget set name most, in order.

    Args:
        original: Outputs of the original.
        gone: The forgotten classes.
        count: How many.
    """
    rows = original["forget"]
    of_gone = np.isin(rows.labels, gone)
    shares = softmax(finite_logits(rows.logits[of_gone], "forget"), axis=1).mean(axis=0)
    order = np.argsort(-shares, kind="stable").tolist()
    return [label for label in order if label not in gone][:count]
