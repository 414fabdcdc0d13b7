"""Does a planted trigger still work?"""

from __future__ import annotations

from typing import ClassVar

from eigenforget.core.errors import EigenforgetError
from eigenforget.core.spec import configured
from eigenforget.core.types import Score
from eigenforget.evaluation.evidence import Evidence, Reads
from eigenforget.evaluation.metrics.accuracy import share


@configured
class AttackSuccess:
    """attack_success: share of triggered test images of other classes that the model gives the
    attacker's class.

    A share in [0, 1] with Wilson's interval; better = reference: a model that never saw the
    poisoned samples calls some images that class by mistake, and one that was retrained without the
    discovered ones only keeps the backdoor. trace "above". On the part test_trigger, whose labels
    are the attacker's class; without that part there is no backdoor to measure, and no score.
    Source: BadNets (arXiv 1708.06733). Errors: logits that are NaN.
    """

    name: ClassVar[str] = "attack_success"
    reads: ClassVar[Reads] = "logits"

    def __call__(self, evidence: Evidence, seed: int) -> tuple[Score, ...]:
        if not evidence.has("test_trigger"):
            return ()
        rows = evidence.parts["test_trigger"]
        if (rows.logits != rows.logits).any():
            raise EigenforgetError("part test_trigger: a logit is NaN, so no class is predicted")
        hits = int((rows.logits.argmax(axis=1) == rows.labels).sum())
        return (share("attack_success", correct=hits, seen=len(rows.labels), better="reference"),)
