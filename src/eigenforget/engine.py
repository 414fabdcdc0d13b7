"""The only training loop, and the only evaluation loop: Lightning Fabric behind `fit` and `forward`."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import islice, product
from typing import Any, NamedTuple

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from eigenforget import seeds
from eigenforget.features import Tap, capture
from eigenforget.initialisation import infinite_constants, unsound
from eigenforget.phases import Momentum, Optimizer, Part, Phase, Schedule, ScheduleName, WeightDecay
from eigenforget.probing import Probed
from eigenforget.sources import Source
from eigenforget.types import Batch, Diverged, EigenforgetError, Outputs

__all__ = [
    "Engine", "Log", "Meter", "Momentum", "Optimizer", "Part", "Phase", "Schedule", "ScheduleName", "WeightDecay", "in_eval_mode",
]  # fmt: skip

Log = Callable[[Mapping[str, Any]], None]
_NORMS = (nn.modules.batchnorm._NormBase,)


@dataclass
class Meter:
    """Samples that went through a model: `trained` forward and backward, `forwarded` forward only (teachers, bases, masks)."""

    trained: int = 0
    forwarded: int = 0


@dataclass(frozen=True)
class Engine:
    """Where and how computation runs. precision as in Lightning Fabric ("32-true", "bf16-mixed", …); evaluation is always float32.

    `meter` counts the samples of everything that ran on this engine.
    """

    device: str = "auto"
    precision: str = "32-true"
    channels_last: bool = False
    fabric: Fabric = field(init=False, repr=False, compare=False)
    meter: Meter = field(default_factory=Meter, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        try:
            fabric = Fabric(accelerator=self.device, devices=1, precision=self.precision)  # type: ignore[arg-type]
        except (ValueError, RuntimeError) as error:
            raise EigenforgetError(f"device {self.device!r} with precision {self.precision!r}: {error}") from None
        object.__setattr__(self, "fabric", fabric)

    def fit(
        self, model: nn.Module, phases: Sequence[Phase], *, cycles: int, seed: int, layer: str | None = None, log: Log | None = None
    ) -> nn.Module:
        """Train `model` in place: every cycle runs one epoch of each phase in order. Returns the same module, in eval mode.

        Batch order, augmentation and dropout depend on the seed and the phase name only. Errors: Diverged on a non-finite loss or
        weight; buffers that were infinite before and did not change, such as masks, are none.
        """
        constants = infinite_constants(model)
        run = _Run(self, self.placed(model), phases, cycles, layer)
        with torch.random.fork_rng(devices=self._cuda()):
            torch.manual_seed(seeds.derive(seed, "dropout"))
            for cycle, index in product(range(cycles), range(len(phases))):
                row = run.epoch(index, cycle, seeds.generator(seed, "order", phases[index].name, cycle))
                if row is None:
                    break
                if log is not None:
                    log(log.seen(row, model) if isinstance(log, Probed) else row)
        for name in unsound(model, constants):
            raise Diverged(f"training diverged: {name} holds NaN or infinite values")
        model.zero_grad(set_to_none=True)
        return model.eval()

    def forward(
        self, model: nn.Module, source: Source, *, layer: str | None = None, layers: Sequence[str] = (), batch_size: int = 512
    ) -> Iterator[tuple[Batch, Outputs]]:
        """The outputs of a model in eval mode on each batch, in order, in float32 and without gradients.

        The model's training flags are as before when the pass ends or is abandoned.
        """
        model = self.placed(model)
        with in_eval_mode(model), capture(model, layer, layers) as tap:
            for batch in source.batches(batch_size):
                with torch.no_grad():
                    moved = self.fabric.to_device(batch)
                    outputs = _float(tap(self.formatted(moved.inputs)))
                self.meter.forwarded += len(moved.labels)
                yield moved, outputs

    def placed(self, model: nn.Module) -> nn.Module:
        """The model on this engine's device, in its memory order."""
        model = model.to(self.fabric.device)
        return model.to(memory_format=torch.channels_last) if self.channels_last else model  # type: ignore[call-overload]

    def formatted(self, inputs: Any) -> Any:
        """Inputs in the engine's memory order."""
        if self.channels_last and isinstance(inputs, Tensor) and inputs.ndim == 4:
            return inputs.contiguous(memory_format=torch.channels_last)
        return inputs

    def _cuda(self) -> list[int]:
        device = self.fabric.device
        return [device.index or 0] if device.type == "cuda" else []


@contextmanager
def in_eval_mode(model: nn.Module) -> Iterator[None]:
    """The model is in eval mode while the context lasts; every module's own training flag is put back afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


class _Taps(NamedTuple):
    """Calls of the model in training and of each teacher that also give the features."""

    student: Tap
    teachers: tuple[Tap, ...]


class _Run:
    """One call of `fit`: the wrapped model and an optimizer and schedule for each phase."""

    def __init__(self, engine: Engine, model: nn.Module, phases: Sequence[Phase], cycles: int, layer: str | None) -> None:
        self.engine, self.model, self.phases, self.layer = engine, model, phases, layer
        trained = [_trained(model, phase) for phase in phases]
        wrapped = engine.fabric.setup(model, *[p.optimizer.over(t) for p, t in zip(phases, trained, strict=True)])
        self.wrapped, *self.optimizers = wrapped if isinstance(wrapped, tuple) else (wrapped,)
        self.trained = trained
        self.steps = [0] * len(phases)
        self.totals = [cycles * phase.steps() for phase in phases]

    def epoch(self, index: int, cycle: int, generator: torch.Generator) -> dict[str, Any] | None:
        """One epoch of one phase and its log row; None where the phase has ended the training."""
        phase = self.phases[index]
        started = time.perf_counter()
        if phase.prepare is not None and phase.prepare(self.model, cycle) is False:
            return None
        self._set_mode(index)
        total, count = 0.0, 0
        with ExitStack() as stack:
            taps = self._taps(phase, stack)
            for batches in _aligned(phase, generator):
                loss = self._step(index, cycle, self._parts(taps, batches))
                total += loss * len(batches[0].labels)
                count += len(batches[0].labels)
        return {"cycle": cycle, "phase": phase.name, "loss": total / count, "seconds": time.perf_counter() - started}

    def _step(self, index: int, cycle: int, parts: Iterator[Part]) -> float:
        phase, optimizer = self.phases[index], self.optimizers[index]
        for group in optimizer.param_groups:
            group["lr"] = phase.optimizer.lr * phase.optimizer.factor(self.steps[index], self.totals[index])
        self.model.zero_grad(set_to_none=True)
        loss = phase.loss(*parts).mean()
        if phase.penalty is not None:
            loss = loss + phase.penalty(self.model, cycle)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise Diverged(f"training diverged: the {phase.name} loss is {value} in cycle {cycle}, step {self.steps[index]}")
        self.engine.fabric.backward(loss)
        if phase.optimizer.clip > 0:
            torch.nn.utils.clip_grad_norm_(self.trained[index], phase.optimizer.clip)
        if phase.on_gradients is not None:
            phase.on_gradients(self.model)
        optimizer.step()
        if phase.after_step is not None:
            phase.after_step(self.model)
        self.steps[index] += 1
        return value

    def _taps(self, phase: Phase, stack: ExitStack) -> _Taps:
        student = stack.enter_context(capture(self.model, self.layer))
        student.model = self.wrapped
        return _Taps(student, tuple(stack.enter_context(capture(teacher, self.layer)) for teacher in phase.teachers))

    def _parts(self, taps: _Taps, batches: tuple[Batch, ...]) -> Iterator[Part]:
        for batch in batches:
            batch = self.engine.fabric.to_device(batch)
            inputs = self.engine.formatted(batch.inputs)
            with torch.no_grad(), self.engine.fabric.autocast():
                taught = tuple(_float(teacher(inputs)) for teacher in taps.teachers)
            self.engine.meter.trained += len(batch.labels)
            self.engine.meter.forwarded += len(batch.labels) * len(taps.teachers)
            yield Part(batch, _float(taps.student(inputs)), taught)

    def _set_mode(self, index: int) -> None:
        phase, trained = self.phases[index], {id(p) for p in self.trained[index]}
        self.wrapped.train()
        for teacher in phase.teachers:
            self.engine.placed(teacher).eval()
        for module in self.model.modules():
            if isinstance(module, _NORMS):
                own = list(module.parameters())
                moves = any(id(p) in trained for p in own)
                live = not own or any(p.requires_grad for p in own)
                module.train(live and (phase.norm == "train" or (phase.norm == "trained" and moves)))


def _trained(model: nn.Module, phase: Phase) -> list[nn.Parameter]:
    chosen = [p for name, p in model.named_parameters() if p.requires_grad and (phase.trains is None or phase.trains(name))]
    if not chosen:
        raise EigenforgetError(f"phase {phase.name} has no trainable parameter")
    return chosen


def _aligned(phase: Phase, generator: torch.Generator) -> Iterator[tuple[Batch, ...]]:
    """Batches of the first source, each beside one batch of every further source; those start again when exhausted."""
    others = [_endless(source, phase.batch_size, generator) for source in phase.sources[1:]]
    for batch in islice(_endless(phase.sources[0], phase.batch_size, generator), phase.steps()):
        yield (batch, *(next(other) for other in others))


def _endless(source: Source, batch_size: int, generator: torch.Generator) -> Iterator[Batch]:
    while True:
        yield from source.batches(batch_size, generator)


def _float(outputs: Outputs) -> Outputs:
    return Outputs(outputs.logits.float(), outputs.features.float(), {name: f.float() for name, f in outputs.layers.items()})
