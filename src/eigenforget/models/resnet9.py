"""A residual network of nine layers that trains on CIFAR-10 in minutes."""

from __future__ import annotations

from typing import Annotated, ClassVar, cast

from torch import Tensor, nn

from eigenforget.core.errors import EigenforgetError
from eigenforget.core.fields import LayerWidth
from eigenforget.core.spec import configured
from eigenforget.models.building import check_classes, image_shape, initial_weights

_LEAST_SIDE = 8
"""One pixel is left of it after three poolings."""


class ResNet9(nn.Module):
    """Eight convolutions, two of whose pairs have an identity shortcut, and a linear head.

    Source: Page, "How to train your ResNet" (2018), with three deviations that halve the work or
    save a setting. The first pooling comes before the second convolution, the head reads the mean
    over space instead of the maximum, and logits have no scale of their own.
    """

    def __init__(self, *, channels: int, width: int, num_classes: int) -> None:
        super().__init__()
        self.stem = _convolution(channels, width, pool=True)
        self.layer1 = nn.Sequential(_convolution(width, 2 * width), _Residual(2 * width))
        self.layer2 = _convolution(2 * width, 4 * width, pool=True)
        self.layer3 = nn.Sequential(
            _convolution(4 * width, 8 * width, pool=True), _Residual(8 * width)
        )
        self.fc = nn.Linear(8 * width, num_classes)

    def forward(self, inputs: Tensor) -> Tensor:
        """Map images [B, C, H, W] to logits [B, num_classes]."""
        hidden = self.layer3(self.layer2(self.layer1(self.stem(inputs))))
        return cast(Tensor, self.fc(hidden.mean((2, 3))))


class _Residual(nn.Module):
    """x + block(block(x))."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.block = nn.Sequential(_convolution(width, width), _convolution(width, width))

    def forward(self, inputs: Tensor) -> Tensor:
        return cast(Tensor, inputs + self.block(inputs))


def _convolution(before: int, after: int, *, pool: bool = False) -> nn.Sequential:
    """A 3×3 convolution, halving max pooling where asked for, batch normalisation and relu."""
    convolution = nn.Conv2d(before, after, 3, padding=1, bias=False)
    halving = [nn.MaxPool2d(2)] if pool else []
    return nn.Sequential(convolution, *halving, nn.BatchNorm2d(after), nn.ReLU())


@configured
class Resnet9:
    """Eight convolutions at half, quarter and eighth size. Feature width: 8 × width.

    It is for images of about 32 × 32 pixels, and at least 8 × 8.
    """

    name: ClassVar[str] = "resnet9"
    width: Annotated[
        LayerWidth, "channels of the first convolution; features have eight times as many"
    ] = 32

    def build(self, num_classes: int, input_shape: tuple[int, ...], *, seed: int) -> ResNet9:
        """A model from images [B, C, H, W] to logits [B, num_classes]."""
        check_classes(self.name, num_classes)
        channels, *sides = image_shape(self.name, input_shape)
        if min(sides) < _LEAST_SIDE:
            raise EigenforgetError(
                f"{self.name} halves images three times and needs 8×8 pixels, got "
                f"{sides[0]}×{sides[1]}; use small_resnet"
            )
        with initial_weights(seed):
            return ResNet9(channels=channels, width=self.width, num_classes=num_classes)
