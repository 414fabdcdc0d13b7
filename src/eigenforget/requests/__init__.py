"""What is to be forgotten: requests, which select training samples by what the Index knows of them.

`split` makes the two sides. Adding a kind is a file and a line in REQUESTS (registry.py). All names
load on first use.
"""

from typing import TYPE_CHECKING

from eigenforget.core.lazy import lazy_names

if TYPE_CHECKING:
    from eigenforget.requests.at_random import AtRandom
    from eigenforget.requests.by_class import ByClass
    from eigenforget.requests.by_group import ByGroup
    from eigenforget.requests.by_ids import ByIds
    from eigenforget.requests.by_rows import ByRows
    from eigenforget.requests.by_subclass import BySubclass
    from eigenforget.requests.combined import Difference, Union
    from eigenforget.requests.confused import ConfusedSamples
    from eigenforget.requests.long_tailed import LongTailed
    from eigenforget.requests.poisoned import PoisonedSamples
    from eigenforget.requests.ranked import ByMemorisation, RankedSamples, WorstCase
    from eigenforget.requests.registry import REQUESTS, personal_fields
    from eigenforget.requests.request import Duplicates, ForgetRequest
    from eigenforget.requests.scores import (
        memorisation_scores,
        model_scores,
        read_scores,
        subsampled_memorisation,
        write_scores,
    )
    from eigenforget.requests.sequential import Sequential, Step, steps
    from eigenforget.requests.splitting import retain_sample, split
    from eigenforget.requests.where import Where

__all__ = [
    "REQUESTS",
    "AtRandom",
    "ByClass",
    "ByGroup",
    "ByIds",
    "ByMemorisation",
    "ByRows",
    "BySubclass",
    "ConfusedSamples",
    "Difference",
    "Duplicates",
    "ForgetRequest",
    "LongTailed",
    "PoisonedSamples",
    "RankedSamples",
    "Sequential",
    "Step",
    "Union",
    "Where",
    "WorstCase",
    "memorisation_scores",
    "model_scores",
    "personal_fields",
    "read_scores",
    "retain_sample",
    "split",
    "steps",
    "subsampled_memorisation",
    "write_scores",
]

__getattr__ = lazy_names(
    __name__,
    {
        "at_random": ("AtRandom",),
        "by_class": ("ByClass",),
        "by_group": ("ByGroup",),
        "by_ids": ("ByIds",),
        "by_rows": ("ByRows",),
        "by_subclass": ("BySubclass",),
        "combined": (
            "Difference",
            "Union",
        ),
        "confused": ("ConfusedSamples",),
        "long_tailed": ("LongTailed",),
        "poisoned": ("PoisonedSamples",),
        "ranked": (
            "ByMemorisation",
            "RankedSamples",
            "WorstCase",
        ),
        "registry": (
            "REQUESTS",
            "personal_fields",
        ),
        "request": (
            "Duplicates",
            "ForgetRequest",
        ),
        "scores": (
            "memorisation_scores",
            "model_scores",
            "read_scores",
            "subsampled_memorisation",
            "write_scores",
        ),
        "sequential": (
            "Sequential",
            "Step",
            "steps",
        ),
        "splitting": (
            "retain_sample",
            "split",
        ),
        "where": ("Where",),
    },
)
