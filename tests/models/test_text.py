"""Models of texts: embeddings, padding, vocabulary."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from eigenforget.data.text import Text
from eigenforget.experiments.experiment import Experiment
from eigenforget.models.features import find_head
from eigenforget.models.mlp import Mlp
from eigenforget.models.text import TextMlp, TextTransformer, with_vocabulary
from eigenforget.requests import ByGroup
from eigenforget.training.engine import Engine
from eigenforget.training.recipe import Recipe
from tests.data.text_toys import reviews, write
from tests.data.toys import refusal


def batch(vocabulary: int, length: int = 7, n: int = 5) -> dict[str, Tensor]:
    g = torch.Generator().manual_seed(0)
    counts = torch.tensor([1, 3, length, 2, 5])[:n, None]
    return {
        "input_ids": torch.randint(0, vocabulary, (n, length), generator=g),
        "attention_mask": (torch.arange(length) < counts).long(),
    }


def test_text_mlp_is_the_mean_embedding_through_layers() -> None:
    model = (
        TextMlp(dim=4, hidden=(6,), vocabulary=11)
        .build(num_classes=3, input_shape=(7,), seed=2)
        .double()
    )
    inputs = batch(11)
    table, first, head = model.embed.weight, model.body[0], model.head
    for n in range(5):
        kept = [
            int(i)
            for i, m in zip(inputs["input_ids"][n], inputs["attention_mask"][n], strict=True)
            if m
        ]
        mean = sum(table[i] for i in kept) / len(kept)
        expected = head.weight @ torch.relu(first.weight @ mean + first.bias) + head.bias
        torch.testing.assert_close(model(**inputs)[n], expected, rtol=1e-12, atol=1e-12)
    assert find_head(model)[0] == "head" and head.in_features == 6
    assert (
        TextMlp(dim=4, hidden=(), vocabulary=11)
        .build(num_classes=3, input_shape=(7,), seed=2)
        .head.in_features
        == 4
    )


def test_text_transformer_is_torchs_encoder_layer_with_a_padding_mask() -> None:
    model = (
        TextTransformer(dim=8, depth=2, heads=2, vocabulary=11)
        .build(num_classes=3, input_shape=(7,), seed=2)
        .double()
        .eval()
    )
    inputs = batch(11)
    x = model.embed(inputs["input_ids"]) + model.positions.weight
    for block in model.blocks:
        layer = nn.TransformerEncoderLayer(
            8, 2, 32, 0.0, activation="gelu", batch_first=True, norm_first=True, dtype=torch.float64
        )
        pairs = {
            "self_attn.in_proj_weight": block.qkv.weight,
            "self_attn.in_proj_bias": block.qkv.bias,
            "self_attn.out_proj.weight": block.proj.weight,
            "self_attn.out_proj.bias": block.proj.bias,
            "norm1.weight": block.norm1.weight,
            "norm1.bias": block.norm1.bias,
            "norm2.weight": block.norm2.weight,
            "norm2.bias": block.norm2.bias,
            "linear1.weight": block.mlp[0].weight,
            "linear1.bias": block.mlp[0].bias,
            "linear2.weight": block.mlp[2].weight,
            "linear2.bias": block.mlp[2].bias,
        }
        layer.load_state_dict(pairs)
        x = layer(x, src_key_padding_mask=inputs["attention_mask"] == 0)
    mask = inputs["attention_mask"][..., None]
    expected = model.head((model.norm(x) * mask).sum(1) / mask.sum(1))
    torch.testing.assert_close(model(**inputs), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("kind", [TextMlp(vocabulary=11), TextTransformer(vocabulary=11, depth=1)])
def test_padding_has_no_influence_and_seeds_decide_the_weights(kind: Any) -> None:
    state = torch.get_rng_state()
    one, two, other = (kind.build(num_classes=3, input_shape=(7,), seed=seed) for seed in (1, 1, 2))
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    assert not torch.equal(one.embed.weight, other.embed.weight)
    inputs = batch(11)
    changed = torch.where(
        inputs["attention_mask"] == 1, inputs["input_ids"], (inputs["input_ids"] + 1) % 11
    )
    torch.testing.assert_close(
        one(changed, inputs["attention_mask"]), one(**inputs), rtol=1e-6, atol=1e-6
    )
    nothing = one(inputs["input_ids"], torch.zeros_like(inputs["attention_mask"]))
    assert torch.isfinite(nothing).all()


def test_the_vocabulary_comes_from_the_data() -> None:
    assert with_vocabulary(TextMlp(dim=5), 30) == TextMlp(dim=5, vocabulary=30)
    assert with_vocabulary(TextMlp(vocabulary=40), 30) == TextMlp(vocabulary=40)
    assert with_vocabulary(Mlp(), 30) == Mlp() == with_vocabulary(Mlp(), None)
    assert (
        refusal(lambda: with_vocabulary(TextMlp(vocabulary=20), 30))
        == "text_mlp(vocabulary=20) is too small: the data has 30 token ids"
    )
    assert (
        refusal(lambda: with_vocabulary(TextMlp(), None))
        == "text_mlp needs texts (token ids), these data have none"
    )
    assert (
        refusal(lambda: TextMlp().build(num_classes=2, input_shape=(7,), seed=0))
        == "text_mlp needs vocabulary, the number of token ids of the data"
    )
    wrong = refusal(
        lambda: TextTransformer(vocabulary=9).build(num_classes=2, input_shape=(1, 8, 8), seed=0)
    )
    assert wrong == "text_transformer needs texts of L token ids, got inputs of shape (1, 8, 8)"
    with pytest.raises(ValueError, match="dim=6 must be a multiple of heads=4"):
        TextTransformer(dim=6)


@pytest.mark.parametrize("kind", [TextMlp(), TextTransformer(dim=16, depth=1)])
def test_a_text_model_learns_and_its_samples_can_be_forgotten(
    tmp_path: Path, engine: Engine, kind: Any
) -> None:
    data = Text(path=write(tmp_path / "t.jsonl", reviews(120)), group="who", max_length=12)
    recipe = Recipe(epochs=8, batch_size=16, optimizer="adamw", lr=0.01)
    experiment = Experiment(
        data,
        with_vocabulary(kind, data.load().vocabulary),
        recipe,
        ByGroup(group="w2", duplicates="forget"),
        engine,
    )
    model = experiment.train(seed=0).model
    right = [
        (o.logits.argmax(1) == b.labels).double().mean()
        for b, o in engine.forward(model, experiment.data.test)
    ]
    assert math.fsum(right) / len(right) > 0.9
    assert "w2" in experiment.data.train_index.groups[experiment.split.forget]
