"""Unlearning methods and controls. All names load on first use.

Adding one is a file and a line in METHODS (registry.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from eigenforget.core.lazy import lazy_names

# ruff: noqa: F405 (a type checker sees the names, which are those that the registry imports)
if TYPE_CHECKING:
    from eigenforget.methods.registry import *  # noqa: F403

__all__ = [
    "AMUN",
    "CMF",
    "CT",
    "DELETE",
    "ESC",
    "ESCT",
    "LFSSD",
    "METHODS",
    "MSG",
    "MUDA",
    "REM",
    "RUM",
    "SCRUB",
    "SSD",
    "UAM",
    "UNSIR",
    "BadTeacher",
    "BoundaryExpand",
    "BoundaryShrink",
    "CFk",
    "CertifiedHead",
    "Collapse",
    "EUk",
    "Engram",
    "Finetune",
    "FisherForgetting",
    "GradientAscent",
    "HeadDistill",
    "HeadMask",
    "Identity",
    "Influence",
    "JiT",
    "L1Sparse",
    "LoTUS",
    "MUNBa",
    "Masked",
    "Method",
    "NegGradPlus",
    "NoT",
    "Potion",
    "ProbedMUDA",
    "RandomLabel",
    "Retrain",
    "SFRon",
    "UnseenDistill",
    "WoodFisher",
]

__getattr__ = lazy_names(__name__, {"registry": __all__})
