"""Are the forget samples likelier under the model than under retrained ones?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal, NamedTuple

import numpy as np
from pydantic import Field
from scipy.special import log_softmax, logsumexp

from eigenforget.core.fields import UnitInterval
from eigenforget.core.spec import configured
from eigenforget.core.types import Part, Score
from eigenforget.evaluation.evidence import Evidence, Observation, PartOutputs, Reads
from eigenforget.evaluation.metrics.attacks import (
    AttackScores,
    attack_scores_of,
    finite_logits,
    no_attack,
)
from eigenforget.evaluation.metrics.panel import MIN_SAMPLES, no_samples, samples_of


class _Ratios(NamedTuple):
    """Log-ratios of the three sides.

    Attributes:
        members: Of the forget samples.
        others: Of the non-members, from part `of_others`.
        population: Of the population z.
        of_others: The part of the non-members.
    """

    members: np.ndarray
    others: np.ndarray
    population: np.ndarray
    of_others: Part


@configured
class RMIA:
    """`rmia_auc`, `rmia_tpr_1`, `rmia_tpr_01`: offline robust membership inference, in [0, 1].

    It compares with the retrained models, which never saw any of the samples. With p(x|θ) the
    model's probability of the true label and p_out(x) its mean over the retrained models,

        p(x) = ½ ((1 + a) p_out(x) + 1 − a),
        score(x) = share of z with (p(x|θ) / p(x)) / (p(z|θ) / p(z)) >= gamma.

    Members x are the forget set, and z is test_retain. If classes are forgotten, non-members are
    test_forget, and members of other classes are left out. No retrained model then knows the class,
    p(x) is nearly constant, and the attack is little more than one on the loss. Otherwise
    non-members are test_retain as well: with one z for both sides, equal ratios have equal scores,
    and no sample beats itself by a gamma above 1. An AUC of 0.5 means no advantage; above the
    retrained models = member-like. Compare with theirs, since hard and easy samples may lie
    unevenly on the two sides. Ratios are taken in logs, so no logit overflows. Intervals cover the
    draw of members and non-members, not that of z, the retrained models or the training run.

    Not applicable: no retrained model, fewer than 10 members, non-members or z; for a TPR fewer
    than 100 or 1,000 non-members.

    Raises:
        EigenforgetError: A logit is not finite.

    Source: arXiv 2312.03262. The published score is a step function of the ratio of x. A model that
    memorised its members ties them all with the best non-members. The AUC still sees that, but a
    TPR may be 0. ties="ratio" is a deviation: equal scores are ranked by the ratio, which then
    decides alone, and gamma and z play no part.
    """

    name: ClassVar[str] = "rmia"
    reads: ClassVar[Reads] = "logits"
    a: Annotated[
        UnitInterval,
        "p of a model trained on x is taken as a·p_out + 1 − a; 0.3 is the paper's "
        "value for CIFAR-10, 1 means no effect",
    ] = 0.3
    gamma: Annotated[
        float,
        Field(ge=1, allow_inf_nan=False),
        "how much more likely than z counts as a win; the paper's; see ties",
    ] = 2.0
    ties: Annotated[
        Literal["ratio", "half"],
        '"half" leaves ties, as published; "ratio" ranks equal scores by the ratio',
    ] = "half"

    def __call__(
        self,
        evidence: Evidence,
        seed: int,  # noqa: ARG002 (every audit is given one)
    ) -> tuple[Score, ...]:
        """The three scores, or the reason why there are none."""
        if not evidence.oracles:
            return no_attack(self.name, reason="needs 1 retrained model, got 0")
        ratios = self._ratios(evidence)
        if isinstance(ratios, str):
            return no_attack(self.name, reason=ratios)
        members, others = (
            self._scores(side, ratios.population) for side in (ratios.members, ratios.others)
        )
        return attack_scores_of(
            self.name,
            AttackScores(
                members,
                others,
                ("members (forget set)", f"non-members ({samples_of(ratios.of_others)})"),
            ),
        )

    def _ratios(self, evidence: Evidence) -> _Ratios | str:
        """The log-ratios of the three sides, or the reason why there are none."""
        gone = evidence.forgotten_classes
        needed: tuple[Part, ...] = (
            ("forget", "test_forget", "test_retain") if gone else ("forget", "test_retain")
        )
        missing = [part for part in needed if not evidence.has(part)]
        if missing:
            return "; ".join(map(no_samples, missing))
        by_part = {part: self._log_ratio(evidence.parts, evidence.oracles, part) for part in needed}
        members, held = by_part["forget"], by_part["test_retain"]
        if gone:
            members = members[np.isin(evidence.parts["forget"].labels, gone)]
            found = _Ratios(members, by_part["test_forget"], held, "test_forget")
        else:
            found = _Ratios(members, held, held, "test_retain")
        if len(found.population) < MIN_SAMPLES:
            return (
                f"needs {MIN_SAMPLES} {samples_of('test_retain')} as the population z, got "
                f"{len(found.population)}"
            )
        return found

    def _log_ratio(
        self, model: Observation, oracles: Sequence[Observation], part: Part
    ) -> np.ndarray:
        """[N]: log p(x|θ) − log p(x)."""
        of_oracles = [_log_p(seen[part], part) for seen in oracles]
        log_out = logsumexp(of_oracles, axis=0) - math.log(len(of_oracles))
        rest = math.log1p(-self.a) if self.a < 1 else -math.inf
        prior = np.logaddexp(math.log1p(self.a) + log_out, rest) - math.log(2)
        return np.asarray(_log_p(model[part], part) - prior)

    def _scores(self, ratios: np.ndarray, population: np.ndarray) -> np.ndarray:
        """[N]: share of z that each x beats by the factor gamma.

        Or a number with the same order and fewer ties.
        """
        if self.ties == "ratio":
            # One z for all x: the share never falls with the ratio, so (share, ratio) has the order
            # of the ratio. Models that agree differ in the last bits of a logarithm, which must not
            # rank anything.
            return np.round(ratios, 12)
        beaten = np.searchsorted(np.sort(population), ratios - math.log(self.gamma), side="right")
        return beaten / len(population)


def _log_p(rows: PartOutputs, part: Part) -> np.ndarray:
    """[N]: log-probability of the true label."""
    log_p = log_softmax(finite_logits(rows.logits, part), axis=1)
    return np.asarray(log_p[np.arange(len(rows.labels)), rows.labels])
