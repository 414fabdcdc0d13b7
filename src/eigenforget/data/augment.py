"""Random changes of training images, for whole batches at once.

Each is a callable (inputs [B, C, H, W], generator) → inputs of the same shape, as
TensorSource.augment takes it. It draws from the given generator in this order: vertical shifts [B],
horizontal shifts [B], flips [B] (where there are flips). Pixels that move in from outside are 0. If
inputs are normalised with the mean of the training images, that is their mean colour.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from eigenforget.core.errors import EigenforgetError
from eigenforget.core.fields import Count, WholeNumber
from eigenforget.core.registry import Registry
from eigenforget.core.spec import configured


@configured
class NoAugment:
    """The images as they are."""

    name: ClassVar[str] = "none"

    def __call__(self, inputs: Tensor, generator: torch.Generator) -> Tensor:  # noqa: ARG002
        """Returns the images as they are."""
        return inputs


@configured
class FlipCrop:
    """A random shift by up to `padding` pixels each way, then a flip with probability one half."""

    name: ClassVar[str] = "flip_crop"
    padding: Annotated[WholeNumber, "largest shift in pixels; 0 flips only"] = 4

    def __call__(self, inputs: Tensor, generator: torch.Generator) -> Tensor:
        """Shifts and flips the images."""
        offsets = _offsets(inputs, self.padding, generator)
        flips = _integers(2, inputs, generator).bool()
        return _windows(inputs, self.padding, offsets, flips)


@configured
class Crop:
    """A random shift by up to `padding` pixels each way.

    For digits and letters, where a flip changes the meaning.
    """

    name: ClassVar[str] = "crop"
    padding: Annotated[Count, "largest shift in pixels; the default suits 8×8 images"] = 1

    def __call__(self, inputs: Tensor, generator: torch.Generator) -> Tensor:
        """Shifts the images."""
        offsets = _offsets(inputs, self.padding, generator)
        return _windows(
            inputs, self.padding, offsets, torch.zeros_like(offsets[0], dtype=torch.bool)
        )


AUGMENTS: Registry[type] = Registry("augmentation", own=[NoAugment, FlipCrop, Crop])


def _offsets(inputs: Tensor, padding: int, generator: torch.Generator) -> Tensor:
    """Upper-left corners [2, B] (rows, then columns) of the windows in the padded images."""
    if inputs.ndim != 4:
        raise EigenforgetError(
            f"augmentation needs images [B, C, H, W], got {list(inputs.shape)}; choose none"
        )
    if padding >= min(inputs.shape[2:]):
        height, width = inputs.shape[2:]
        raise EigenforgetError(
            f"padding={padding} can move a whole {height}×{width} image out of sight; use a "
            "smaller one"
        )
    return torch.stack([_integers(2 * padding + 1, inputs, generator) for _ in range(2)])


def _integers(high: int, inputs: Tensor, generator: torch.Generator) -> Tensor:
    drawn = torch.randint(high, (len(inputs),), generator=generator, device=generator.device)
    return drawn.to(inputs.device, non_blocking=True)


def _windows(inputs: Tensor, padding: int, offsets: Tensor, flips: Tensor) -> Tensor:
    """The window of each padded image, flipped where `flips` [B] is true."""
    count, channels, height, width = inputs.shape
    padded = functional.pad(inputs, (padding,) * 4)
    along = torch.arange(width, device=inputs.device)
    columns = torch.where(flips[:, None], width - 1 - along, along) + offsets[1, :, None]
    rows = torch.arange(height, device=inputs.device) + offsets[0, :, None]
    # One gather over flattened pixels: twice as fast as indexing windows of an unfolded view.
    pixels = (rows[:, :, None] * (width + 2 * padding) + columns[:, None, :]).view(count, 1, -1)
    return padded.flatten(2).gather(2, pixels.expand(-1, channels, -1)).view_as(inputs)
