"""Capture of latent features, and the search for the classifier head: the only forward hooks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import takewhile
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from eigenforget.core.errors import EigenforgetError
from eigenforget.core.seeds import torch_state_kept
from eigenforget.core.types import Outputs
from eigenforget.models.steps import StepForm, head_form, samples_axis
from eigenforget.models.wrappers import device_of

HEAD_NOTE = "eigenforget_head"
"""The attribute of a model that names its classifier head."""
_NAME_LAYER = "name the feature layer: layer=… (--layer)"


class Tap:
    """Calls the model and answers with logits [B, C], features [B, D] and those of further layers.

    Made by `capture`.
    """

    def __init__(
        self, model: nn.Module, layers: Sequence[str] = (), *, called: nn.Module | None = None
    ) -> None:
        self.model, self._called = model, model if called is None else called
        self.layers = tuple(layers)
        self._kept: dict[str | None, Any] = {}
        self._answers: Tensor | None = None
        self._forms: dict[str | None, StepForm] = {}

    def keep(self, layer: str | None, features: Any) -> None:
        """Remember what a layer gave in this pass."""
        self._kept[layer] = features

    def keep_answers(self, answers: Any) -> None:
        """Remember what the head gave in this pass."""
        self._answers = answers if isinstance(answers, Tensor) else None

    def __call__(self, inputs: Any) -> Outputs:
        """The outputs for a batch of inputs; a dict goes in by name.

        Raises:
            EigenforgetError: A layer did not run, gave no tensor, or none with a row a sample.
        """
        self._kept.clear()
        self._answers = None
        logits = logits_of(called_with(self._called, inputs))
        features = self._rows(None, logits, inputs)
        return Outputs(
            logits, features, {layer: self._rows(layer, logits, inputs) for layer in self.layers}
        )

    def _form(self, layer: str | None, features: Tensor, logits: Tensor, inputs: Any) -> StepForm:
        if layer is None and self._answers is not None:
            return head_form(features.detach(), self._answers.detach(), logits.detach())
        count = len(logits)
        if features.ndim == 3 and features.shape[0] == features.shape[1] == count > 1:
            return StepForm(self._axis_of_fewer(layer, inputs, count - 1))
        return StepForm(samples_axis(features, count))

    def _axis_of_fewer(self, layer: str | None, inputs: Any, count: int) -> int:
        """The axis of the samples, from a pass of fewer of them: it tells B from T."""
        kept, answers, self._kept = self._kept, self._answers, {}
        fewer = tree_map_only(Tensor, lambda tensor: tensor[:count], inputs)
        with in_eval_mode(self.model), torch.no_grad(), torch_state_kept(device_of(self.model)):
            called_with(self.model, fewer)
        axis = samples_axis(self._kept[layer], count)
        self._kept, self._answers = kept, answers
        return axis

    def _rows(self, layer: str | None, logits: Tensor, inputs: Any) -> Tensor:
        found = self._kept.get(layer)
        if not isinstance(found, Tensor):
            which = "the feature layer" if layer is None else f"layer {layer!r}"
            raise EigenforgetError(
                f"{which} did not run in the forward pass, or gave no tensor: name another layer"
            )
        if layer not in self._forms:
            if found.ndim == 2 and found.shape[0] == logits.shape[0]:
                return found
            self._forms[layer] = self._form(layer, found, logits, inputs)
        answers = self._answers if layer is None else None
        found = self._forms[layer].rows(found, answers, logits)
        samples_axis(found, len(logits))
        return flatten_features(found)


@contextmanager
def in_eval_mode(model: nn.Module) -> Iterator[None]:
    """Put the model into eval mode; afterwards every module's own training flag is as before."""
    modes = [(module, module.training) for module in model.modules()]
    if any(training for _, training in modes):
        model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            if module.training != training:
                module.training = training


@contextmanager
def before_passes(
    model: nn.Module, look: Callable[[nn.Module, tuple[Any, ...], dict[str, Any]], None]
) -> Iterator[None]:
    """Calls look(model, inputs, named) before each pass through the model within the block."""
    handle = model.register_forward_pre_hook(look, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()


def change_input(module: nn.Module, change: Callable[[Tensor], Tensor]) -> None:
    """Lets a module see its changed input from now on; for copies that are thrown away."""
    module.register_forward_pre_hook(partial(_changed, change), with_kwargs=True)


def _changed(
    change: Callable[[Tensor], Tensor], _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    if args:
        return (change(args[0]), *args[1:]), kwargs
    return args, {key: change(value) for key, value in kwargs.items()}


@contextmanager
def capture(
    model: nn.Module,
    layer: str | None = None,
    layers: Sequence[str] = (),
    *,
    called: nn.Module | None = None,
) -> Iterator[Tap]:
    """Give a Tap on the model while the context lasts; the hooks are gone afterwards.

    Args:
        model: Any module.
        layer: The layer whose output are the features, averaged over space where it is a feature
            map [B, D, H, W] and flattened otherwise. None takes the input of the classifier head
            (see `find_head`); of one that answers at several steps, the step whose answer is the
            logits, or the mean (see `steps`).
        layers: Names of further layers.
        called: What the Tap calls in place of the model, such as the compiled one.

    Raises:
        EigenforgetError: There is no head, or no layer of that name.
    """
    tap = Tap(model, layers, called=called)
    handles: list[Any] = []
    try:
        if layer is None:
            _, head = find_head(model)
            hook: Any = partial(_keep_head, tap)
            handles.append(head.register_forward_hook(hook, with_kwargs=True))
        for key, name in ([] if layer is None else [(None, layer)]) + [
            (name, name) for name in layers
        ]:
            hook = partial(_keep_output, tap, key)
            handles.append(find_layer(model, name).register_forward_hook(hook))
        yield tap
    finally:
        for handle in handles:
            handle.remove()


def _keep_head(
    tap: Tap, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any
) -> None:
    tap.keep(None, args[0] if args else next(iter(kwargs.values()), None))
    tap.keep_answers(output)


def _keep_output(tap: Tap, key: str | None, _: nn.Module, __: Any, output: Any) -> None:
    if isinstance(output, (tuple, list)) and output:  # of recurrent layers, and of attention
        output = output[0]
    if isinstance(output, Tensor) and output.ndim > 1:
        # At once and as a copy: a layer after this one may change its output in place.
        output = (output if output.ndim == 3 else flatten_features(output)).clone()
    tap.keep(key, output)


def find_head(model: nn.Module) -> tuple[str, nn.Linear]:
    """Find the classifier head.

    The attribute `eigenforget_head` of the model names it, where there is one (see `note_head`).
    Otherwise it is the last registered nn.Linear.

    Args:
        model: Any module.

    Returns:
        The name and the module of the head.

    Raises:
        EigenforgetError: There is no nn.Linear, the attribute names none, or it lists several.
    """
    declared = _declared(model)
    if declared is not None:
        return declared
    linears = _linears(model)
    if not linears:
        what = f"{type(model).__name__} has no nn.Linear layer, so no classifier head was found"
        raise EigenforgetError(f"{what}; {_NAME_LAYER}")
    return linears[-1]


class TracedHeads(NamedTuple):
    """What one forward pass says of the classifier head.

    Attributes:
        num_classes: The number of logits C.
        names: The layers that may be the head: one where the pass decides it, none or several where
            it does not.
    """

    num_classes: int
    names: tuple[str, ...]

    def note(self, model: nn.Module) -> str | tuple[str, ...] | None:
        """What `note_head` has to write on the model; None where nothing is needed.

        A model that already names its head needs no note, nor does one whose only candidate is the
        last registered nn.Linear.
        """
        by_order = tuple(name for name, _ in _linears(model)[-1:])
        if _note(model) is not None or self.names == by_order:
            return None
        return self.names[0] if len(self.names) == 1 else self.names


def trace_heads(model: nn.Module, inputs: Any) -> TracedHeads:
    """Look for the classifier head in one forward pass of a few samples in eval mode.

    It is the nn.Linear whose output is the logits [B, C]. Where none or several are, it is the last
    one with C outputs that the logits come from, and from earlier layers only through it; of two
    classes, where none has two outputs, the last one with a single output. Two that do not depend
    on each other (the averaged heads of a distilled model) leave it open. The model stays as it is.
    """
    logits, outputs = _outputs(model, inputs)
    linear = {
        name: output
        for name, output in outputs.items()
        if isinstance(model.get_submodule(name), nn.Linear)
    }
    same = [name for name, output in linear.items() if torch.equal(output, logits)]
    if len(same) == 1:
        return TracedHeads(logits.shape[1], tuple(same))
    flowing = {name: output for name, output in linear.items() if _flows([output], logits)}
    widths = (logits.shape[1], 1) if logits.shape[1] == 2 else (logits.shape[1],)
    by_width = ({k: v for k, v in flowing.items() if v.shape[-1] == width} for width in widths)
    wide = next(filter(None, by_width), {})
    # A layer that another candidate is computed from is a hidden one of the same width.
    last = [
        name
        for name, output in wide.items()
        if not any(_flows([output], wide[other]) for other in wide if other != name)
    ]
    if len(last) == 1 and _bypassed(model, inputs, last[0]):
        last = []
    return TracedHeads(logits.shape[1], tuple(_without_adapters(last)))


def _without_adapters(names: Sequence[str]) -> list[str]:
    """The names without those of the adapters that PEFT puts beside a layer named `base_layer`."""
    bases = [name.removesuffix("base_layer") for name in names if name.endswith(".base_layer")]
    adapters = tuple(f"{base}lora_" for base in bases)
    return [name for name in names if not name.startswith(adapters)]


def settle_head(model: nn.Module, inputs: Any) -> int:
    """Trace the head of a model of ours, note it on the model where needed, and return C.

    For other people's models see `heads.settle`, which notes it on a copy.
    """
    traced = trace_heads(model, inputs)
    note = traced.note(model)
    if note is not None:
        note_head(model, note)
    return traced.num_classes


def note_head(model: nn.Module, head: str | tuple[str, ...]) -> None:
    """Write the name of the head on the model, or the names of all layers that may be it.

    The note is the plain attribute `eigenforget_head` of the outermost module. Copies keep it,
    state dicts do not hold it. With several names `find_head` is an error that lists them.
    """
    setattr(model, HEAD_NOTE, head)


def _linears(model: nn.Module) -> list[tuple[str, nn.Linear]]:
    return [(name, m) for name, m in model.named_modules() if isinstance(m, nn.Linear)]


def _bypassed(model: nn.Module, inputs: Any, head: str) -> bool:
    """Whether layers that run before this one reach the logits on another way too.

    So they do around the gate of an attention block.
    """
    logits, outputs = _outputs(model, inputs, cut=head)
    before = list(takewhile(lambda name: name != head, outputs))
    return bool(before) and _flows([outputs[name] for name in before], logits)


def _outputs(
    model: nn.Module, inputs: Any, cut: str | None = None
) -> tuple[Tensor, dict[str, Tensor]]:
    """The logits, and the output of the last run of each linear layer and owner of parameters.

    They are in the order in which they ran, in one autograd graph, in which nothing flows through
    the layer `cut`.
    """
    outputs: dict[str, Tensor] = {}

    def keep(name: str, _: nn.Module, __: Any, output: Any) -> Any:
        if not isinstance(output, Tensor) or not output.is_floating_point():
            return output
        outputs.pop(name, None)
        outputs[name] = (
            output if output.requires_grad and name != cut else output.detach().requires_grad_()
        )
        # A copy goes on, since a layer after this one may change it in place.
        return outputs[name].clone()

    owners = [
        (name, module)
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) or any(True for _ in module.parameters(recurse=False))
    ]
    handles = [module.register_forward_hook(partial(keep, name)) for name, module in owners]
    try:
        with in_eval_mode(model), torch.enable_grad(), torch_state_kept(device_of(model)):
            return logits_of(called_with(model, inputs)), outputs
    finally:
        for handle in handles:
            handle.remove()


def _flows(sources: Sequence[Tensor], target: Tensor) -> bool:
    """Whether the target is computed from any of the sources."""
    if not target.requires_grad:
        return False
    return any(
        g is not None
        for g in torch.autograd.grad(target.sum(), sources, retain_graph=True, allow_unused=True)
    )


def _note(model: nn.Module) -> tuple[str, str | tuple[str, ...]] | None:
    """The outermost note of a head, behind the name of the module that bears it."""
    for prefix, module in model.named_modules():
        # Statically: wrappers answer for attributes of what they wrap, where the names are other
        # ones.
        for holder in (module, *type(module).__mro__):
            if (found := vars(holder).get(HEAD_NOTE)) is not None:
                return prefix, found
    return None


def _declared(model: nn.Module) -> tuple[str, nn.Linear] | None:
    note = _note(model)
    if note is None:
        return None
    prefix, names = note
    if isinstance(names, tuple):
        raise EigenforgetError(
            _undecided(model, [".".join(filter(None, (prefix, name))) for name in names])
        )
    name = ".".join(filter(None, (prefix, names)))
    head = dict(model.named_modules(remove_duplicate=False)).get(name)
    if not isinstance(head, nn.Linear):
        what = "no layer" if head is None else f"a {type(head).__name__} and no nn.Linear"
        raise EigenforgetError(
            f"{type(model).__name__}.{HEAD_NOTE} names {names!r} as the classifier head, which is "
            f"{what} of the model"
        )
    return name, head


def _undecided(model: nn.Module, names: Sequence[str]) -> str:
    kind = type(model).__name__
    if not names:
        what = f"no nn.Linear of {kind} gives its logits, so no classifier head was found"
        return f"{what}; {_NAME_LAYER}"
    hint = f"{_NAME_LAYER}, or the head by model.{HEAD_NOTE} = {names[0]!r}"
    return f"{kind} has several layers that may be the classifier head: {', '.join(names)}; {hint}"


def find_layer(model: nn.Module, layer: str) -> nn.Module:
    """The submodule of this name.

    Raises:
        EigenforgetError: There is none; the message lists the names.
    """
    modules: dict[str, nn.Module] = {name: module for name, module in model.named_modules() if name}
    if layer not in modules:
        raise EigenforgetError(f"no layer {layer!r}; the model has: {', '.join(modules)}")
    return modules[layer]


def called_with(model: Callable[..., Any], inputs: Any) -> Any:
    """What the model gives for a batch of inputs; a dict goes in by name.

    The model gets a copy. One that changes its input in place, such as `x.sub_(mean).div_(std)`,
    leaves the batch as it is for the teachers, losses and passes that come after it.
    """
    own = copied(inputs)
    return model(**own) if isinstance(own, dict) else model(own)


def copied(inputs: Any) -> Any:
    """The inputs with copies of their tensors, through which gradients flow."""
    return (
        inputs.clone()
        if isinstance(inputs, Tensor)
        else tree_map_only(Tensor, Tensor.clone, inputs)
    )


def logits_of(output: Any) -> Tensor:
    """The logits [B, C] in a model's output.

    They are the output itself, the entry or attribute `logits`, or the first item of a tuple.

    Raises:
        EigenforgetError: It has no such logits.
    """
    if isinstance(output, Tensor):
        pass
    elif isinstance(output, dict):
        output = output.get("logits")
    elif hasattr(output, "logits"):
        output = output.logits
    elif isinstance(output, (tuple, list)) and output:
        output = output[0]
    if not isinstance(output, Tensor) or output.ndim != 2:
        shape = list(output.shape) if isinstance(output, Tensor) else type(output).__name__
        places = isinstance(output, Tensor) and output.ndim > 2
        scope = (
            "; answers for each place or token (segmentation, detection, generative models) are "
            "out of scope"
        )
        raise EigenforgetError(
            f"a classifier must give logits [B, C], got {shape}{scope if places else ''}"
        )
    return output


def flatten_features(features: Tensor) -> Tensor:
    """Rows [B, D] of a feature map [B, D, H, W], averaged over space, or of any other shape."""
    return features.mean((2, 3)) if features.ndim == 4 else features.flatten(1)
