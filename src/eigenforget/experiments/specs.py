"""Spec strings of a job, as a command line or a checkpoint gives them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from eigenforget.core.errors import EigenforgetError

CHANGED_DATA, POOR_ORIGINAL = "changed-data", "poor-original"
_MAY_ALLOW = (CHANGED_DATA, POOR_ORIGINAL)


@dataclass(frozen=True, kw_only=True)
class Specs:
    """What a job is about. An empty spec is filled in from a checkpoint, see `completed`.

    Attributes:
        data: The data set, as in "digits()".
        model: The model, as in "small_resnet(width=16)".
        recipe: The training recipe; "" for the default one.
        request: What is to be forgotten; "" where nothing is.
        retain_fraction: Share of the retain set that a method may use.
        layer: Module whose output are the features; "" for the head's input.
        unseen: Test samples that a method may see: a share, or a file of ids; "" for none.
        allow: Checks of the original that only warn: "changed-data", "poor-original".

    Raises:
        EigenforgetError: There is no such check.
    """

    data: str = ""
    model: str = ""
    recipe: str = ""
    request: str = ""
    retain_fraction: float = 1.0
    layer: str = ""
    unseen: str = ""
    allow: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in self.allow:
            if name not in _MAY_ALLOW:
                raise EigenforgetError(
                    f"--allow {name!r} is not a check that may be allowed to fail; choose from: "
                    f"{', '.join(_MAY_ALLOW)}"
                )

    def completed(self, metadata: Mapping[str, str]) -> Specs:
        """Missing specs taken from the metadata of a checkpoint.

        Raises:
            EigenforgetError: The metadata does not have them either.
        """
        found = replace(
            self,
            data=self.data or metadata.get("data", ""),
            model=self.model or metadata.get("model", ""),
            recipe=self.recipe or metadata.get("recipe", ""),
        )
        for name in ("data", "model"):
            if not getattr(found, name):
                raise EigenforgetError(f"the checkpoint does not say its {name}; give --{name}")
        return found
