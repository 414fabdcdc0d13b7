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
    """`attack_success`: share of triggered images of other classes that get the attacker's class.

    A share in [0, 1] with Wilson's interval, on the part test_trigger, whose labels are the
    attacker's class; without that part there is no backdoor to measure and no score. better =
    "reference". A model that never saw the poisoned samples calls some images that class by
    mistake. One that was retrained only without the discovered ones keeps the backdoor. trace
    "above".

    Raises:
        EigenforgetError: A logit is NaN.

    Source: BadNets (arXiv 1708.06733).
    """

    name: ClassVar[str] = "attack_success"
    reads: ClassVar[Reads] = "logits"

    def __call__(
        self,
        evidence: Evidence,
        seed: int,  # noqa: ARG002 (every audit is given one)
    ) -> tuple[Score, ...]:
        """The score, or none without the part test_trigger."""
        if not evidence.has("test_trigger"):
            return ()
        rows = evidence.parts["test_trigger"]
        if (rows.logits != rows.logits).any():
            raise EigenforgetError("part test_trigger: a logit is NaN, so no class is predicted")
        hits = int((rows.logits.argmax(axis=1) == rows.labels).sum())
        return (share("attack_success", correct=hits, seen=len(rows.labels), better="reference"),)
