"""What an unlearning method is given, and what it promises."""

from __future__ import annotations

import copy
import dataclasses
import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, Protocol, cast, runtime_checkable

import numpy as np
import torch
from pydantic import AfterValidator
from torch import Tensor, nn

from eigenforget.core import seeds
from eigenforget.core.errors import Refused
from eigenforget.core.registry import from_function
from eigenforget.data.sources import Source
from eigenforget.requests.splitting import classes_in
from eigenforget.training.engine import Engine
from eigenforget.training.log import Log, Look
from eigenforget.training.phases import Optimizer, Phase


class Range(NamedTuple):
    """Values from low to high, searched on a logarithmic scale."""

    low: float
    high: float


@dataclass(frozen=True)
class Task:
    """All that an unlearning method may see: no data that is measured, and no retrained model.

    Attributes:
        model: The original. A method works on copies of it.
        forget: The forget set.
        retain: The retain set or a sample of it; None where none may be used.
        engine: Runs training and forward passes, and counts samples.
        seed: All randomness depends on it.
        num_classes: The number of logits.
        forgotten_classes: Classes that are gone as a whole, those of earlier requests included.
        layer: The layer whose output are the features; None is the input of the classifier head.
        log: Called with one row per epoch of each phase.
        look: What it finds in the model after an epoch is added to that row.
        unseen: Samples that the original never saw, where the user gave some; no score counts them.
    """

    model: nn.Module
    forget: Source
    retain: Source | None
    engine: Engine
    seed: int
    num_classes: int
    forgotten_classes: tuple[int, ...] = ()
    layer: str | None = None
    log: Log = field(default=lambda _: None)
    look: Look | None = None
    unseen: Source | None = None

    def student(self) -> nn.Module:
        """A trainable copy of the model."""
        return copy.deepcopy(self.model)

    def teacher(self) -> nn.Module:
        """A frozen copy of the model in eval mode."""
        return copy.deepcopy(self.model).eval().requires_grad_(False)

    @functools.cached_property
    def retained_classes(self) -> tuple[int, ...]:
        """The classes that occur in the retain set.

        Without a retain set they are the outputs of the head that are not gone as a whole. A head
        may have outputs for classes of which there is no sample.
        """
        if self.retain is not None:
            return classes_in(self.retain.labels())
        return tuple(c for c in range(self.num_classes) if c not in self.forgotten_classes)

    def needs_retain(self, method: str) -> Source:
        """The retain set, or a refusal that names the method."""
        if self.retain is None:
            raise Refused(
                f"{method} needs retain data: --retain-fraction above 0, or retain=… in Python"
            )
        return self.retain

    def needs_unseen(self, method: str) -> Source:
        """The unseen samples, or a refusal that names the method."""
        if self.unseen is None:
            raise Refused(
                f"{method} needs samples that the model never saw: --unseen 0.1, or unseen=… in "
                "Python"
            )
        return self.unseen

    def needs_gone_classes(self, method: str, *, why: str = "") -> torch.Tensor:
        """The classes that are gone as a whole [K], or a refusal that names the method."""
        if not self.forgotten_classes:
            raise Refused(f"{method} needs a class that is forgotten as a whole{why}")
        return torch.tensor(self.forgotten_classes)

    def sample(self, source: Source, count: int, *key: str | int) -> Source:
        """Up to `count` samples in random order, drawn from the task's seed and this key."""
        order = torch.randperm(len(source), generator=seeds.generator(self.seed, *key))
        return source.subset(order[:count].numpy())

    def at_most(self, source: Source, count: int | None, *key: str | int) -> Source:
        """The source as it is where it is no larger than `count`, else a `sample` of it."""
        if count is None or count >= len(source):
            return source
        return self.sample(source, count, *key)

    def correct(self, model: nn.Module, source: Source) -> np.ndarray:
        """Whether the model classifies each sample as its label says, bool [N]."""
        return self.engine.correct(model, source, layer=self.layer)

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


@runtime_checkable
class Method(Protocol):
    """An unlearning method: a frozen dataclass of hyper-parameters that is called with a task.

    A call returns a new, unlearned module and leaves the given one bit-identical. A class that
    derives from this one has to set what has no default here.

    Attributes:
        name: How specs, records and the command line call it.
        source: Paper, equation and every deviation from it.
        needs: What of the task it uses; the first word "retain" says that it cannot do without.
            Who reads unseen samples says "unseen", and when.
        passes: What it costs, in samples that go through a model, with masks, teachers and bases.
        guarantee: "exact", "empirical", or "none: …" with the reason.
        role: "unlearned", or "control" for a cheat that tests metrics and is never recommended.
        recipes: Published settings by name; a test pins each number to its source.
        search_space: What a small search may change. "inner.lr" is a field of the inner method.
        adds: Names of tensors that its result has beyond the model's. A method with any also has
            adapt(model), which makes a fresh model ready to load them.
    """

    name: ClassVar[str]
    source: ClassVar[str]
    needs: ClassVar[tuple[str, ...]]
    passes: ClassVar[str]
    guarantee: ClassVar[str] = "empirical"
    role: ClassVar[Literal["unlearned", "control"]] = "unlearned"
    recipes: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    search_space: ClassVar[Mapping[str, Range]] = {}
    adds: ClassVar[tuple[str, ...]] = ()

    @property
    def optimises(self) -> tuple[str, ...]:
        """Scores that it trains on: reports do not count them as evidence for it."""
        return ()

    @property
    def for_samples(self) -> Method | None:
        """The method that takes requests of single samples in its place; None: it takes them."""
        return None

    @property
    def log_rows(self) -> int:
        """Number of log rows: those of the inner method, or one per epoch; 0 without training."""
        inner = getattr(self, "inner", None)
        return int(getattr(self, "epochs", 0) if inner is None else inner.log_rows)

    def __call__(self, task: Task) -> nn.Module:
        """The unlearned model, a new module in eval mode."""
        ...


DECLARED = ("name", "source", "needs", "passes", "guarantee", "role", "log_rows", "optimises")
"""What every method has; see `Method`."""


def of_callable(function: Callable[..., nn.Module]) -> type:
    """A method class of a bare function, or of an object with __call__(task), with cautious claims.

    Keyword-only parameters of the function become fields. What the object itself has of the
    attributes of a method (name, role, needs …) holds. The task that it is given has a copy of the
    model, which it may change and return.

    Raises:
        EigenforgetError: It cannot be called with a task.
    """
    called: Callable[..., nn.Module] = function
    if not inspect.isroutine(function):
        called = function.__call__  # type: ignore[operator]  # a bound method has a signature

    @functools.wraps(called)
    def guarded(task: Task, **fields: Any) -> nn.Module:
        return called(replace(task, model=task.student()), **fields)

    claims: dict[str, Any] = {
        "name": getattr(function, "__name__", type(function).__name__),
        "source": "a function of your own",
        "needs": (),
        "passes": "unknown",
        "guarantee": "none known",
        "role": "unlearned",
        "recipes": {},
        "search_space": {},
        "adds": (),
        "optimises": (),
        "log_rows": 0,
    }
    claims |= {name: getattr(function, name) for name in claims if hasattr(function, name)}
    return from_function(guarded, call="__call__", given=("task",), **claims)


def optimizer_of(method: Method, **settings: Any) -> Optimizer:
    """SGD as the method's own fields, those of `SGDFields` and clip, describe it.

    Args:
        method: May lack some of these fields; they take the defaults of `Optimizer`.
        **settings: Fields of `Optimizer` that win over the method's.
    """
    shared = ("lr", "momentum", "nesterov", "weight_decay", "schedule", "drops", "clip")
    own = {name: getattr(method, name) for name in shared if hasattr(method, name)}
    return Optimizer(**own | settings)


def adam(lr: float) -> Optimizer:
    """Adam at a constant learning rate, which AdamW is without weight decay."""
    return Optimizer(kind="adamw", lr=lr, weight_decay=0.0)


def inner_method(value: Any) -> Any:
    """Validate the field of a method that runs another one.

    Raises:
        ValueError: (for pydantic) It is no method, or a control.
    """
    if isinstance(value, type) or not (
        dataclasses.is_dataclass(value) and callable(value) and hasattr(value, "needs")
    ):
        raise ValueError(f"a method is needed, such as random_label(), got {value!r}")
    method = cast("Method", value)
    if method.role == "control":
        raise ValueError(f"{method.name} is a control and cannot be used inside another method")
    return value


def wants_retain(method: Method) -> bool:
    """Whether a method with these settings cannot do without a retain set."""
    without = getattr(method, "retain_steps", None) == "none"
    return not without and any(need.startswith("retain") for need in method.needs)


def real_valued(inputs: Any, method: str, *, why: str) -> Tensor:
    """The inputs of a batch, or a refusal where they are no tensor of floating-point numbers.

    Args:
        inputs: The inputs.
        method: Name of the method, for the message.
        why: What it needs such inputs for, as in "to add noise".

    Raises:
        Refused: They are token ids, or several tensors.
    """
    if not isinstance(inputs, Tensor) or not inputs.is_floating_point():
        raise Refused(f"{method} needs inputs that are a real-valued tensor, {why}")
    return inputs


def same_tensors(value: Any) -> Any:
    """Validate the field of a method that goes on with what another one returns.

    Raises:
        ValueError: (for pydantic) It is no method, a control, or adds tensors to the model.
    """
    if getattr(inner_method(value), "adds", ()):
        raise ValueError(f"{value.name} adds tensors to the model and cannot stand inside another")
    return value


def _same_tensors_or_none(value: Any) -> Any:
    return None if value is None else same_tensors(value)


InnerMethodOrNone = Annotated[Any, AfterValidator(_same_tensors_or_none)]
"""A method that another one goes on from, as `same_tensors` has it, or None."""
