"""What samples consist of: one tensor, or several by name, beside integer labels."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import default_collate

from eigenforget.core.errors import EigenforgetError
from eigenforget.core.text import listed
from eigenforget.core.types import Batch

Augment = Callable[[Tensor, torch.Generator], Tensor]
Inputs = Tensor | dict[str, Tensor]
"""One tensor [N, ...], or several by the name of the model's argument, such as input_ids and
attention_mask.
"""


Key = int | str
"""An item of a sample: its position, or its name."""
Keys = Key | Sequence[str] | Mapping[str, Key]
"""One item, several names, or the item for each argument of the model."""

_LABELS = ("labels", "label")
_SETTLES = "Samples(data, inputs=…, label=…) says which items are the inputs and the label"


@dataclass(frozen=True)
class Layout:
    """Where the inputs and the label stand in a sample or batch.

    Args:
        inputs: The items that the model gets. None leaves it to the sample.
        label: The item that is the label. None leaves it to the sample.
    """

    inputs: Keys | None = None
    label: Key | None = None

    def pair(self, item: Any) -> tuple[Any, Any]:
        """The inputs and the labels of a sample or batch.

        What is not said is taken from a pair, or from a dict with "labels" or "label".

        Raises:
            EigenforgetError: There is doubt about what is what; the message names the cure.
        """
        label = self._label_key(item)
        if self.inputs is not None:
            return _picked(item, self.inputs), _item(item, label)
        if isinstance(item, Mapping):
            return {k: v for k, v in item.items() if k != label}, item[label]
        if isinstance(item, (tuple, list)) and len(item) == 2 and label in (0, 1, -1):
            return item[0 if label else 1], item[label]
        raise EigenforgetError(f"a sample has {_items(item)}: {_SETTLES}")

    def collate(self, samples: Any) -> Any:
        """A batch of samples, by torch's rules.

        Where the inputs are named, nothing else but the label goes in, since further items, such as
        words and pictures, may be none that torch can put into a batch.
        """
        if self.inputs is not None and isinstance(samples, list):
            samples = [self._named(sample) for sample in samples]
        return default_collate(samples)

    def _named(self, item: Any) -> Any:
        """The sample with the items that are named; as it is where one of them is missing."""
        inputs = self.inputs.values() if isinstance(self.inputs, Mapping) else self.inputs
        keys: set[Any] = {inputs} if isinstance(inputs, (int, str)) else set(inputs or ())
        if self.label is not None:
            keys.add(self.label)
        elif isinstance(item, Mapping):
            keys.update(key for key in _LABELS if key in item)
        else:
            return item
        if isinstance(item, Mapping):
            return {key: item[key] for key in keys} if keys <= item.keys() else item
        if type(item) not in (tuple, list) or not keys <= set(range(-len(item), len(item))):
            return item
        places = {key % len(item) for key in keys}
        return [value if place in places else 0 for place, value in enumerate(item)]

    def _label_key(self, item: Any) -> Key:
        if self.label is not None:
            _item(item, self.label)
            return self.label
        if isinstance(item, Mapping):
            found = [key for key in _LABELS if key in item]
            if len(found) == 1:
                return found[0]
        elif isinstance(item, (tuple, list)) and len(item) == 2:
            return 1 if self.inputs != 1 else 0
        elif not isinstance(item, (tuple, list)):
            raise EigenforgetError(
                f"a sample must be (input, label) or a dict with 'labels', got "
                f"{type(item).__name__}; {_SETTLES}"
            )
        raise EigenforgetError(f"a sample has {_items(item)}: {_SETTLES}")


def _picked(item: Any, keys: Keys) -> Any:
    if isinstance(keys, Mapping):
        return {name: _item(item, key) for name, key in keys.items()}
    if isinstance(keys, (int, str)):
        return _item(item, keys)
    return {name: _item(item, name) for name in keys}


def _item(item: Any, key: Key) -> Any:
    try:
        if isinstance(key, str) and not isinstance(item, Mapping):
            return getattr(item, key)
        return item[key]
    except (LookupError, TypeError, AttributeError):
        raise EigenforgetError(f"a sample has no item {key!r}; it has {_items(item)}") from None


def _items(item: Any) -> str:
    """The items with their kinds: "3 items (float32 [8, 3], int64 [8], list)"."""
    if isinstance(item, Mapping):
        return f"the items {listed(map(repr, item), 20)}"
    if isinstance(item, (tuple, list)):
        return f"{len(item)} item{'s' * (len(item) != 1)} ({listed(map(kind_in_words, item))})"
    return f"no items, being a {type(item).__name__}"


def kind_in_words(value: Any) -> str:
    """Type and shape of a tensor, as in "float32 [8, 3]"; else the name of the type."""
    if isinstance(value, Tensor):
        return f"{str(value.dtype).removeprefix('torch.')} {list(value.shape)}"
    return type(value).__name__


def label_tensor(labels: Any) -> Tensor:
    """Labels as a 1-D integer tensor [B]; a column [B, 1] of them is taken for one.

    Raises:
        EigenforgetError: They are words, fractions, one-hot or otherwise none; the message names
            the cure.
    """
    if isinstance(labels, (list, tuple)) and any(isinstance(label, str) for label in labels):
        raise EigenforgetError(
            f"labels are words ({listed(sorted({repr(w) for w in labels}), 3)}); number the "
            "classes 0, 1, 2, … and give the numbers"
        )
    try:
        targets = torch.as_tensor(labels)
    except (TypeError, ValueError, RuntimeError):
        raise EigenforgetError(
            f"labels must be a 1-D integer tensor, got {kind_in_words(labels)}"
        ) from None
    if targets.ndim == 2 and targets.shape[1] == 1 and not targets.is_floating_point():
        targets = targets[:, 0]
    check_labels(targets)
    return targets.long()


def check_labels(targets: Tensor) -> None:
    """Checks that labels are a 1-D integer tensor.

    Raises:
        EigenforgetError: They are not; the message names the cure.
    """
    if targets.ndim == 1 and not targets.is_floating_point() and not targets.is_complex():
        return
    raise EigenforgetError(
        f"labels must be a 1-D integer tensor, got {targets.dtype} {list(targets.shape)}"
        f"{_cure(targets)}"
    )


def _cure(targets: Tensor) -> str:
    """What to do with labels that are none, or why that is out of scope."""
    if targets.is_complex() or targets.ndim == 0:
        return ""
    if targets.ndim > 2:
        return "; a label for each place of a sample (segmentation) is out of scope"
    values = targets.double()
    if targets.ndim == 2:
        if bool((values >= 0).all()) and bool(((values.sum(1) - 1).abs() < 1e-3).all()):
            mixed = not bool((values == values.round()).all())
            without = "; of samples that a transform mixed, as MixUp does, give those before it"
            return f"; of one-hot labels or probabilities give labels.argmax(1){without * mixed}"
        return "; several labels for each sample (multi-label data) are out of scope"
    if bool((values == values.round()).all()):
        return "; if they are whole numbers, give labels.long()"
    return "; numbers to be predicted (regression) are out of scope, as there are no classes"


def check_rows(inputs: Any, count: int) -> None:
    """Checks that the inputs of a batch are tensors with a row for each of its labels.

    Raises:
        EigenforgetError: They are not.
    """
    columns = inputs.items() if isinstance(inputs, Mapping) else [("inputs", inputs)]
    for name, column in columns:
        if isinstance(inputs, Mapping) and not isinstance(column, Tensor):
            words = isinstance(column, (list, tuple)) and any(isinstance(v, str) for v in column)
            tensors = "give tensors (of Hugging Face's datasets: set_format('torch')), and "
            raise EigenforgetError(
                f"the input {name!r} of a batch is a {type(column).__name__}"
                f"{' of words' if words else ''}, not a tensor; {tensors * (not words)}name the "
                f"inputs that the model takes, as in Samples(data, inputs={_example(inputs)})"
            )
        if isinstance(column, Tensor) and (not column.ndim or len(column) != count):
            raise EigenforgetError(
                f"a batch has {count} labels and {name} {list(column.shape)}: there must be one "
                "row of inputs for each label"
            )


def _example(inputs: Mapping[str, Any]) -> str:
    """How Samples names those inputs that are tensors."""
    tensors = [name for name, value in inputs.items() if isinstance(value, Tensor)]
    if not tensors:
        return "(…)"
    return repr(tensors[0] if len(tensors) == 1 else tuple(tensors))


def counts(inputs: Inputs) -> dict[str, int]:
    """How many samples each tensor has, by its name."""
    if isinstance(inputs, Tensor):
        return {"inputs": len(inputs)}
    if not inputs:
        raise EigenforgetError("inputs are a dict without any tensor")
    return {name: len(value) for name, value in inputs.items()}


def taken(inputs: Inputs, rows: Tensor) -> Inputs:
    """The inputs at these rows."""
    return mapped(inputs, lambda value: value.index_select(0, rows))  # half the time of [rows]


def mapped(inputs: Inputs, function: Callable[[Tensor], Tensor]) -> Inputs:
    """The inputs after a function of each tensor."""
    if isinstance(inputs, Tensor):
        return function(inputs)
    return {name: function(value) for name, value in inputs.items()}


def augmented(inputs: Any, augment: Augment | None, generator: torch.Generator | None) -> Any:
    """The inputs, changed at random where there are an augmentation and a generator."""
    if augment is None or generator is None:
        return inputs
    check_augmentable(inputs)
    return augment(inputs, generator)


def check_augmentable(inputs: Any) -> None:
    """Checks that inputs are one tensor.

    Raises:
        EigenforgetError: They are something else, which augmentation does not know.
    """
    if not isinstance(inputs, Tensor):
        found = (
            f"a dict of {', '.join(inputs)}"
            if isinstance(inputs, Mapping)
            else type(inputs).__name__
        )
        raise EigenforgetError(
            f"augmentation changes one tensor of images, these inputs are {found}; choose none"
        )


def concatenated(batches: list[Batch]) -> Batch:
    """Several batches as one, on the device of the first.

    Raises:
        EigenforgetError: Their inputs differ in names or shapes.
    """
    device = batches[0].labels.device
    if not joinable(batches):
        forms = [_forms(batch.inputs) for batch in batches]
        other = next(form for form in forms if form != forms[0])
        raise EigenforgetError(f"joined sources give different inputs: {forms[0]} and {other}")
    first = batches[0].inputs
    if isinstance(first, Mapping):
        inputs: Any = {key: torch.cat([b.inputs[key].to(device) for b in batches]) for key in first}
    else:
        inputs = torch.cat([b.inputs.to(device) for b in batches])
    return Batch(
        inputs,
        torch.cat([b.labels.to(device) for b in batches]),
        torch.cat([b.positions.to(device) for b in batches]),
    )


def joinable(batches: Sequence[Batch]) -> bool:
    """Whether the inputs of the batches have the same names and shapes of a sample."""
    forms = [_forms(batch.inputs) for batch in batches]
    return all(form == forms[0] for form in forms)


def _forms(inputs: Any) -> dict[str, list[int]]:
    """Shape of one sample in each tensor, by its name."""
    named = inputs if isinstance(inputs, Mapping) else {"inputs": inputs}
    return {name: list(value.shape[1:]) for name, value in named.items()}
