"""All-CNN with batch normalisation and a linear head."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, ClassVar, cast

from torch import Tensor, nn

from eigenforget.core.fields import LayerWidth
from eigenforget.core.spec import configured
from eigenforget.models.building import check_classes, image_shape, initial_weights

_STRIDES = (1, 1, 2, 1, 1, 2, 1, 1)
_KERNELS = (3, 3, 3, 3, 3, 3, 3, 1)


class AllCnnNet(nn.Module):
    """Eight convolutions with batch normalisation and ReLU, average over space, linear head."""

    def __init__(self, *, channels: int, width: int, num_classes: int) -> None:
        super().__init__()
        widths = (channels, width, width, *[2 * width] * 6)
        self.features = nn.Sequential()
        for (before, after), stride, kernel in zip(
            pairwise(widths), _STRIDES, _KERNELS, strict=True
        ):
            self.features.append(
                nn.Sequential(
                    nn.Conv2d(before, after, kernel, stride, padding=kernel // 2, bias=False),
                    nn.BatchNorm2d(after),
                    nn.ReLU(),
                )
            )
        self.fc = nn.Linear(2 * width, num_classes)

    def forward(self, inputs: Tensor) -> Tensor:
        """Map images [B, C, H, W] to logits [B, num_classes]."""
        return cast(Tensor, self.fc(self.features(inputs).mean((2, 3))))


@configured
class AllCnn:
    """All-CNN as unlearning papers use it. Feature width: 2 × width.

    The convolutions are those of All-CNN-C (arXiv 1412.6806, table 2) up to its first of 1×1. The
    last 1×1 convolution is a linear head here, and batch normalisation stands in the place of
    dropout, as in the code of arXiv 1911.04933 (AdityaGolatkar/SelectiveForgetting, models.py).
    """

    name: ClassVar[str] = "all_cnn"
    width: Annotated[
        LayerWidth, "channels of the first two convolutions; the other six have twice as many"
    ] = 96

    def build(self, num_classes: int, input_shape: tuple[int, ...], *, seed: int) -> AllCnnNet:
        """A model from images [B, C, H, W] to logits [B, num_classes]."""
        check_classes(self.name, num_classes)
        channels = image_shape(self.name, input_shape).channels
        with initial_weights(seed):
            return AllCnnNet(channels=channels, width=self.width, num_classes=num_classes)
