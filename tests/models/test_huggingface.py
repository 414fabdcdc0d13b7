"""Classifiers of transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from eigenforget.core import spec
from eigenforget.core.errors import EigenforgetError
from eigenforget.data.sources import DatasetSource
from eigenforget.methods import MUDA
from eigenforget.methods.unlearn import unlearn
from eigenforget.models import MODELS, checkpoint
from eigenforget.models.features import find_head
from eigenforget.training.engine import Engine

CLASSES = 3


VIT = '{"model_type": "vit", "hidden_size": 12, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16, "patch_size": 8}'


BERT = '{"model_type": "bert", "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8, "vocab_size": 20}'


def needs(*libraries: str) -> None:
    for name in libraries:
        pytest.importorskip(name)


def build(
    text: str, *, shape: tuple[int, ...] = (3, 32, 32), classes: int = CLASSES, seed: int = 0
) -> nn.Module:
    return spec.parse(text, MODELS, "model").build(
        num_classes=classes, input_shape=shape, seed=seed
    )


def refusal(text: str, **more: Any) -> str:
    with pytest.raises(EigenforgetError) as caught:
        build(text, **more)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_folder_of_transformers_with_and_without_weights(tmp_path: Path) -> None:
    needs("transformers")
    first = build(f"hf(config={VIT})", seed=1)
    first.save_pretrained(tmp_path)  # type: ignore[operator]
    text = f'hf(path="{tmp_path}")'
    assert checkpoint.model_digest(build(text)) == checkpoint.model_digest(first)
    wider = build(text, classes=5)
    assert find_head(wider)[1].out_features == 5
    assert all(
        torch.equal(v, first.state_dict()[k])
        for k, v in wider.state_dict().items()
        if not k.startswith("classifier")
    )
    assert "cannot take inputs [1, 3, 16, 16]" in refusal(text, shape=(3, 16, 16))
    resized = f'hf(path="{tmp_path}", config={{"image_size": 16}})'
    assert refusal(resized, shape=(3, 16, 16)).endswith(
        "of another shape than the config says: vit.embeddings.position_embeddings"
    )
    (tmp_path / "model.safetensors").unlink()
    assert checkpoint.model_digest(build(text, seed=1)) == checkpoint.model_digest(first)
    torch.save(first.state_dict(), tmp_path / "pytorch_model.bin")
    line = refusal(text)
    assert (
        "only safetensors are loaded, the folder has pytorch_model.bin; where they are trusted:"
        in line
    )


def test_muda_on_a_text_classifier_of_transformers() -> None:
    needs("transformers")
    labels = torch.arange(18) % CLASSES
    rows = [
        (
            {
                "input_ids": torch.full((6,), int(y) + 1),
                "attention_mask": torch.ones(6, dtype=torch.long),
            },
            int(y),
        )
        for y in labels
    ]
    sides = [
        DatasetSource([row for row in rows if (row[1] == 2) == gone]) for gone in (True, False)
    ]  # type: ignore[arg-type]
    model = build(f"hf(config={BERT})", shape=(6,))
    before = checkpoint.model_digest(model)
    result = unlearn(
        model,
        forget=sides[0],
        retain=sides[1],
        method=MUDA(alternations=1, batch_size=6),
        engine=Engine(device="cpu"),
    )
    assert checkpoint.model_digest(result) != before == checkpoint.model_digest(model) and type(
        result
    ) is type(model)
