"""What a bench runs: settings (one original and its retrained models) and cells (one method on a
setting), known by digests.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

from eigenforget.core.spec import as_json, spell
from eigenforget.core.version import __version__
from eigenforget.evaluation import scoring
from eigenforget.experiments.model_cache import named_files
from eigenforget.methods.base import Method
from eigenforget.record import value_digest
from eigenforget.requests import ForgetRequest
from eigenforget.training import recipe as training
from eigenforget.training.recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One original and the models retrained without the request, and what is measured on each model
    beside them.
    """

    data: Any
    model: Any
    recipe: Recipe
    request: ForgetRequest
    seed: int
    oracles: tuple[int, ...]
    layer: str = ""
    layers: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()
    map_points: int = 800
    precision: str = "32-true"
    channels_last: bool = False
    device: str = "cpu"

    @cached_property
    def identity(self) -> dict[str, Any]:
        """Every field resolved, so that two spellings of one setting are one; the files that model
        and request name; the version of the code.

        Data is no part of it but by its spec: whoever loads it compares its digest with that of the
        results.
        """
        own = {f.name: as_json(getattr(self, f.name)) for f in fields(self)}
        files = named_files((self.model, self.request))
        return {
            **own,
            **({"files": files} if files else {}),
            "code": f"{__version__}/{training.TRAINING_REVISION}/{scoring.SCORING_REVISION}",
        }

    @cached_property
    def digest(self) -> str:
        return value_digest(self.identity)

    @property
    def title(self) -> str:
        """Data, model and request, for people."""
        return f"{spell(self.data)}, {spell(self.model)}, {spell(self.request)}"


@dataclass(frozen=True)
class Cell:
    """A method on a setting, with a share of the retained data."""

    setting: Setting
    method: Method
    retain_fraction: float = 1.0

    @cached_property
    def digest(self) -> str:
        own = {
            "setting": self.setting.digest,
            "method": as_json(self.method),
            "retain_fraction": self.retain_fraction,
        }
        return value_digest(own)

    @property
    def name(self) -> str:
        """The method, and the share where it is not all."""
        share = "" if self.retain_fraction == 1 else f" {100 * self.retain_fraction:g}%"
        return f"{self.method.name}{share}"
