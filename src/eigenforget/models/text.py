"""Small classifiers of token ids.

They take input_ids and attention_mask [B, L] and average over the tokens that are there.
"""

from __future__ import annotations

import dataclasses
from itertools import pairwise
from math import sqrt
from typing import Annotated, Any, ClassVar, Self, cast

import pydantic
import torch
from torch import Tensor, nn

from eigenforget.core.errors import EigenforgetError
from eigenforget.core.fields import Below1, LayerCount, LayerWidth, WholeNumber
from eigenforget.core.spec import configured
from eigenforget.models.building import check_classes, initial_weights

_Vocabulary = Annotated[WholeNumber, "number of token ids; 0 takes the data's"]
_MLP_RATIO = 4


def with_vocabulary(model: Any, vocabulary: int | None) -> Any:
    """The model's settings with the data's number of token ids, where they leave `vocabulary` open.

    Raises:
        EigenforgetError: A text model is to work on data without token ids, or its vocabulary is
            smaller than the data's.
    """
    if not hasattr(model, "vocabulary"):
        return model
    if vocabulary is None:
        raise EigenforgetError(f"{model.name} needs texts (token ids), these data have none")
    if 0 < model.vocabulary < vocabulary:
        raise EigenforgetError(
            f"{model.name}(vocabulary={model.vocabulary}) is too small: the data has {vocabulary} "
            "token ids"
        )
    return model if model.vocabulary else dataclasses.replace(model, vocabulary=vocabulary)


@configured
class TextMlp:
    """Embeddings, their mean over the tokens, linear layers with ReLU between them.

    Feature width: hidden[-1], or dim where there are no hidden layers.
    """

    name: ClassVar[str] = "text_mlp"
    dim: Annotated[LayerWidth, "width of the embeddings"] = 32
    hidden: Annotated[tuple[LayerWidth, ...], "widths of the hidden layers, a tuple: (64,)"] = (64,)
    vocabulary: _Vocabulary = 0

    def build(self, num_classes: int, input_shape: tuple[int, ...], *, seed: int) -> MeanMlp:
        """A model from input_ids, attention_mask [B, L] to logits [B, num_classes]."""
        check_classes(self.name, num_classes)
        _length(self.name, input_shape, self.vocabulary)
        with initial_weights(seed):
            return MeanMlp(self.vocabulary, widths=(self.dim, *self.hidden, num_classes))


@configured
class TextTransformer:
    """Embeddings and learnt positions, pre-norm transformer blocks, the mean over the tokens.

    Feature width: dim, which is a multiple of heads. No token sees padding. Texts that are longer
    than those the model was built for are an error.
    """

    name: ClassVar[str] = "text_transformer"
    dim: Annotated[LayerWidth, "width of the tokens; a multiple of heads"] = 64
    depth: Annotated[LayerCount, "number of blocks"] = 2
    heads: Annotated[LayerCount, "attention heads per block"] = 4
    dropout: Annotated[Below1, "dropout probability"] = 0.0
    vocabulary: _Vocabulary = 0

    @pydantic.model_validator(mode="after")
    def _heads_divide_dim(self) -> Self:
        if self.dim % self.heads:
            raise ValueError(f"dim={self.dim} must be a multiple of heads={self.heads}")
        return self

    def build(self, num_classes: int, input_shape: tuple[int, ...], *, seed: int) -> Transformer:
        """A model from input_ids, attention_mask [B, L] to logits [B, num_classes]."""
        check_classes(self.name, num_classes)
        length = _length(self.name, input_shape, self.vocabulary)
        with initial_weights(seed):
            blocks = [
                MaskedBlock(self.dim, heads=self.heads, dropout=self.dropout)
                for _ in range(self.depth)
            ]
            return Transformer(
                blocks, tokens=self.vocabulary, length=length, num_classes=num_classes
            )


class MeanMlp(nn.Module):
    """The network of `TextMlp`; widths are those of embedding, hidden layers and logits."""

    def __init__(self, tokens: int, *, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.embed = nn.Embedding(tokens, widths[0])
        layers: list[nn.Module] = []
        for before, after in pairwise(widths[:-1]):
            layers += [nn.Linear(before, after), nn.ReLU()]
        self.body = nn.Sequential(*layers)
        self.head = nn.Linear(widths[-2], widths[-1])

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Map input_ids and attention_mask [B, L] to logits [B, C]."""
        return cast(Tensor, self.head(self.body(_mean(self.embed(input_ids), attention_mask))))


class MaskedBlock(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x)); no token attends to padding.

    Written out instead of scaled_dot_product_attention, whose fused kernels have no second
    derivative.
    """

    def __init__(self, dim: int, *, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.qkv, self.proj = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.mlp = nn.Sequential(
            nn.Linear(dim, _MLP_RATIO * dim), nn.GELU(), nn.Linear(_MLP_RATIO * dim, dim)
        )
        self.drop = nn.Dropout(dropout)

    def forward(self, tokens: Tensor, attention_mask: Tensor) -> Tensor:
        """Map tokens [B, L, D] and attention_mask [B, L] to [B, L, D]."""
        tokens = tokens + self.drop(self._attended(self.norm1(tokens), attention_mask))
        return cast(Tensor, tokens + self.drop(self.mlp(self.norm2(tokens))))

    def _attended(self, tokens: Tensor, attention_mask: Tensor) -> Tensor:
        count, length, dim = tokens.shape
        packed = self.qkv(tokens).view(count, length, 3, self.heads, dim // self.heads)
        query, key, value = packed.permute(2, 0, 3, 1, 4)
        scores = query @ key.transpose(2, 3) / sqrt(dim // self.heads)
        # Not -inf, which makes NaN of a text without any token.
        hidden = (attention_mask == 0)[:, None, None, :]
        weights = scores.masked_fill(hidden, torch.finfo(scores.dtype).min).softmax(dim=-1)
        return cast(
            Tensor, self.proj((weights @ value).transpose(1, 2).reshape(count, length, dim))
        )


class Transformer(nn.Module):
    """The network of `TextTransformer`."""

    def __init__(
        self, blocks: list[MaskedBlock], *, tokens: int, length: int, num_classes: int
    ) -> None:
        super().__init__()
        dim = blocks[0].proj.out_features
        self.embed, self.positions = nn.Embedding(tokens, dim), nn.Embedding(length, dim)
        self.blocks = nn.ModuleList(blocks)
        self.norm = nn.LayerNorm(dim)
        self.head = nn.Linear(dim, num_classes)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Map input_ids and attention_mask [B, L] to logits [B, C]."""
        where = torch.arange(input_ids.shape[1], device=input_ids.device)
        tokens = self.embed(input_ids) + self.positions(where)
        for block in self.blocks:
            tokens = block(tokens, attention_mask)
        return cast(Tensor, self.head(_mean(self.norm(tokens), attention_mask)))


def _mean(tokens: Tensor, attention_mask: Tensor) -> Tensor:
    """The mean [B, D] of tokens [B, L, D] over those that are no padding; 0 without any."""
    weights = attention_mask.to(tokens.dtype)[..., None]
    return (tokens * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1)


def _length(model: str, input_shape: tuple[int, ...], vocabulary: int) -> int:
    if len(input_shape) != 1 or input_shape[0] < 1:
        raise EigenforgetError(
            f"{model} needs texts of L token ids, got inputs of shape {tuple(input_shape)}"
        )
    if vocabulary < 1:
        raise EigenforgetError(f"{model} needs vocabulary, the number of token ids of the data")
    return input_shape[0]
