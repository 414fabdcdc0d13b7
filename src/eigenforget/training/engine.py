"""The only training loop, and the only evaluation loop: Lightning Fabric behind `fit` and
`forward`.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import islice, product
from typing import Any, NamedTuple

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from eigenforget.core import seeds
from eigenforget.core.errors import Diverged, EigenforgetError
from eigenforget.core.types import Batch, Outputs
from eigenforget.data.sources import Source
from eigenforget.models.features import Tap, capture
from eigenforget.models.initialisation import infinite_constants, unsound
from eigenforget.training.log import Log, Look
from eigenforget.training.phases import LossInputs, Phase
from eigenforget.training.ranks import Ranks, Strategy, fabric_over, ranks_of

_NORMS = (nn.modules.batchnorm._NormBase,)


@dataclass
class Meter:
    """Samples that went through a model: `trained` forward and backward, `forwarded` forward only
    (teachers, bases, masks).
    """

    trained: int = 0
    forwarded: int = 0


@dataclass(frozen=True)
class Engine:
    """Where and how computation runs. precision as in Lightning Fabric ("32-true", "bf16-mixed",
    …); evaluation is always float32.

    devices: processes, one for each device, that share the work of this engine; each of them makes
    the same calls, after engine.fabric.launch(). A batch size is that of all together. strategy:
    "ddp", which "auto" is with several devices. accumulate: batches whose mean gradient makes one
    step. compile: torch.compile the model while it trains. `meter` counts the samples of everything
    that ran on this engine, on all its devices.
    """

    device: str = "auto"
    precision: str = "32-true"
    channels_last: bool = False
    devices: int = 1
    strategy: Strategy = "auto"
    accumulate: int = 1
    compile: bool = False
    fabric: Fabric = field(init=False, repr=False, compare=False)
    meter: Meter = field(default_factory=Meter, init=False, repr=False, compare=False)
    _alone: bool = field(default=False, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.accumulate < 1:
            raise EigenforgetError(f"accumulate {self.accumulate} must be 1 or more")
        fabric = fabric_over(
            self.device, self.precision, devices=self.devices, strategy=self.strategy
        )
        object.__setattr__(self, "fabric", fabric)

    @property
    def ranks(self) -> Ranks:
        """This process among those that share the work. Errors: devices > 1 and they were not
        launched.
        """
        return (
            Ranks(0, 1, self.fabric.device) if self._alone else ranks_of(self.fabric, self.devices)
        )

    def alone(self) -> Engine:
        """This engine with each process computing all by itself, batch for batch: for audits, whose
        training is to have the same bits on any number of devices.
        """
        found = copy.copy(self)
        for name, value in {"_alone": True, "accumulate": 1, "compile": False}.items():
            object.__setattr__(found, name, value)
        return found

    @contextmanager
    def led(self) -> Iterator[bool]:
        """Whether this process is the one that writes files; all wait for each other before, and
        for it after.
        """
        if self.devices > 1:
            self.fabric.barrier()
        yield self.ranks.rank == 0
        if self.devices > 1:
            self.fabric.barrier()

    def fit(
        self,
        model: nn.Module,
        phases: Sequence[Phase],
        *,
        epochs: int,
        seed: int,
        layer: str | None = None,
        log: Log | None = None,
        look: Look | None = None,
    ) -> nn.Module:
        """Train `model` in place: every epoch runs one epoch of each phase in order. Returns the
        same module, in eval mode.

        Batch order, augmentation and dropout depend on the seed and the phase name only; with
        several devices dropout also on their number. Errors: Diverged on a non-finite loss or
        weight; buffers that were infinite before and did not change, such as masks, are none.
        """
        constants = infinite_constants(model)
        ranks, run = self.ranks, _Run(self, self.placed(model), phases, epochs, layer)
        ranks.check_alike(model, "before training: build or load it in the same way on each")
        with torch.random.fork_rng(devices=self._cuda()), run.capturing():
            torch.manual_seed(seeds.derive(seed, "dropout", *([ranks.rank] if ranks.rank else [])))
            for epoch, index in product(range(epochs), range(len(phases))):
                row = run.epoch(
                    index, epoch, seeds.generator(seed, "order", phases[index].name, epoch)
                )
                if row is None:
                    break
                if log is not None:
                    log(row if look is None else {**row, **look(model)})
        for name in unsound(model, constants):
            raise Diverged(f"training diverged: {name} holds NaN or infinite values")
        ranks.check_alike(
            model,
            "after training: a layer keeps statistics of the rows it sees; train on one device",
        )
        model.zero_grad(set_to_none=True)
        return model.eval()

    def forward(
        self,
        model: nn.Module,
        source: Source,
        *,
        layer: str | None = None,
        layers: Sequence[str] = (),
        batch_size: int = 512,
    ) -> Iterator[tuple[Batch, Outputs]]:
        """The outputs of a model in eval mode on each batch, in order, in float32 and without
        gradients.

        The model's training flags are as before when the pass ends or is abandoned. Several devices
        take turns at whole batches, and each receives all outputs, the bits that one device
        computes.
        """
        model, ranks = self.placed(model), self.ranks
        divided = ranks.is_divided(source, batch_size)
        place = ranks.rank if divided else 0
        with in_eval_mode(model), capture(model, layer, layers) as tap:
            for turn in ranks.turns(source, batch_size):
                own = None
                if place < len(turn):
                    turn[place] = self.fabric.to_device(turn[place])
                    with torch.no_grad():
                        own = _float(tap(self.formatted(turn[place].inputs)))
                for batch, outputs in zip(
                    turn, ranks.exchanged(own, len(turn), layers) if divided else [own], strict=True
                ):
                    self.meter.forwarded += len(batch.labels)
                    yield self.fabric.to_device(batch), outputs  # type: ignore[misc]

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
    """The model is in eval mode while the context lasts; every module's own training flag is put
    back afterwards.
    """
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

    def __init__(
        self,
        engine: Engine,
        model: nn.Module,
        phases: Sequence[Phase],
        epochs: int,
        layer: str | None,
    ) -> None:
        self.engine, self.model, self.phases, self.layer = engine, model, phases, layer
        trained = [_trained(model, phase) for phase in phases]
        called: Any = torch.compile(model) if engine.compile else model
        wrapped = engine.fabric.setup(
            called, *[p.optimizer.over(t) for p, t in zip(phases, trained, strict=True)]
        )
        self.wrapped, *self.optimizers = wrapped if isinstance(wrapped, tuple) else (wrapped,)
        self.trained = trained
        self.steps = [0] * len(phases)
        self.totals = [epochs * math.ceil(phase.steps() / engine.accumulate) for phase in phases]
        self.ranks = engine.ranks
        self.tap: Tap | None = None

    @contextmanager
    def capturing(self) -> Iterator[None]:
        """Compiled code keeps the hooks that it was traced with: they stand until the training
        ends.
        """
        if not self.engine.compile:
            yield
            return
        with capture(self.model, self.layer) as self.tap:
            self.tap.model = self.wrapped
            yield

    def epoch(self, index: int, epoch: int, generator: torch.Generator) -> dict[str, Any] | None:
        """One epoch of one phase and its log row; None where the phase has ended the training."""
        phase = self.phases[index]
        started = time.perf_counter()
        if phase.prepare is not None and phase.prepare(self.model, epoch) is False:
            return None
        self._set_mode(index)
        total, count = 0.0, 0
        with ExitStack() as stack:
            taps = self._taps(phase, stack)
            batches = _aligned(phase, generator)
            while group := list(islice(batches, self.engine.accumulate)):
                samples = sum(len(first.labels) for first, *_ in group)
                total += (
                    self._step(
                        index,
                        epoch,
                        [
                            (self._parts(taps, step), len(step[0].labels) / samples)
                            for step in group
                        ],
                    )
                    * samples
                )
                count += samples
        return {
            "epoch": epoch,
            "phase": phase.name,
            "loss": total / count,
            "seconds": time.perf_counter() - started,
        }

    def _step(
        self, index: int, epoch: int, group: Sequence[tuple[Iterator[LossInputs], float]]
    ) -> float:
        """One step along the weighted mean of the gradients of a group of batches; answers with
        that mean of the losses.
        """
        phase, optimizer = self.phases[index], self.optimizers[index]
        for settings in optimizer.param_groups:
            settings["lr"] = phase.optimizer.lr * phase.optimizer.factor(
                self.steps[index], self.totals[index]
            )
        self.model.zero_grad(set_to_none=True)
        value = sum(self._backward(index, epoch, parts, weight) for parts, weight in group)
        self.ranks.average_gradients(self.model.parameters())
        if phase.optimizer.clip > 0:
            torch.nn.utils.clip_grad_norm_(self.trained[index], phase.optimizer.clip)
        if phase.on_gradients is not None:
            phase.on_gradients(self.model)
        optimizer.step()
        if phase.after_step is not None:
            phase.after_step(self.model)
        self.steps[index] += 1
        return value

    def _backward(
        self, index: int, epoch: int, parts: Iterator[LossInputs], weight: float
    ) -> float:
        phase = self.phases[index]
        loss = phase.loss(*parts).mean()
        if phase.penalty is not None:
            loss = loss + phase.penalty(self.model, epoch)
        value = self.ranks.summed(float(loss.detach())) / self.ranks.world
        if not math.isfinite(value):
            raise Diverged(
                f"training diverged: the {phase.name} loss is {value} in epoch {epoch}, step {self.steps[index]}"
            )
        self.engine.fabric.backward(loss if weight == 1 else loss * weight)
        return value * weight

    def _taps(self, phase: Phase, stack: ExitStack) -> _Taps:
        student = self.tap or stack.enter_context(capture(self.model, self.layer))
        student.model = self.wrapped
        return _Taps(
            student,
            tuple(stack.enter_context(capture(teacher, self.layer)) for teacher in phase.teachers),
        )

    def _parts(self, taps: _Taps, batches: tuple[Batch, ...]) -> Iterator[LossInputs]:
        for batch in batches:
            batch = self.engine.fabric.to_device(batch)
            share = self.ranks.share(len(batch.labels))
            inputs = self.engine.formatted(share.of(batch.inputs))
            with share.whole_batch():
                with torch.no_grad(), self.engine.fabric.autocast():
                    taught = tuple(
                        share.gathered(_float(teacher(inputs))) for teacher in taps.teachers
                    )
                outputs = share.gathered(_float(taps.student(inputs)))
            self.engine.meter.trained += len(batch.labels)
            self.engine.meter.forwarded += len(batch.labels) * len(taps.teachers)
            yield LossInputs(batch, outputs, taught)

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
                module.train(
                    live and (phase.norm == "train" or (phase.norm == "trained" and moves))
                )


def _trained(model: nn.Module, phase: Phase) -> list[nn.Parameter]:
    chosen = [
        p
        for name, p in model.named_parameters()
        if p.requires_grad and (phase.trains is None or phase.trains(name))
    ]
    if not chosen:
        raise EigenforgetError(f"phase {phase.name} has no trainable parameter")
    return chosen


def _aligned(phase: Phase, generator: torch.Generator) -> Iterator[tuple[Batch, ...]]:
    """Batches of the first source, each beside one batch of every further source; those start again
    when exhausted.
    """
    others = [_endless(source, phase.batch_size, generator) for source in phase.sources[1:]]
    for batch in islice(_endless(phase.sources[0], phase.batch_size, generator), phase.steps()):
        yield (batch, *(next(other) for other in others))


def _endless(source: Source, batch_size: int, generator: torch.Generator) -> Iterator[Batch]:
    while True:
        yield from source.batches(batch_size, generator)


def _float(outputs: Outputs) -> Outputs:
    return Outputs(
        outputs.logits.float(),
        outputs.features.float(),
        {name: f.float() for name, f in outputs.layers.items()},
    )
