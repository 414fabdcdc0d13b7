"""METHODS: every unlearning method and control.

Other packages add theirs by an entry point in the group `eigenforget.methods`, and
`python(path="mine.py:Mine")` names a class, or a function task → module, in your own file.
"""

from __future__ import annotations

from eigenforget.core.registry import Registry
from eigenforget.methods.amun import AMUN
from eigenforget.methods.bad_teacher import BadTeacher
from eigenforget.methods.base import DECLARED, Method, of_callable
from eigenforget.methods.boundary_expand import BoundaryExpand
from eigenforget.methods.boundary_shrink import BoundaryShrink
from eigenforget.methods.certified_head import CertifiedHead
from eigenforget.methods.cf_k import CFk
from eigenforget.methods.cmf import CMF
from eigenforget.methods.collapse import Collapse
from eigenforget.methods.ct import CT
from eigenforget.methods.delete import DELETE
from eigenforget.methods.engram import Engram
from eigenforget.methods.esc import ESC
from eigenforget.methods.esc_t import ESCT
from eigenforget.methods.eu_k import EUk
from eigenforget.methods.finetune import Finetune
from eigenforget.methods.fisher_forgetting import FisherForgetting
from eigenforget.methods.gradient_ascent import GradientAscent
from eigenforget.methods.head_distill import HeadDistill
from eigenforget.methods.head_mask import HeadMask
from eigenforget.methods.identity import Identity
from eigenforget.methods.influence import Influence
from eigenforget.methods.jit import JiT
from eigenforget.methods.l1_sparse import L1Sparse
from eigenforget.methods.lfssd import LFSSD
from eigenforget.methods.lotus import LoTUS
from eigenforget.methods.masked import Masked
from eigenforget.methods.msg import MSG
from eigenforget.methods.muda import MUDA
from eigenforget.methods.munba import MUNBa
from eigenforget.methods.neg_grad_plus import NegGradPlus
from eigenforget.methods.not_ import NoT
from eigenforget.methods.potion import Potion
from eigenforget.methods.probed_muda import ProbedMUDA
from eigenforget.methods.random_label import RandomLabel
from eigenforget.methods.rem import REM
from eigenforget.methods.retrain import Retrain
from eigenforget.methods.rum import RUM
from eigenforget.methods.scrub import SCRUB
from eigenforget.methods.sfr_on import SFRon
from eigenforget.methods.ssd import SSD
from eigenforget.methods.uam import UAM
from eigenforget.methods.unseen_distill import UnseenDistill
from eigenforget.methods.unsir import UNSIR
from eigenforget.methods.wood_fisher import WoodFisher

METHODS: Registry[type[Method]] = Registry(
    "method",
    "eigenforget.methods",
    [
        MUDA,
        ProbedMUDA,
        Retrain,
        Finetune,
        GradientAscent,
        NegGradPlus,
        RandomLabel,
        BadTeacher,
        SCRUB,
        L1Sparse,
        Masked,
        SSD,
        LFSSD,
        FisherForgetting,
        Influence,
        WoodFisher,
        BoundaryShrink,
        BoundaryExpand,
        UNSIR,
        DELETE,
        ESC,
        ESCT,
        CMF,
        LoTUS,
        NoT,
        CFk,
        EUk,
        MSG,
        CT,
        Engram,
        SFRon,
        AMUN,
        MUNBa,
        JiT,
        UAM,
        RUM,
        Potion,
        REM,
        CertifiedHead,
        UnseenDistill,
        Identity,
        HeadMask,
        HeadDistill,
        Collapse,
    ],
    requires=DECLARED,
    wrap=of_callable,
)
