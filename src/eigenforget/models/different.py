"""Whether retrained models are models of their own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from eigenforget.core.errors import EigenforgetError
from eigenforget.models.checkpoint import tensors_digest

_NO_WEIGHTS = tensors_digest({})


def check_different(originals: Mapping[str, str], oracles: Iterable[tuple[str, str]]) -> None:
    """Checks that no oracle has exactly the weights of another one, or of an original.

    One model that is given three times says no more than once how retrained models differ, and
    seems to say that they do not. Models without weights are left out.

    Args:
        originals: Digests of models before unlearning (`model_digest`), by name.
        oracles: Names and digests of models retrained without the forget set; a name may be
            there twice.

    Raises:
        EigenforgetError: One has; the message names both.
    """
    seen = {digest: name for name, digest in originals.items()}
    for name, digest in oracles:
        if digest in seen and digest != _NO_WEIGHTS:
            raise EigenforgetError(
                f"{name} has exactly the weights of {seen[digest]}; retrain each oracle from a "
                "seed of its own, on which its training depends"
            )
        seen[digest] = name
