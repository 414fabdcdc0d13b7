"""The only training loop and the only evaluation loop: `Engine.fit` and `Engine.forward`."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import accumulate, chain, count, islice, product
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.distributed import is_initialized

from eigenforget.core import notices, seeds
from eigenforget.core.errors import Diverged, EigenforgetError, Refused
from eigenforget.core.types import Batch, Outputs
from eigenforget.data.sources import Source, TensorSource
from eigenforget.data.sources.inputs import concatenated, joinable
from eigenforget.data.sources.placing import near, room_on
from eigenforget.models.features import Tap, called_with, capture, in_eval_mode
from eigenforget.models.initialisation import NORMS, infinite_constants, unsound
from eigenforget.models.precision import in_type_of
from eigenforget.training.log import Log, Look
from eigenforget.training.phases import LossInputs, Phase
from eigenforget.training.processes import (
    Processes,
    accept_old_names,
    check_settings,
    fabric_over,
    own_rows,
    settled_precision,
)
from eigenforget.training.updater import set_up

if TYPE_CHECKING:  # it takes as long to load as torch
    from lightning_fabric import Fabric


_MEASURED = 512
"""Samples of a batch in passes that measure."""

Change = Callable[[nn.Module, Sequence[Phase]], Sequence[Phase]]
"""(model, phases) -> the phases that train it instead."""


@dataclass
class Meter:
    """Counts samples that go through a model.

    Attributes:
        trained: Forward and backward.
        forwarded: Forward only, such as through teachers or for bases and masks.
    """

    trained: int = 0
    forwarded: int = 0

    def count(self, *, trained: int = 0, forwarded: int = 0) -> None:
        """Add to the counts."""
        self.trained += trained
        self.forwarded += forwarded


@dataclass(frozen=True)
class Engine:
    """Where and how computation runs.

    Attributes:
        device: "auto", "cpu", "cuda" or one GPU, as in "cuda:1".
        precision: "32-true", "64-true", "bf16-mixed", "bf16-true", and on a GPU "16-mixed" and
            "16-true". Evaluation is always float32. On a processor without instructions for
            bfloat16 it becomes "32-true", with a warning.
        channels_last: Whether images and models are in the memory order NHWC.
        devices: Number of processes, one per device, that share the work. Each of them makes the
            same calls, after `engine.fabric.launch()`. Batch sizes count the samples of all
            processes together.
        strategy: "ddp", which "auto" means with several devices.
        accumulate: Number of batches whose mean gradient makes one step.
        compile: Whether the model is compiled while it trains.
        fabric: Lightning Fabric; made from the fields above unless it is given.
        meter: Counts the samples of all that runs on this engine, on all its devices.
        changes: What is done to the phases of every training; see `changing`.
    """

    device: str = "auto"
    precision: str = "32-true"
    channels_last: bool = False
    devices: int = 1
    strategy: Literal["auto", "ddp"] = "auto"
    accumulate: int = 1
    compile: bool = False
    fabric: Fabric = field(default=cast("Fabric", None), repr=False, compare=False)
    meter: Meter = field(default_factory=Meter, repr=False, compare=False)
    changes: tuple[Change, ...] = field(default=(), repr=False, compare=False)

    def __post_init__(self) -> None:
        check_settings(accumulate=self.accumulate)
        if self.fabric is None:
            shape = {"devices": self.devices, "strategy": self.strategy}
            fabric = fabric_over(self.device, precision=self.precision, **shape)
            precision = settled_precision(fabric.device, self.precision)
            if precision != self.precision:
                fabric = fabric_over(self.device, precision=precision, **shape)
                object.__setattr__(self, "precision", precision)
            object.__setattr__(self, "fabric", fabric)
        if self.fabric.world_size > 1:
            accept_old_names()
        if self.fabric.device.type == "mps":
            raise EigenforgetError(
                "device 'mps' cannot compute in float64, which alignment and statistics need; use "
                "cpu"
            )

    @property
    def processes(self) -> Processes:
        """The processes that share the work.

        Raises:
            EigenforgetError: There are to be several, and they were not launched.
        """
        if self.devices > 1 and not is_initialized():
            raise EigenforgetError(
                f"an engine on {self.devices} devices works after engine.fabric.launch() in a "
                "script, or under torchrun"
            )
        return Processes(self.fabric)

    @property
    def leads(self) -> bool:
        """Whether this process is the first one, which writes files and speaks."""
        return self.processes.rank == 0

    @cached_property
    def local(self) -> Fabric:
        """Fabric on the device of this process alone, for precision and optimizers."""
        if self.devices == 1:
            return self.fabric
        from lightning_fabric import Fabric

        own = self.fabric.device
        devices = 1 if own.index is None else [own.index]
        return Fabric(accelerator=own.type, devices=devices, precision=cast("Any", self.precision))

    def alone(self) -> Engine:
        """This engine with each process computing all by itself, batch for batch.

        Audits use it: their training has the same bits on any number of devices.
        """
        return replace(
            self, devices=1, strategy="auto", accumulate=1, compile=False, fabric=self.local
        )

    def changing(self, change: Change) -> Engine:
        """This engine with `change(model, phases)` in the place of the phases of every training.

        A method that runs another one, such as masked, reaches into its trainings with this.
        """
        return replace(self, changes=(change, *self.changes))

    @contextmanager
    def led(self) -> Iterator[bool]:
        """Whether this process is the one that writes files.

        The processes wait for each other before, and for that one afterwards.
        """
        self.fabric.barrier()
        yield self.leads
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
        """Train a model in place.

        Args:
            model: The model to train.
            phases: What each epoch consists of, in order.
            epochs: How often the phases run.
            seed: Batch order, augmentation and dropout follow from it and from the names of the
                phases; with several devices dropout also depends on their number.
            layer: The feature layer; None takes the input of the classifier head.
            log: Called with a row after each epoch of each phase.
            look: Called with the model then; what it returns is added to the row.

        Returns:
            The same model, in eval mode.

        Raises:
            Diverged: A loss, weight or buffer is NaN or infinite at the end of an epoch. Buffers
                that were infinite before and did not change, such as masks, do not count.
            EigenforgetError: Several processes hold different models.
        """
        for change in self.changes:
            phases = change(model, phases)
        phases = _with_statistics_kept(model, phases)
        constants, processes = infinite_constants(model), self.processes
        model = self.placed(model)
        # First: what averages gradients over processes gives all of them the weights of one.
        processes.check_same(model, "before training: build or load it in the same way on each")
        training = _Training(self, model, phases, epochs, layer)
        own_dropout = [processes.rank] if processes.rank else []
        with (
            seeds.torch_state_kept(self.fabric.device),
            training.loss.compiled(),
            training.only_what_trains(),
        ):
            seeds.seed_torch(seeds.derive(seed, "dropout", *own_dropout), self.fabric.device)
            for epoch, index, order in _passes(model, phases, epochs, seed):
                row = training.epoch(index, epoch, order)
                if row is None:
                    break
                if log is not None:
                    log(row if look is None else {**row, **look(model)})
        for name in unsound(model, constants):
            raise Diverged(f"training diverged: {name} holds NaN or infinite values")
        processes.check_same(
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
        batch_size: int = _MEASURED,
    ) -> Iterator[tuple[Batch, Outputs]]:
        """Yield the outputs of a model in eval mode on each batch, in order.

        Outputs are float32 and have no gradients. Several devices take turns at whole batches, and
        each receives all outputs, with the bits that one device computes. The model's training
        flags are as before when the pass ends or is abandoned.

        Args:
            model: Any classifier.
            source: The samples.
            layer: The feature layer; None takes the input of the classifier head.
            layers: Further layers whose features are wanted.
            batch_size: Samples per batch.
        """
        model = self.placed(model)
        with in_eval_mode(model), capture(model, layer, layers) as tap:

            def compute(batch: Batch) -> list[Tensor]:
                with torch.no_grad():
                    found = tap(self.formatted(batch.inputs, model)).mapped(Tensor.float)
                return [found.logits, found.features, *found.layers.values()]

            for batch, (logits, features, *others) in self.processes.in_turns(
                compute, source, batch_size, rows=lambda batch: len(batch.labels)
            ):
                self.meter.count(forwarded=len(batch.labels))
                named = zip(dict.fromkeys(layers), others, strict=True)
                yield batch, Outputs(logits, features, dict(named))

    def mapped(self, part: nn.Module, source: Source) -> TensorSource:
        """What a part of a model in eval mode gives for each sample, with the labels, in order.

        Nothing is counted: the samples still have the rest of the model before them.

        Args:
            part: A module that gives a tensor with a row a sample.
            source: The samples.
        """
        part = self.placed(part)

        def compute(batch: Batch) -> list[Tensor]:
            with torch.no_grad():
                return [called_with(part, self.formatted(batch.inputs, part))]

        given, labels = [], []
        with in_eval_mode(part):
            for batch, (tensor,) in self.processes.in_turns(
                compute, source, _MEASURED, rows=lambda batch: len(batch.labels)
            ):
                given.append(tensor)
                labels.append(batch.labels)
        return TensorSource(torch.cat(given), torch.cat(labels))

    def correct(self, model: nn.Module, source: Source, *, layer: str | None = None) -> np.ndarray:
        """Whether a model in eval mode classifies each sample as its label says, bool [N].

        Args:
            model: Any classifier.
            source: The samples.
            layer: The feature layer of a model without a linear head.
        """
        passes = self.forward(model, source, layer=layer)
        hits = [outputs.logits.argmax(1) == batch.labels for batch, outputs in passes]
        return torch.cat(hits).cpu().numpy()

    def steps(self, phase: Phase, epochs: int) -> int:
        """Optimizer steps of a phase in a training of that many epochs."""
        return epochs * math.ceil(phase.steps() / self.accumulate)

    def placed(self, model: nn.Module) -> nn.Module:
        """The model on this engine's device, in its memory order.

        Raises:
            EigenforgetError: torch would crash on it in this order.
        """
        if self.channels_last and self.fabric.device.type == "cpu":
            _check_strided(model)
        device = self.fabric.device
        # model.to sets every tensor anew, also where none moves.
        if any(t.device != device for t in chain(model.parameters(), model.buffers())):
            model = model.to(device)
        return model.to(memory_format=torch.channels_last) if self.channels_last else model  # type: ignore[call-overload]

    def at_device(self, batch: Batch) -> Batch:
        """The batch on the device of this process; without a copy where it is there already."""
        device = self.local.device
        there = [isinstance(column, Tensor) and column.device == device for column in batch]
        return batch if all(there) else self.local.to_device(batch)

    def formatted(self, inputs: Any, model: nn.Module | None = None) -> Any:
        """Inputs in the engine's memory order, and in the type of the model that they are for."""
        if model is not None:
            inputs = in_type_of(model, inputs)
        if self.channels_last and isinstance(inputs, Tensor) and inputs.ndim == 4:
            return inputs.contiguous(memory_format=torch.channels_last)
        return inputs


def engine_beside(*given: object) -> Engine:
    """The engine where nobody names one: on the GPU of the first module there, else the best one.

    Args:
        given: Modules, and what else a caller was given.
    """
    modules = (one for one in given if isinstance(one, nn.Module))
    devices = (parameter.device for one in modules for parameter in islice(one.parameters(), 1))
    gpu = next((device for device in devices if device.type == "cuda"), None)
    return Engine() if gpu is None else Engine(device=str(gpu))


def _check_strided(model: nn.Module) -> None:
    """An error where a training in the order NHWC would overwrite foreign memory.

    torch 2.13 does so in the backward pass of 1 × 1 convolutions with a stride that read fewer than
    8 channels, on processors without AVX-512: "corrupted double-linked list", or a segmentation
    fault, for 2 to 4 and 4 to 8 channels, and none of this from 8 channels on.
    """
    if torch.backends.cpu.get_cpu_capability().startswith("AVX512"):
        return
    for name, layer in model.named_modules():
        strided = isinstance(layer, nn.Conv2d) and set(layer.kernel_size) == {1}
        if strided and max(layer.stride) > 1 and layer.in_channels < 8:
            raise EigenforgetError(
                f"channels_last crashes torch on this processor in layer {name!r}, a 1 × 1 "
                f"convolution with a stride that reads {layer.in_channels} channels, fewer than 8; "
                "leave channels_last out"
            )


class _Taps(NamedTuple):
    """Calls of the model in training and of each teacher that also give the features."""

    student: Tap
    teachers: tuple[Tap, ...]


class _Loss(nn.Module):
    """The loss of one step's batches, as a function of the model's parameters.

    DistributedDataParallel goes around this, not around the model. A loss of features alone does
    not reach the head, and only who sees the loss can tell that the head gets no gradient. A
    gradient of 0 in the place of none would let weight decay move it.
    """

    def __init__(
        self, engine: Engine, model: nn.Module, called: nn.Module, layer: str | None
    ) -> None:
        super().__init__()
        self.model, self._engine, self._layer = model, engine, layer
        self._processes = engine.processes
        # Held in tuples: what is called in the model's place has the same parameters, under other
        # names.
        self._called = (called,)
        self._student: Tap | None = None
        # With a parameter that no loss reaches, torch does not warn that all are reached.
        self.unreached = nn.Parameter(torch.zeros(1, device=engine.fabric.device))

    @contextmanager
    def compiled(self) -> Iterator[None]:
        """Hooks on the model that stand until the training ends, where it is compiled.

        Compiled code keeps the hooks that it was traced with.
        """
        if not self._engine.compile:
            yield
            return
        with capture(self.model, self._layer, called=self._called[0]) as self._student:
            yield

    @contextmanager
    def watching(self, phase: Phase) -> Iterator[_Taps]:
        """Features of the model and of the phase's teachers are captured in this context."""
        with ExitStack() as stack:
            student = self._student or stack.enter_context(
                capture(self.model, self._layer, called=self._called[0])
            )
            teachers = [stack.enter_context(capture(t, self._layer)) for t in phase.teachers]
            yield _Taps(student, tuple(teachers))

    def forward(self, phase: Phase, epoch: int, taps: _Taps, batches: Sequence[Batch]) -> Tensor:
        *others, last = batches
        by_last = phase.normalised_by_last
        if phase.as_one and others and joinable(batches):
            normalising = len(last.labels) if by_last else None
            whole = self._inputs(phase, taps, concatenated(list(batches)), normalising)
            inputs = _parted(whole, [len(batch.labels) for batch in batches])
        else:
            inputs = [self._inputs(phase, taps, b, 0 if by_last else None) for b in others]
            inputs.append(self._inputs(phase, taps, last))
        loss = phase.loss(*inputs)
        if loss.ndim:
            loss = loss.mean()
        if phase.penalty is not None:
            loss = loss + phase.penalty(self.model, epoch)
        return loss

    def _inputs(
        self, phase: Phase, taps: _Taps, batch: Batch, normalising: int | None = None
    ) -> LossInputs:
        engine, count = self._engine, len(batch.labels)
        first = _rows_of_first_teacher(phase, batch)
        batch = engine.at_device(batch)
        inputs = engine.formatted(batch.inputs)
        taught = self._taught(taps.teachers, inputs, count, first) if taps.teachers else ()
        found = self._outputs(taps.student, inputs, count, normalising)
        engine.meter.count(trained=count)
        return LossInputs(batch, found, taught)

    def _outputs(
        self, tap: Tap, inputs: Any, count: int, normalising: int | None = None
    ) -> Outputs:
        def call(own: Any) -> Outputs:
            return tap(own).mapped(Tensor.float)

        return self._processes.shared(call, inputs, count, normalising)

    def _taught(
        self, teachers: Sequence[Tap], inputs: Any, count: int, first: int | None
    ) -> tuple[Outputs, ...]:
        """The outputs of the teachers: of each for all rows, or of each for its own as one."""

        def outputs(tap: Tap, start: int = 0, end: int = count) -> Outputs:
            own = inputs if end - start == count else own_rows(inputs, slice(start, end), count)
            self._engine.meter.count(forwarded=end - start)
            return self._outputs(tap, own, end - start)

        with torch.no_grad(), self._engine.local.autocast():
            if first is None:
                return tuple(map(outputs, teachers))
            pairs = zip(teachers, ((0, first), (first, count)), strict=True)
            return (_joined([outputs(tap, a, b) for tap, (a, b) in pairs if a < b]),)


def _parted(whole: LossInputs, sizes: Sequence[int]) -> list[LossInputs]:
    """The same samples, as the batches of these sizes that were joined."""
    ends, samples = accumulate(sizes), sum(sizes)
    return [
        own_rows(whole, slice(end - size, end), samples)
        for size, end in zip(sizes, ends, strict=True)
    ]


def _rows_of_first_teacher(phase: Phase, batch: Batch) -> int | None:
    """How many rows the first of two teachers has, where each has its own; None where both see all.

    To read them from a GPU would take a step longer than the other teacher's pass.
    """
    if phase.taught_first is None or batch.positions.device.type != "cpu":
        return None
    own = batch.positions.numpy() < phase.taught_first
    count = int(np.count_nonzero(own))
    return count if own[:count].all() else None


def _joined(parts: Sequence[Outputs]) -> Outputs:
    """The rows of several outputs, one after the other."""
    if len(parts) == 1:
        return parts[0]
    return Outputs(
        torch.cat([part.logits for part in parts]), torch.cat([part.features for part in parts])
    )


class _Training:
    """One call of `Engine.fit`: the loss, with an optimizer and a schedule for each phase."""

    def __init__(
        self,
        engine: Engine,
        model: nn.Module,
        phases: Sequence[Phase],
        epochs: int,
        layer: str | None,
    ) -> None:
        self.engine, self.model = engine, model
        self.phases = phases = _with_samples_near(phases, engine.local.device)
        self.trained = [_trained(model, phase) for phase in phases]
        self.thawed = {id(p) for p in model.parameters() if p.requires_grad}
        called: Any = torch.compile(model) if engine.compile else model
        new = [i == 0 or not phase.continues for i, phase in enumerate(phases)]
        pairs = list(zip(phases, self.trained, strict=True))
        own = [p.optimizer.over(t) for (p, t), first in zip(pairs, new, strict=True) if first]
        self.updater = set_up(engine.local, called, own)
        ready = self.updater.optimizers
        self.optimizers = [ready[sum(new[: i + 1]) - 1] for i in range(len(phases))]
        self.parameters = list(model.parameters())
        self.loss = _Loss(engine, model, self.updater.called, layer)
        self.averaged = engine.processes.averaging(self.loss)
        self.steps = [0] * len(phases)
        self.totals = [engine.steps(phase, epochs) for phase in phases]

    @contextmanager
    def only_what_trains(self) -> Iterator[None]:
        """Within it no gradient is computed for what no phase trains.

        The backward pass then ends at the first layer that trains.
        """
        trained = {id(p) for chosen in self.trained for p in chosen}
        idle = [p for p in self.parameters if id(p) in self.thawed - trained]
        for parameter in idle:
            parameter.requires_grad_(False)
        try:
            yield
        finally:
            for parameter in idle:
                parameter.requires_grad_(True)

    def epoch(self, index: int, epoch: int, order: torch.Generator) -> dict[str, Any] | None:
        """One epoch of one phase and its log row; None where the phase ends the training."""
        phase, first = self.phases[index], self.steps[index]
        started = time.perf_counter()
        if phase.prepare is not None and phase.prepare(self.model, epoch) is False:
            return None
        self._set_mode(index)
        sizes: list[int] = []
        # In one tensor: a small one kept from each step leaves holes that no later batch fits into,
        # and memory grows with the steps.
        losses = torch.empty(phase.steps(), dtype=torch.float64, device=self.engine.local.device)
        with self.loss.watching(phase) as taps:
            batches = _aligned(phase, order)
            while group := list(islice(batches, self.engine.accumulate)):
                own = [len(leading.labels) for leading, *_ in group]
                for number, loss in enumerate(self._step(index, epoch, taps, group, own)):
                    losses[len(sizes) + number] = loss
                sizes += own
        # One look for the whole epoch: within a step nothing waits for the device.
        values = self.engine.processes.mean(losses).tolist()
        for number, value in enumerate(values):
            if not math.isfinite(value):
                step = first + number // self.engine.accumulate
                raise Diverged(
                    f"training diverged: the {phase.name} loss is {value} "
                    f"in epoch {epoch}, step {step}"
                )
        return {
            "epoch": epoch,
            "phase": phase.name,
            "loss": sum(v * n for v, n in zip(values, sizes, strict=True)) / sum(sizes),
            "seconds": time.perf_counter() - started,
        }

    def _step(
        self,
        index: int,
        epoch: int,
        taps: _Taps,
        group: Sequence[tuple[Batch, ...]],
        sizes: Sequence[int],
    ) -> list[Tensor]:
        """One step along the mean of the gradients of a group of batches, weighted by their sizes.

        Returns the loss of each batch.
        """
        phase, optimizer = self.phases[index], self.optimizers[index]
        rate = phase.optimizer.lr * phase.optimizer.factor(
            self.steps[index], steps=self.totals[index]
        )
        for settings in optimizer.param_groups:
            settings["lr"] = rate
        for parameter in self.parameters:  # without the walk of nn.Module.zero_grad
            parameter.grad = None
        losses = []
        for number, batches in enumerate(group, 1):
            waits = number < len(group) and self.averaged is not self.loss
            with cast(Any, self.averaged).no_sync() if waits else nullcontext():
                loss = self.averaged(phase, epoch, taps, batches)
                weight = sizes[number - 1] / sum(sizes)
                self.updater.backward(loss if weight == 1 else loss * weight)
            losses.append(loss.detach())
        if phase.optimizer.clip > 0 or phase.on_gradients is not None:
            self.updater.unscale(optimizer)
        if phase.optimizer.clip > 0:
            torch.nn.utils.clip_grad_norm_(self.trained[index], phase.optimizer.clip)
        if phase.on_gradients is not None:
            phase.on_gradients(self.model)
        optimizer.step()
        if phase.after_step is not None:
            phase.after_step(self.model)
        self.steps[index] += 1
        return losses

    def _set_mode(self, index: int) -> None:
        phase, trained = self.phases[index], {id(p) for p in self.trained[index]}
        self.loss.train()
        for teacher in phase.teachers:
            self.engine.placed(teacher).eval()
        for module in self.model.modules():
            if isinstance(module, NORMS):
                own = list(module.parameters())
                moves = any(id(p) in trained for p in own)
                live = not own or any(id(p) in self.thawed for p in own)
                updates = phase.norm == "train" or (phase.norm == "trained" and moves)
                # A model's own train() may keep a batch norm in eval mode: there it stays.
                module.train(module.training and live and updates)


def _with_statistics_kept(model: nn.Module, phases: Sequence[Phase]) -> Sequence[Phase]:
    """The phases, of which those with batches of one sample leave batch norms as they are."""
    lone = [phase.norm != "frozen" and phase.has_lone_samples() for phase in phases]
    if not any(lone) or not any(isinstance(module, NORMS) for module in model.modules()):
        return phases
    notices.warn(
        f"phase {phases[lone.index(True)].name} has batches of one sample, which have no variance: "
        "batch norms keep their statistics there"
    )
    return [
        replace(p, norm="frozen") if alone else p for p, alone in zip(phases, lone, strict=True)
    ]


def _with_samples_near(phases: Sequence[Phase], device: torch.device) -> list[Phase]:
    """The phases with their samples on the device, where those of all phases fit there."""
    sources = {id(source): source for phase in phases for source in phase.sources}
    moved = near(list(sources.values()), device, room_on(device))
    there = dict(zip(sources, moved, strict=True))
    return [replace(p, sources=tuple(there[id(source)] for source in p.sources)) for p in phases]


def _passes(
    model: nn.Module, phases: Sequence[Phase], epochs: int, seed: int
) -> Iterator[tuple[int, int, torch.Generator]]:
    """Epoch, number of the phase and order of batches of each pass."""
    for epoch, (index, phase) in product(range(epochs), enumerate(phases)):
        for number in count():
            if not (number == 0 if phase.repeats is None else phase.repeats(model, number)):
                break
            again = (number,) if number else ()
            yield epoch, index, seeds.generator(seed, "order", phase.name, epoch, *again)


def _trained(model: nn.Module, phase: Phase) -> list[nn.Parameter]:
    chosen = [
        p
        for name, p in model.named_parameters()
        if p.requires_grad and (phase.trains is None or phase.trains(name))
    ]
    if not chosen:
        raise Refused(
            f"phase {phase.name} has no trainable parameter: requires_grad is False for all that "
            "it would train"
        )
    return chosen


def _aligned(phase: Phase, order: torch.Generator) -> Iterator[tuple[Batch, ...]]:
    """Batches of the first source, each beside one batch of every further source.

    The further sources start again where they run out.
    """
    sides = zip(phase.sources, phase.batch_sizes(), strict=True)
    first, *others = [_endless(source, size, order) for source, size in sides]
    for batch in islice(first, phase.steps()):
        yield (batch, *(next(other) for other in others))


def _endless(source: Source, batch_size: int, order: torch.Generator) -> Iterator[Batch]:
    while True:
        yield from source.batches(batch_size, order)
