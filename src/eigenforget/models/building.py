"""What every model builder needs: initial weights from the seed alone, and checks of shapes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch

from eigenforget.core import seeds
from eigenforget.core.errors import EigenforgetError

_TOO_LARGE = ("not enough memory", "can't allocate memory", "Storage size calculation overflowed")
"""In what torch says when it has no room for a tensor."""


class ImageShape(NamedTuple):
    """Shape of one image."""

    channels: int
    height: int
    width: int


@contextmanager
def initial_weights(seed: int) -> Iterator[None]:
    """Make modules inside on the CPU, with draws from (seed, "init").

    All global random states are left as they were.

    Raises:
        EigenforgetError: The weights do not fit into memory.
    """
    with seeds.torch_state_kept(), torch.device("cpu"):
        seeds.seed_torch(seeds.derive(seed, "init"))
        try:
            yield
        except RuntimeError as error:
            if not any(words in str(error) for words in _TOO_LARGE):
                raise
            raise EigenforgetError(
                "the model's weights do not fit into memory; choose smaller widths"
            ) from None


def check_classes(model: str, num_classes: int) -> None:
    """Check that there are two classes at least.

    Raises:
        EigenforgetError: There are not.
    """
    if num_classes < 2:
        raise EigenforgetError(f"{model} needs at least 2 classes, got {num_classes}")


def image_shape(model: str, input_shape: tuple[int, ...]) -> ImageShape:
    """The input shape as (channels, height, width).

    Raises:
        EigenforgetError: It is not that of an image.
    """
    if len(input_shape) != 3 or min(input_shape) < 1:
        raise EigenforgetError(
            f"{model} needs images (C, H, W), got inputs of shape {tuple(input_shape)}"
        )
    return ImageShape(*input_shape)
