"""What every unlearning method is given, and what it promises."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, cast

from torch import nn

from eigenforget.core.errors import Refused

if TYPE_CHECKING:
    from eigenforget.data.sources import Source
    from eigenforget.training.engine import Engine
    from eigenforget.training.log import Log, Look
    from eigenforget.training.phases import Phase


@dataclass(frozen=True)
class Task:
    """All that an unlearning method may see. There is no test data and no retrained reference in
    it.

    `retain` is None when none may be used. `log` is called with one row per training epoch, to
    which `look` adds what it finds in the model.
    """

    model: nn.Module
    forget: Source
    retain: Source | None
    engine: Engine
    seed: int
    num_classes: int
    forgotten_classes: tuple[int, ...] = ()
    layer: str | None = None
    log: Log = field(default=lambda row: None)
    look: Look | None = None

    def fit(
        self, model: nn.Module, phases: Sequence[Phase], *, epochs: int, **settings: Any
    ) -> nn.Module:
        """Train `model` in place as `Engine.fit` does, with the seed, layer and log of this task.

        Args:
            model: The module to train, such as `student()`.
            phases: The phases of each epoch, in order.
            epochs: How often they run.
            **settings: Other values for the seed, layer, log or look of `Engine.fit`.
        """
        own = {"seed": self.seed, "layer": self.layer, "log": self.log, "look": self.look}
        return self.engine.fit(model, phases, epochs=epochs, **{**own, **settings})

    def student(self) -> nn.Module:
        """A trainable copy; the given model is never changed."""
        return copy.deepcopy(self.model)

    def teacher(self) -> nn.Module:
        """A frozen copy of the original in eval mode."""
        return copy.deepcopy(self.model).eval().requires_grad_(False)

    @property
    def retained_classes(self) -> int:
        return self.num_classes - len(self.forgotten_classes)

    def needs_retain(self, method: str) -> Source:
        """The retain source, or a refusal that names the method."""
        if self.retain is None:
            raise Refused(f"{method} needs retain data")
        return self.retain


class Method(Protocol):
    """A frozen dataclass of hyper-parameters that makes a new, unlearned module and leaves the
    given one bit-identical.

    needs: what of the task it uses. guarantee: "exact" or "empirical". source: paper, equation,
    deviations. role: "unlearned", or "control" for cheats that exist to test metrics and are never
    recommended. passes: what it costs, in samples that go through a model, masks, teachers and
    bases included. A method whose result has other tensors than the model names them in `adds` and
    offers adapt(model), which makes a fresh model ready to load them. One that trains on a score
    names it in `optimises`: reports do not count that score as evidence for it. One that logs
    another number of rows than its epochs, or its inner method's, has it as `rows`.
    """

    name: ClassVar[str]
    source: ClassVar[str]
    needs: ClassVar[tuple[str, ...]]
    guarantee: ClassVar[str]
    role: ClassVar[Literal["unlearned", "control"]]
    passes: ClassVar[str]

    def __call__(self, task: Task) -> nn.Module: ...


def inner_method(value: Any) -> Any:
    """The value, if it is a method that unlearns. ValueError (for pydantic): it is no method, or a
    control.
    """
    if isinstance(value, type) or not (
        dataclasses.is_dataclass(value) and callable(value) and hasattr(value, "needs")
    ):
        raise ValueError(f"a method is needed, such as random_label(), got {value!r}")
    method = cast("Method", value)
    if method.role == "control":
        raise ValueError(f"{method.name} is a control, and stays one inside another method")
    return value


def rows_of(method: Method) -> int:
    """How many rows the method will log, for a progress bar: what it says itself, else what its
    inner method logs, else its epochs, else 1.
    """
    if hasattr(method, "rows"):
        return int(method.rows)
    inner = getattr(method, "inner", None)
    return int(getattr(method, "epochs", 1)) if inner is None else rows_of(inner)
