"""METHODS: every unlearning method and control. Adding one is one file and one line here.

Other packages add theirs by an entry point in the group `eigenforget.methods`, and
`python(path="mine.py:Mine")` names a class, or a function task → module, of one's own file.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from eigenforget.core.registry import Registry, from_function
from eigenforget.methods.bad_teacher import BadTeacher
from eigenforget.methods.boundary_expand import BoundaryExpand
from eigenforget.methods.boundary_shrink import BoundaryShrink
from eigenforget.methods.cf_k import CFk
from eigenforget.methods.cmf import CMF
from eigenforget.methods.collapse import Collapse
from eigenforget.methods.delete import Delete
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
from eigenforget.methods.l1_sparse import L1Sparse
from eigenforget.methods.lotus import Lotus
from eigenforget.methods.masked import Masked
from eigenforget.methods.muda import MUDA
from eigenforget.methods.neg_grad_plus import NegGradPlus
from eigenforget.methods.not_ import NoT
from eigenforget.methods.probed_muda import ProbedMUDA
from eigenforget.methods.random_label import RandomLabel
from eigenforget.methods.retrain import Retrain
from eigenforget.methods.scrub import Scrub
from eigenforget.methods.ssd import SSD
from eigenforget.methods.unseen_distill import UnseenDistill
from eigenforget.methods.unsir import UNSIR


def _of_function(function: Callable[..., Any]) -> type:
    """A method that calls function(task, *, fields)."""
    return from_function(
        function,
        call="__call__",
        given=("task",),
        needs=(),
        guarantee="none known",
        source="a function of one's own",
        role="unlearned",
        passes="unknown",
    )


METHODS: Registry[type] = Registry(
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
        Scrub,
        L1Sparse,
        Masked,
        SSD,
        FisherForgetting,
        Influence,
        BoundaryShrink,
        BoundaryExpand,
        UNSIR,
        Delete,
        ESC,
        ESCT,
        CMF,
        Lotus,
        NoT,
        CFk,
        EUk,
        UnseenDistill,
        Identity,
        HeadMask,
        HeadDistill,
        Collapse,
    ],
    requires=("name", "needs", "guarantee", "source", "role", "passes"),
    wrap=_of_function,
)

__all__ = [
    "BadTeacher",
    "BoundaryExpand",
    "BoundaryShrink",
    "CFk",
    "CMF",
    "Collapse",
    "Delete",
    "ESC",
    "ESCT",
    "EUk",
    "Finetune",
    "FisherForgetting",
    "GradientAscent",
    "HeadDistill",
    "HeadMask",
    "Identity",
    "Influence",
    "L1Sparse",
    "Lotus",
    "METHODS",
    "MUDA",
    "Masked",
    "NegGradPlus",
    "NoT",
    "ProbedMUDA",
    "RandomLabel",
    "Retrain",
    "SSD",
    "Scrub",
    "UNSIR",
    "UnseenDistill",
]
