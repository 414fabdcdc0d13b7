"""AUDITS: measurements that train something or need other models. Adding one is one file and one
line here.

ENSEMBLE_AUDITS need several models made in the same way from different training seeds.
"""

from eigenforget.evaluation.audits.attack_success import AttackSuccess
from eigenforget.evaluation.audits.evidence import Audit
from eigenforget.evaluation.audits.klom import KLoM
from eigenforget.evaluation.audits.linear_probe import FewLabelProbe, LinearProbe
from eigenforget.evaluation.audits.prototypes import Prototypes
from eigenforget.evaluation.audits.relearning import Relearning
from eigenforget.evaluation.audits.rmia import RMIA
from eigenforget.evaluation.audits.u_lira import ULiRA
from eigenforget.evaluation.audits.zrf import ZRF

AUDITS: list[type[Audit]] = [
    AttackSuccess,
    LinearProbe,
    FewLabelProbe,
    Prototypes,
    ZRF,
    RMIA,
    Relearning,
]
ENSEMBLE_AUDITS: list[type[Audit]] = [ULiRA, KLoM]

__all__ = [
    "AUDITS",
    "ENSEMBLE_AUDITS",
    "RMIA",
    "ZRF",
    "AttackSuccess",
    "FewLabelProbe",
    "KLoM",
    "LinearProbe",
    "Prototypes",
    "Relearning",
    "ULiRA",
]
