"""Capture of latent features: the only forward hooks of the package, and the search for the classifier head."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from eigenforget.types import EigenforgetError, Outputs


class Tap:
    """Calls the model and answers with Outputs(logits [B, C], features [B, D]). Made by `capture`."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self._features: Tensor | None = None

    def keep(self, features: Any) -> None:
        self._features = features

    def __call__(self, inputs: Any) -> Outputs:
        self._features = None
        logits = logits_of(self.model(**inputs) if isinstance(inputs, dict) else self.model(inputs))
        if not isinstance(self._features, Tensor):
            raise EigenforgetError("the feature layer did not run in the forward pass, or gave no tensor: name another layer")
        return Outputs(logits, flatten_features(self._features))


@contextmanager
def capture(model: nn.Module, layer: str | None = None) -> Iterator[Tap]:
    """A Tap on the model while the context lasts; the hook is gone afterwards.

    layer=None takes the input of the classifier head (the last nn.Linear). A name takes that module's output, averaged over
    space where it is a feature map [B, D, H, W], and flattened otherwise. Errors: no Linear layer, unknown layer name.
    """
    tap = Tap(model)
    handle: Any
    if layer is None:
        _, head = find_head(model)
        handle = head.register_forward_pre_hook(lambda module, args: tap.keep(args[0]))
    else:
        handle = find_layer(model, layer).register_forward_hook(lambda module, args, output: tap.keep(output))
    try:
        yield tap
    finally:
        handle.remove()


def find_head(model: nn.Module) -> tuple[str, nn.Linear]:
    """Name and module of the classifier head: the last registered nn.Linear."""
    linears = [(name, module) for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    if not linears:
        raise EigenforgetError(f"{type(model).__name__} has no nn.Linear layer, so no classifier head was found")
    return linears[-1]


def find_layer(model: nn.Module, layer: str) -> nn.Module:
    """The named submodule, or an error that lists the names."""
    modules = {name: module for name, module in model.named_modules() if name}
    if layer not in modules:
        raise EigenforgetError(f"no layer {layer!r}; the model has: {', '.join(modules)}")
    return modules[layer]


def logits_of(output: Any) -> Tensor:
    """The logits [B, C] in a model's output: a tensor, a dict or object with `logits`, or the first item of a tuple."""
    if isinstance(output, dict):
        output = output.get("logits")
    elif hasattr(output, "logits"):
        output = output.logits
    elif isinstance(output, (tuple, list)) and output:
        output = output[0]
    if not isinstance(output, Tensor) or output.ndim != 2:
        shape = list(output.shape) if isinstance(output, Tensor) else type(output).__name__
        raise EigenforgetError(f"a classifier must give logits [B, C], got {shape}")
    return output


def flatten_features(features: Tensor) -> Tensor:
    """Rows [B, D]: a feature map [B, D, H, W] is averaged over space, any other shape is flattened."""
    return features.mean((2, 3)) if features.ndim == 4 else features.flatten(1)
