"""Engram: subtract from each layer the part of its weights that the forget inputs take."""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial
from typing import Annotated, Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from eigenforget.core.errors import Refused
from eigenforget.core.fields import Count, Positive
from eigenforget.core.spec import configured
from eigenforget.data.sources import Source
from eigenforget.methods.base import Method, Range, Task
from eigenforget.methods.published import CIFAR10, RESNET18, PublishedRun
from eigenforget.models.features import before_passes

InputSums = dict[str, Tensor]
"""Σ x xᵀ [G, D, D] of the inputs x of each layer, by its name; G is its number of groups."""


@configured
class Engram(Method):
    """W ← W − α W Σ_f Σ⁺ in every linear and convolution layer, with no gradient and no step.

    Σ_f is the sum of x xᵀ over the layer's inputs in the forget set, and Σ that over forget and
    retain set together. Both come from passes through the original. The inputs of a convolution are
    the patches that it sees. With `bias`, an input has one more entry, a constant 1, whose weight
    is the bias. If the inputs of the forget set are orthogonal to the others, α = 1 removes the
    layer's whole response to them, and nothing else. The edit is linear in Σ_f: the edit for
    several classes is the sum of those for each class, at the same Σ.

    Σ⁺ drops the directions whose eigenvalue is at most D · ε times the largest, with ε the
    resolution of the type in `cutoff`. "float32" is far steadier on inputs that are nearly
    dependent, and is what the authors' package takes; their notebooks for images took "float64".
    """

    name: ClassVar = "engram"
    source: ClassVar = (
        "Kwon et al.: AI Engram, ICML 2026, arXiv 2606.14997; sums and solution in float64 "
        "throughout; layers of an attention module that never run as modules stay"
    )
    needs: ClassVar = ("forget", "retain", "linear or convolution layers")
    passes: ClassVar = "forward: forget + retain, or retain_samples of it"
    search_space: ClassVar = {"alpha": Range(0.2, 10.0)}
    recipes: ClassVar = {
        "cifar10-resnet18-engram": PublishedRun(
            dict(alpha=1.0, cutoff="float64", bias=False),
            RESNET18,
            CIFAR10,
            "one class",
            "jeakwon/ai-engram, examples/fig_resnet18_cifar10.ipynb, cc164a7",
        )
    }

    alpha: Annotated[Positive, "strength; 1 is the closed form"] = 1.0
    cutoff: Annotated[
        Literal["float32", "float64"], "whose resolution cuts small eigenvalues of Σ off"
    ] = "float32"
    bias: Annotated[bool, "whether biases are changed too"] = True
    retain_samples: Annotated[
        Count | None, "retain samples, drawn at random, that stand for all; None takes all"
    ] = None
    batch_size: Annotated[Count, "samples per pass; patches of all of them are held at once"] = 64

    def __call__(self, task: Task) -> nn.Module:
        retain = task.needs_retain(self.name)
        student = task.engine.placed(task.student())
        layers = free_layers(student)
        sample = task.at_most(retain, self.retain_samples, self.name)
        of_forget = self.sums(task, student, layers, task.forget)
        of_retain = self.sums(task, student, layers, sample)
        share = len(retain) / len(sample)
        if not of_forget:
            raise Refused(
                f"{self.name} needs linear or convolution layers that are not frozen; none ran in "
                f"{type(student).__name__}"
            )
        with torch.no_grad():
            for name, forget in of_forget.items():
                self._subtract(layers[name], forget, forget + share * of_retain[name])
        return student.eval()

    def sums(
        self, task: Task, model: nn.Module, layers: dict[str, Any], source: Source
    ) -> InputSums:
        """Those of the layers that run, over one pass of the source."""
        found: InputSums = {}

        def look(name: str, layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            given = args[0] if args else next(iter(kwargs.values()))
            rows = layer_inputs(layer, given, one=self._moves_bias(layer)).double()
            sums = rows.mT @ rows
            found[name] = found[name] + sums if name in found else sums

        with ExitStack() as stack:
            for name, layer in layers.items():
                stack.enter_context(before_passes(layer, partial(look, name)))
            # Each process computes all by itself: hooks see the passes of their own process only.
            engine = task.engine.alone()
            for _ in engine.forward(model, source, layer=task.layer, batch_size=self.batch_size):
                pass
        return found

    def _subtract(self, layer: Any, forget: Tensor, total: Tensor) -> None:
        groups, width = total.shape[0], total.shape[-1]
        values, vectors = torch.linalg.eigh(total)
        kind = torch.float32 if self.cutoff == "float32" else torch.float64
        limit = width * torch.finfo(kind).eps * values[:, -1:]
        inverse = torch.where(values > limit, 1 / values, 0.0)
        weight = layer.weight.double().reshape(groups, -1, width - self._moves_bias(layer))
        if self._moves_bias(layer):
            weight = torch.cat([weight, layer.bias.double().reshape(groups, -1, 1)], 2)
        change = self.alpha * (weight @ forget @ vectors * inverse.unsqueeze(1) @ vectors.mT)
        if self._moves_bias(layer):
            layer.bias.sub_(change[..., -1].reshape(-1).to(layer.bias))
            change = change[..., :-1]
        layer.weight.sub_(change.reshape(layer.weight.shape).to(layer.weight))

    def _moves_bias(self, layer: Any) -> bool:
        return self.bias and layer.bias is not None and layer.bias.requires_grad


def free_layers(model: nn.Module) -> dict[str, Any]:
    """Linear and convolution layers by name that own a weight which is not frozen.

    Of layers that share a weight only the first one counts.
    """
    found, seen = {}, set()
    for name, module in model.named_modules():
        if not isinstance(module, (nn.Linear, nn.Conv1d, nn.Conv2d)):
            continue
        weight = dict(module.named_parameters(recurse=False)).get("weight")
        if weight is not None and weight.requires_grad and id(weight) not in seen:
            seen.add(id(weight))
            found[name] = module
    return found


def layer_inputs(layer: Any, given: Tensor, *, one: bool) -> Tensor:
    """What the weights of a layer are multiplied with [G, N, D], with a constant 1 or without.

    Args:
        layer: A linear layer, or a convolution of one or two dimensions with G groups.
        given: Its input.
        one: Whether each row ends with a 1.
    """
    if isinstance(layer, nn.Linear):
        rows = given.reshape(1, -1, layer.in_features)
    else:
        mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
        size, step, spread = layer.kernel_size, layer.stride, layer.dilation
        padded = functional.pad(given, _padding(layer), mode=mode)
        if len(size) == 1:
            padded, size, step, spread = (
                padded.unsqueeze(2),
                *((1, v[0]) for v in (size, step, spread)),
            )
        patches = functional.unfold(padded, size, dilation=spread, stride=step)
        by_group = patches.reshape(len(patches), layer.groups, -1, patches.shape[-1])
        rows = by_group.permute(1, 0, 3, 2).flatten(1, 2)
    return torch.cat([rows, torch.ones_like(rows[..., :1])], 2) if one else rows


def _padding(layer: Any) -> list[int]:
    """What is added before and after each dimension, the last one first."""
    if layer.padding == "same":
        totals = [d * (k - 1) for d, k in zip(layer.dilation, layer.kernel_size, strict=True)]
        pairs = [(total // 2, total - total // 2) for total in totals]
    elif layer.padding == "valid":
        pairs = [(0, 0) for _ in layer.kernel_size]
    else:
        pairs = [(amount, amount) for amount in layer.padding]
    return [amount for pair in reversed(pairs) for amount in pair]
