"""Whether retrained models are models of their own."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from eigenforget.core.errors import EigenforgetError
from eigenforget.models.checkpoint import model_digest, named_tensors


def check_different(originals: Mapping[str, nn.Module], oracles: Mapping[str, nn.Module]) -> None:
    """Checks that no oracle has exactly the weights of another one, or of an original.

    One model that is given three times says no more than once how retrained models differ, and
    seems to say that they do not. Models without weights are left out.

    Args:
        originals: Models before unlearning, by name.
        oracles: Models retrained without the forget set, by name.

    Raises:
        EigenforgetError: One has; the message names both.
    """
    seen = {model_digest(model): name for name, model in originals.items()}
    for name, model in oracles.items():
        if not any(True for _ in named_tensors(model)):
            continue
        same = seen.setdefault(model_digest(model), name)
        if same != name:
            raise EigenforgetError(
                f"{name} has exactly the weights of {same}; retrain each oracle from a seed of its "
                "own, on which its training depends"
            )
