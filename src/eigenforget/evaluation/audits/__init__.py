"""AUDITS: measurements that train something or need other models.

Adding one is one file and one line here. Other packages add theirs by an entry point in the group
`eigenforget.audits`, and `python(path="mine.py:Mine")` names a class, or a function
(evidence, seed) → score, in your own file.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from eigenforget.core.registry import Registry, from_function
from eigenforget.evaluation.audits.attack_success import AttackSuccess
from eigenforget.evaluation.audits.forget_clusters import ForgetClusters
from eigenforget.evaluation.audits.idi import IDI
from eigenforget.evaluation.audits.kernel_test import KernelTest
from eigenforget.evaluation.audits.klom import KLoM
from eigenforget.evaluation.audits.linear_map import LinearMap
from eigenforget.evaluation.audits.linear_probe import FewLabelProbe, LinearProbe
from eigenforget.evaluation.audits.neighbours import NeighbourAccuracy
from eigenforget.evaluation.audits.prototypes import Prototypes
from eigenforget.evaluation.audits.quantised import QuantisedWeights
from eigenforget.evaluation.audits.relearning import Relearning
from eigenforget.evaluation.audits.residual_knowledge import ResidualKnowledge
from eigenforget.evaluation.audits.rmia import RMIA
from eigenforget.evaluation.audits.sample_gaps import SampleGaps
from eigenforget.evaluation.audits.svc_mia import SVCMIA
from eigenforget.evaluation.audits.u_lira import ULiRA
from eigenforget.evaluation.audits.zrf import ZRF
from eigenforget.evaluation.evidence import Audit


def audit_of(function: Callable[..., Any]) -> type[Audit]:
    """The audit that a bare function (evidence, seed) → score is.

    It runs at the headline layer only. Its keyword-only parameters become settings. It answers with
    a number, a Score, a tuple of Scores or Findings.

    Raises:
        EigenforgetError: The function cannot be called with evidence and a seed.
    """
    return from_function(function, call="__call__", given=("evidence", "seed"), reads="model")


AUDITS: Registry[type[Audit]] = Registry(
    "audit",
    "eigenforget.audits",
    [
        AttackSuccess,
        LinearProbe,
        FewLabelProbe,
        Prototypes,
        ForgetClusters,
        NeighbourAccuracy,
        SampleGaps,
        ZRF,
        RMIA,
        Relearning,
        ULiRA,
        KLoM,
        SVCMIA,
        IDI,
        LinearMap,
        QuantisedWeights,
        ResidualKnowledge,
        KernelTest,
    ],
    requires=("name", "reads", "__call__"),
    wrap=audit_of,
)

__all__ = [
    "AUDITS",
    "IDI",
    "RMIA",
    "SVCMIA",
    "ZRF",
    "AttackSuccess",
    "FewLabelProbe",
    "ForgetClusters",
    "KLoM",
    "KernelTest",
    "LinearMap",
    "LinearProbe",
    "NeighbourAccuracy",
    "Prototypes",
    "QuantisedWeights",
    "Relearning",
    "ResidualKnowledge",
    "SampleGaps",
    "ULiRA",
    "audit_of",
]
