"""AUDITS: measurements that train something or need other models. Adding one is one file and one line here.

ENSEMBLE_AUDITS need several models made in the same way from different training seeds.
"""

from eigenforget.audits.attack_success import AttackSuccess
from eigenforget.audits.evidence import Audit
from eigenforget.audits.klom import KLoM
from eigenforget.audits.linear_probe import FewLabelProbe, LinearProbe
from eigenforget.audits.prototypes import Prototypes
from eigenforget.audits.relearning import Relearning
from eigenforget.audits.rmia import RMIA
from eigenforget.audits.u_lira import ULiRA
from eigenforget.audits.zrf import ZRF

AUDITS: list[type[Audit]] = [AttackSuccess, LinearProbe, FewLabelProbe, Prototypes, ZRF, RMIA, Relearning]
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
