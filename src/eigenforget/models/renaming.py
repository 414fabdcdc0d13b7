"""Names of weights in a checkpoint, and those of the model that they are to go into."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from torch import Tensor

_WRAPPING = ("module", "_module", "_orig_mod", "_fsdp_wrapped_module")
"""First parts of names: DataParallel, Opacus, torch.compile, FSDP."""
_WITHIN = re.compile(r"\b(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
"""What torch puts anywhere in a name where a part of a model is wrapped."""
COUNTER = "num_batches_tracked"
"""A buffer of batch normalisation that checkpoints of old versions of torch lack."""


def wrapper_prefix(names: Iterable[str]) -> str:
    """The longest prefix of wrappers' names that every name has; "" for none."""
    given, prefix = list(names), ""
    while True:
        firsts = {name[len(prefix) :].partition(".")[0] for name in given}
        if len(firsts) != 1 or not firsts <= set(_WRAPPING):
            return prefix
        prefix += f"{firsts.pop()}."


class Renaming(NamedTuple):
    """How the names of a checkpoint become those of a model.

    Attributes:
        names: {name in the checkpoint: name in the model}, also where both are the same.
        left_out: Names in the checkpoint beside the part that is the model.
    """

    names: dict[str, str]
    left_out: list[str]

    @property
    def prefix(self) -> str:
        """What the checkpoint's names have before the model's; "" where that is not all."""
        given, own = next(iter(self.names.items()), ("", ""))
        return given.removesuffix(own) if given.endswith(own) else ""


def renaming(own: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> Renaming | None:
    """How a checkpoint fits a model under other prefixes; None where it does not.

    Names are compared without what torch's wrappers put into them. A prefix that all names of one
    side have may be taken off. A prefix that only some names of the checkpoint have may be taken
    off if only these names fit and they hold nine tenths of all numbers. The others then do not
    belong to the model, such as the weights of a loss.

    Args:
        own: The model's tensors by name.
        given: The checkpoint's.
    """
    mine = {_WITHIN.sub("", name): name for name in own}
    theirs = {_WITHIN.sub("", name): name for name in given}
    for own_cut in _prefixes(mine):
        needed = {name[len(own_cut) :]: raw for name, raw in mine.items()}
        for cut in _prefixes(theirs):
            inside = {name[len(cut) :]: raw for name, raw in theirs.items()}
            if _fit(needed, inside, own, given):
                return Renaming({inside[n]: needed[n] for n in needed if n in inside}, [])
    parts = {}
    for cut in {name[: place + 1] for name in theirs for place in _dots(name)}:
        inside = {n[len(cut) :]: raw for n, raw in theirs.items() if n.startswith(cut)}
        if _fit(mine, inside, own, given):
            parts[cut] = {inside[n]: mine[n] for n in mine if n in inside}
    if len(parts) != 1:
        return None
    (names,) = parts.values()
    size = sum(given[name].numel() for name in names)
    left_out = [name for name in given if name not in names]
    few = 9 * sum(given[name].numel() for name in left_out) <= size
    return Renaming(names, left_out) if few else None


def _fit(
    needed: Mapping[str, str],
    inside: Mapping[str, str],
    own: Mapping[str, Tensor],
    given: Mapping[str, Tensor],
) -> bool:
    """Whether the names are the same, but for counters that old checkpoints lack, and the ranks."""
    lacking = needed.keys() - inside.keys()
    return (
        inside.keys() <= needed.keys()
        and all(name.endswith(COUNTER) for name in lacking)
        and all(own[needed[name]].ndim == given[raw].ndim for name, raw in inside.items())
    )


def nearest_reason(own: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> str:
    """Why a checkpoint's names may not be the model's, with the cure; "" where nothing is known."""
    extra = [name for name in given if name not in own]
    for pattern, reason in _REASONS:
        if any(re.search(pattern, name) for name in extra):
            return reason
    shapes = [n for n in own if n in given and own[n].shape != given[n].shape]
    if shapes and not extra and all(own[n].shape[1:] == given[n].shape[1:] for n in shapes):
        return "the checkpoint's head is for another number of classes"
    if own and not set(own) & set(given):
        return "no name matches: it is another architecture, or the same one under other names"
    return ""


_REASONS = (
    (r"weight_mask$", "it was pruned: torch.nn.utils.prune.remove makes that permanent"),
    (
        r"weight_[gv]$|parametrizations\.",
        "its layers are parametrized: remove_weight_norm or remove_parametrizations before saving",
    ),
    (r"lora_[AB]|modules_to_save", "it has adapters: merge_and_unload() before saving"),
    (r"_packed_params|zero_point$", "it is quantised: save the model that it was made from"),
)


def _prefixes(names: Iterable[str]) -> list[str]:
    """The prefixes, each with its dot, that all names have, "" first."""
    given = list(names)
    first = given[0] if given else ""
    fitting = (first[: place + 1] for place in _dots(first))
    return ["", *(p for p in fitting if all(name.startswith(p) for name in given))]


def _dots(name: str) -> list[int]:
    return [place for place, sign in enumerate(name) if sign == "."]
