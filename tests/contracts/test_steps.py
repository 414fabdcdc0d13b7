"""No training step reads a value back from the device: each would wait until that has caught up.

The operators that do so are refused while a step runs, so the tests need no GPU. A first step of
each phase may look: what is checked or made once belongs there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.optim.optimizer import (
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)
from torch.utils._python_dispatch import TorchDispatchMode

from eigenforget.methods import METHODS
from eigenforget.methods.base import Task
from eigenforget.methods.muda import MUDA
from eigenforget.methods.random_label import RandomLabel
from eigenforget.methods.unlearn import run_method
from eigenforget.training import engine
from tests.contracts.test_methods import quick

READS = {
    torch.ops.aten._local_scalar_dense,
    torch.ops.aten.nonzero,
    torch.ops.aten.masked_select,
    torch.ops.aten.unique_dim,
    torch.ops.aten._unique2,
    torch.ops.aten.equal,
}
"""`item`, `bool`, `float`, `tolist` and branches on values end in the first of them."""
BY_ROWS = {torch.ops.aten.index, torch.ops.aten.index_put, torch.ops.aten.index_put_}

_in_an_optimizer = [False]
"""AdamW of torch reads its own count of steps, which it keeps on the processor."""


class NothingReadBack(TorchDispatchMode):
    """Fails where a value of a tensor has to be known for the next operator."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if _in_an_optimizer[0]:
            return func(*args, **(kwargs or {}))
        packet = func.overloadpacket
        rows = args[1] if packet in BY_ROWS else ()
        by_mask = any(isinstance(at, Tensor) and at.dtype == torch.bool for at in rows)
        assert packet not in READS and not by_mask, f"a step reads values back: {func}"
        return func(*args, **(kwargs or {}))


Steps = list[str]


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> Iterator[Steps]:
    """The phases of the steps that ran, each step but the first of a phase under the mode."""
    seen: Steps = []
    step: Callable[..., Any] = engine._Training._step

    def watched(self: Any, index: int, *args: Any) -> Any:
        name = self.phases[index].name
        first = self.steps[index] == 0
        with nullcontext() if first else NothingReadBack():
            found = step(self, index, *args)
        seen.append(name)
        return found

    monkeypatch.setattr(engine._Training, "_step", watched)

    def enters(optimizer: Any, *_: Any) -> None:
        _in_an_optimizer[0] = True
        if isinstance(optimizer, torch.optim.LBFGS):
            seen.append(FIT)

    hooks = [
        register_optimizer_step_pre_hook(enters),
        register_optimizer_step_post_hook(lambda *_: _in_an_optimizer.__setitem__(0, False)),
    ]
    yield seen
    for hook in hooks:
        hook.remove()


FIT = "fit of a probe"
FIT_PROBES = ("muda", "probed_muda")
"""Fit a probe by L-BFGS every few steps, whose line search reads the loss each time."""
WITHOUT_STEPS = (
    "ssd",
    "lfssd",
    "fisher_forgetting",
    "influence",
    "wood_fisher",
    "esc",
    "engram",
    "potion",
    "certified_head",
    "identity",
    "head_mask",
)
"""Change weights without a step of an optimizer."""
DRAWS_ON_THE_PROCESSOR = ("munba",)
"""Published to draw labels anew for each batch, which random_label does on the processor."""


@pytest.mark.parametrize(
    "kind",
    [kind for kind in METHODS if kind.name not in DRAWS_ON_THE_PROCESSOR],
    ids=lambda kind: kind.name,
)
def test_no_method_reads_back_within_a_step(kind: type, task: Task, steps: Steps) -> None:
    run_method(quick(kind), task)
    assert (FIT in steps) == (kind.name in FIT_PROBES)
    assert bool(steps) == (kind.name not in WITHOUT_STEPS)


@pytest.mark.parametrize(
    "method",
    [
        MUDA(alternations=2, batch_size=32, target="masked_label"),
        MUDA(alternations=2, batch_size=32, target="self", centering="each", form="energy"),
        RandomLabel(epochs=1, candidates="all", redraw="epoch"),
    ],
    ids=lambda method: method.name,
)
def test_nor_does_another_form_of_a_method(method: Any, task: Task, steps: Steps) -> None:
    run_method(method, task)
    assert len(steps) > 2


@pytest.mark.parametrize(
    "read",
    [lambda x: float(x.sum()), lambda x: x[x > 0], lambda x: bool((x > 0).all()), Tensor.nonzero],
    ids=["float", "mask", "bool", "nonzero"],
)
def test_what_reads_values_is_refused(read: Callable[[Tensor], Any]) -> None:
    with pytest.raises(AssertionError, match="reads values back"), NothingReadBack():
        read(torch.ones(3))
