"""Does a linear map of the features, under the original's head, bring the forget set back?"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from eigenforget.core.spec import configured
from eigenforget.core.types import Part, Score
from eigenforget.evaluation.audits.linear_probe import both_sides, finite_features, none
from eigenforget.evaluation.evidence import Evidence, PartOutputs, Reads
from eigenforget.evaluation.metrics.attacks import finite_logits
from eigenforget.evaluation.metrics.panel import too_few
from eigenforget.evaluation.standardiser import standardiser

_NAMES = ("mapped_forget", "mapped_retain")


@configured
class LinearMap:
    """`mapped_forget`, `mapped_retain`: accuracy of the original's head on mapped features.

    A linear map with an offset is fitted by least squares on the retain set, from the model's
    features to the original's. No forget sample and no label takes part. The original's head then
    reads the mapped features: mapped_forget is its accuracy on the forget set, mapped_retain that
    on test_retain (higher is better). An attacker who kept the original's head needs nothing more.
    The scores are shares, with Wilson's interval over the samples. The target is the value of the
    retrained models; above it, the features hold the forget set as they did before.

    Least squares and a linear head commute, so the map is fitted to the original's logits, and the
    head's weights are not needed. On a layer before the head's input it is the same map to the
    logits, without a head between.

    Cost: one least-squares fit of [N_retain, D].

    Not applicable: no original, fewer than 10 retained samples, a part is missing.

    Raises:
        EigenforgetError: A feature or a logit is not finite.

    Source: the feature-mapping attack of One-Point Contraction (arXiv 2507.07754), implemented
    from a summary and not checked against the paper.
    """

    name: ClassVar[str] = "linear_map"
    reads: ClassVar[Reads] = "features"
    opt_in: ClassVar[bool] = True

    def __call__(
        self,
        evidence: Evidence,
        seed: int,  # noqa: ARG002 (every audit is given one)
    ) -> tuple[Score, ...]:
        """The two accuracies, or the reason why there are none."""
        original, count = evidence.original, evidence.count("retain")
        if original is None or "retain" not in original:
            return none(_NAMES, "there is no original whose logits a map could reach")
        if few := too_few(retain=count):
            return none(_NAMES, few)
        rows = evidence.parts["retain"]
        unit = standardiser(finite_features(rows.features, "retain", "a linear map"))
        slopes = least_squares(
            unit(rows.features), finite_logits(original["retain"].logits, "retain")
        )

        def right(found: PartOutputs, part: Part) -> np.ndarray:
            features = unit(finite_features(found.features, part, "a linear map"))
            return np.asarray((with_ones(features) @ slopes).argmax(axis=1) == found.labels)[None]

        return both_sides(evidence, _NAMES, ("forget", "test_retain"), right)


def least_squares(inputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Weights [D + 1, C] of the affine map with the smallest squared error, and of these the least.

    The last row is the offset.

    Args:
        inputs: [N, D].
        targets: [N, C].
    """
    return np.asarray(np.linalg.lstsq(with_ones(inputs), targets, rcond=None)[0])


def with_ones(inputs: np.ndarray) -> np.ndarray:
    """The inputs [N, D] with a column of ones, [N, D + 1]."""
    return np.concatenate([inputs, np.ones((len(inputs), 1))], axis=1)
