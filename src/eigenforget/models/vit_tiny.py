"""A small vision transformer."""

from __future__ import annotations

from math import sqrt
from typing import Annotated, ClassVar, NamedTuple, Self, cast

import pydantic
import torch
from torch import Tensor, nn

from eigenforget.core.errors import EigenforgetError
from eigenforget.core.fields import Below1, LayerCount, LayerWidth
from eigenforget.core.spec import configured
from eigenforget.models.building import ImageShape, check_classes, image_shape, initial_weights

_MLP_RATIO = 4
_EPSILON = 1e-6
"""Layer normalisation's epsilon in the published vision transformers; PyTorch's default is 1e-5."""


class Width(NamedTuple):
    """Sizes of one transformer block."""

    dim: int
    heads: int
    dropout: float


@configured
class VitTiny:
    """Pre-norm vision transformer with a class token and learnt positions. Feature width: dim.

    Defaults are those of DeiT-Tiny (Touvron et al., arXiv 2012.12877), except for the patch: 4
    instead of 16, for small images. Module names are timm's, so its DeiT-Tiny checkpoints fit
    vit_tiny(patch=16) at 224×224. Dropout acts on the embedding and on the output of each attention
    and MLP layer. Errors: dim is no multiple of heads, image sides are no multiples of patch.
    """

    name: ClassVar[str] = "vit_tiny"
    patch: Annotated[LayerWidth, "side of a patch in pixels"] = 4
    dim: Annotated[LayerWidth, "width of the tokens; a multiple of heads"] = 192
    depth: Annotated[LayerCount, "number of blocks"] = 12
    heads: Annotated[LayerCount, "attention heads per block"] = 3
    dropout: Annotated[Below1, "dropout probability"] = 0.0

    @pydantic.model_validator(mode="after")
    def _heads_divide_dim(self) -> Self:
        if self.dim % self.heads:
            raise ValueError(f"dim={self.dim} must be a multiple of heads={self.heads}")
        return self

    def build(
        self, num_classes: int, input_shape: tuple[int, ...], *, seed: int
    ) -> VisionTransformer:
        """A model from images [B, C, H, W] to logits [B, num_classes]."""
        check_classes(self.name, num_classes)
        image = image_shape(self.name, input_shape)
        if image.height % self.patch or image.width % self.patch:
            raise EigenforgetError(
                f"vit_tiny: {image.height}×{image.width} pixels are not a multiple of "
                f"patch={self.patch}"
            )
        width = Width(self.dim, self.heads, self.dropout)
        with initial_weights(seed):
            return VisionTransformer(
                image, patch=self.patch, depth=self.depth, width=width, num_classes=num_classes
            )


class Attention(nn.Module):
    """Multi-head self-attention, [B, T, D] -> [B, T, D].

    Written out instead of scaled_dot_product_attention, whose fused kernels have no second
    derivative.
    """

    def __init__(self, width: Width) -> None:
        super().__init__()
        self.heads, self.dim = width.heads, width.dim
        self.qkv = nn.Linear(width.dim, 3 * width.dim)
        self.proj = nn.Linear(width.dim, width.dim)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map tokens [B, T, D] to [B, T, D]."""
        count, length, _ = tokens.shape
        packed = self.qkv(tokens).view(count, length, 3, self.heads, self.dim // self.heads)
        query, key, value = packed.permute(2, 0, 3, 1, 4)
        weights = (query @ key.transpose(2, 3) / sqrt(self.dim // self.heads)).softmax(dim=-1)
        return cast(
            Tensor, self.proj((weights @ value).transpose(1, 2).reshape(count, length, self.dim))
        )


class Block(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x)), [B, T, D] -> [B, T, D]."""

    def __init__(self, width: Width) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width.dim, eps=_EPSILON)
        self.attn = Attention(width)
        self.norm2 = nn.LayerNorm(width.dim, eps=_EPSILON)
        self.mlp = nn.Sequential()
        self.mlp.add_module("fc1", nn.Linear(width.dim, _MLP_RATIO * width.dim))
        self.mlp.add_module("act", nn.GELU())
        self.mlp.add_module("fc2", nn.Linear(_MLP_RATIO * width.dim, width.dim))
        self.drop = nn.Dropout(width.dropout)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map tokens [B, T, D] to [B, T, D]."""
        tokens = tokens + self.drop(self.attn(self.norm1(tokens)))
        return cast(Tensor, tokens + self.drop(self.mlp(self.norm2(tokens))))


class VisionTransformer(nn.Module):
    """Patches to tokens, class token, blocks, norm, linear head on the class token.

    Linear weights, class token and positions start from a normal distribution of deviation 0.02 cut
    at ±2, biases from 0.
    """

    def __init__(
        self, image: ImageShape, *, patch: int, depth: int, width: Width, num_classes: int
    ) -> None:
        super().__init__()
        patches = (image.height // patch) * (image.width // patch)
        self.patch_embed = nn.Module()
        self.patch_embed.proj = nn.Conv2d(image.channels, width.dim, patch, stride=patch)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width.dim))
        self.pos_embed = nn.Parameter(torch.zeros(1, patches + 1, width.dim))
        self.pos_drop = nn.Dropout(width.dropout)
        self.blocks = nn.Sequential(*(Block(width) for _ in range(depth)))
        self.norm = nn.LayerNorm(width.dim, eps=_EPSILON)
        self.head = nn.Linear(width.dim, num_classes)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw linear weights, class token and positions anew.

        Convolution and norms have a reset_parameters of their own.
        """
        linears = [module for module in self.modules() if isinstance(module, nn.Linear)]
        for weight in (self.cls_token, self.pos_embed, *(linear.weight for linear in linears)):
            nn.init.trunc_normal_(weight, std=0.02)
        for linear in linears:
            nn.init.zeros_(linear.bias)

    def forward(self, inputs: Tensor) -> Tensor:
        """Map images [B, C, H, W] to logits [B, num_classes]."""
        patches = self.get_submodule("patch_embed.proj")(inputs).flatten(2).transpose(1, 2)
        tokens = (
            torch.cat([self.cls_token.expand(inputs.shape[0], -1, -1), patches], dim=1)
            + self.pos_embed
        )
        return cast(Tensor, self.head(self.norm(self.blocks(self.pos_drop(tokens)))[:, 0]))
