"""METHODS: every unlearning method and control. Adding one is one file and one line here.

Other packages add theirs by an entry point in the group `eigenforget.methods`; `known_methods`
lists both.
"""

from __future__ import annotations

from functools import cache
from importlib.metadata import entry_points

from eigenforget.core.errors import EigenforgetError
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

METHODS: list[type] = [
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
]


@cache
def known_methods() -> tuple[type, ...]:
    """METHODS and the methods of installed packages. Errors: an entry point that cannot be loaded,
    is none, or takes a used name.
    """
    found = list(METHODS)
    for point in entry_points(group="eigenforget.methods"):
        try:
            kind = point.load()
        except (ImportError, AttributeError) as error:
            raise EigenforgetError(
                f"the method {point.name!r} of entry point {point.value!r} cannot be loaded: {error}"
            ) from None
        if not all(
            hasattr(kind, name)
            for name in ("name", "needs", "guarantee", "source", "role", "passes")
        ):
            raise EigenforgetError(
                f"entry point {point.value!r} is no method: it lacks name, needs, guarantee, source, role or passes"
            )
        if kind.name in {getattr(other, "name", "") for other in found}:
            raise EigenforgetError(
                f"entry point {point.value!r} takes the method name {kind.name!r}, which is in use"
            )
        found.append(kind)
    return tuple(found)


__all__ = ["METHODS", "known_methods", *(kind.__name__ for kind in METHODS)]
