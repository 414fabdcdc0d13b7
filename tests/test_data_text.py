"""Texts against a word count by hand, and small text models against their formulas."""

from __future__ import annotations

import hashlib
import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from eigenforget.core import spec
from eigenforget.core.errors import EigenforgetError
from eigenforget.data import DATASETS
from eigenforget.data.text import Text
from eigenforget.experiments.experiment import Experiment
from eigenforget.models.features import find_head
from eigenforget.models.mlp import Mlp
from eigenforget.models.text import TextMlp, TextTransformer, with_vocabulary
from eigenforget.requests import ByGroup
from eigenforget.training.engine import Engine
from eigenforget.training.recipe import Recipe

GOOD, BAD_WORDS = ("fine", "splendid", "lovely"), ("dull", "awful", "poor")


def reviews(n: int = 60, seed: int = 0) -> list[dict[str, Any]]:
    rng = np.random.default_rng(seed)
    rows = []
    for row in range(n):
        words = [
            str(rng.choice(GOOD if row % 2 else BAD_WORDS)) for _ in range(int(rng.integers(2, 9)))
        ] + ["The", "film's", "plot"]
        rows.append(
            {
                "text": f"{' '.join(map(str, rng.permutation(words)))}!",
                "label": "good" if row % 2 else "bad",
                "who": f"w{row % 5}",
                "nr": row,
            }
        )
    return rows


def write(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text(
        "\n".join(json.dumps(row, ensure_ascii=False) for row in rows), encoding="utf-8"
    )
    return str(path)


def refusal(call: Any) -> str:
    with pytest.raises(EigenforgetError) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def by_hand(
    texts: list[str], known: list[str], size: int, length: int
) -> tuple[list[list[int]], list[list[int]], int]:
    """Ids and masks, one character at a time; `known` are the training texts."""

    def text_array(text: str) -> list[str]:
        found, word = [], ""
        for char in [*text.lower(), " "]:
            if char.isalnum() or (char == "'" and word):
                word += char
            elif word:
                found.append(word.rstrip("'"))
                word = ""
        return found

    counts: dict[str, int] = {}
    for text in known:
        for word in text_array(text):
            counts[word] = counts.get(word, 0) + 1
    order = sorted(counts.items(), key=lambda item: item[0])
    order.sort(key=lambda item: item[1], reverse=True)
    ids = {word: n + 2 for n, (word, _) in enumerate(order[: size - 2])}
    rows = [([ids.get(word, 1) for word in text_array(text)] or [1])[:length] for text in texts]
    return (
        [row + [0] * (length - len(row)) for row in rows],
        [[1] * len(row) + [0] * (length - len(row)) for row in rows],
        len(ids) + 2,
    )


@pytest.mark.parametrize(("size", "length"), [(5000, 64), (6, 5), (3, 1)])
def test_texts_are_what_counting_by_hand_gives(tmp_path: Path, size: int, length: int) -> None:
    rows = reviews()
    rows[3]["text"], rows[8]["text"], rows[20]["text"] = (
        "¿Qué PASÓ — naïve 42nd?",
        "… !",
        "fine dull fine unheard",
    )
    path = write(tmp_path / "t.jsonl", rows)
    data = spec.parse(
        f"text(path={path!r}, group='who', max_length={length}, vocabulary={size})",
        DATASETS,
        "data set",
    ).load()
    where = {
        side: index.columns["nr"]
        for side, index in (("train", data.train_index), ("test", data.test_index))
    }
    known = [rows[row]["text"] for row in where["train"]]
    for side, source, index in (
        ("train", data.train, data.train_index),
        ("test", data.test, data.test_index),
    ):
        texts = [rows[row]["text"] for row in where[side]]
        ids, mask, count = by_hand(texts, known, size, length)
        assert list(source.inputs) == ["input_ids", "attention_mask"] and all(
            v.dtype == torch.int64 for v in source.inputs.values()
        )
        assert (
            source.inputs["input_ids"].tolist() == ids
            and source.inputs["attention_mask"].tolist() == mask
        )
        assert data.vocabulary == count and source.inputs["input_ids"].max() < count <= size
        assert source.labels().tolist() == [
            row % 2 for row in where[side]
        ] and index.groups.tolist() == [f"w{row % 5}" for row in where[side]]
        assert index.content.tolist() == [
            hashlib.sha256(b"text\x1f" + text.encode()).hexdigest() for text in texts
        ]
        assert set(index.columns) == {"who", "nr"}
    assert data.input_shape == (length,) and data.class_names == ("bad", "good")


def test_the_words_do_not_depend_on_the_order_of_the_texts(tmp_path: Path) -> None:
    rows = [{**row, "side": "train" if row["nr"] < 40 else "test"} for row in reviews()]
    one = Text(path=write(tmp_path / "a.jsonl", rows), id="nr", split="side", vocabulary=7).load()
    two = Text(
        path=write(tmp_path / "b.jsonl", rows[::-1]), id="nr", split="side", vocabulary=7
    ).load()
    for name, value in one.train.inputs.items():
        assert torch.equal(value, two.train.inputs[name].flip(0))
    assert one.digest == two.digest


TOKENS = {"[PAD]": 3, "[UNK]": 0, "fine": 1, "dull": 2, "the": 4}


def tokenizer(folder: Path, **change: Any) -> str:
    folder.mkdir(exist_ok=True)
    whole = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [],
        "normalizer": {"type": "Lowercase"},
        "pre_tokenizer": {"type": "Whitespace"},
        "post_processor": None,
        "decoder": None,
        "model": {"type": "WordLevel", "vocab": TOKENS, "unk_token": "[UNK]"},
    }
    (folder / "tokenizer.json").write_text(json.dumps(whole | change), encoding="utf-8")
    return f"hf:{folder}"


def test_a_hugging_face_tokenizer_from_a_folder(tmp_path: Path) -> None:
    pytest.importorskip("tokenizers", reason="tokenizers (extra hf) is not installed")
    rows = reviews()
    path = write(tmp_path / "t.jsonl", rows)
    made = Text(path=path, tokenizer=tokenizer(tmp_path / "tok"), max_length=6).load()
    assert made.vocabulary == 5
    for n, row in enumerate(made.train_index.columns["nr"]):
        words = re.findall(r"\w+|[^\w\s]+", rows[row]["text"].lower())[:6]
        ids = [TOKENS.get(word, 0) for word in words]
        assert made.train.inputs["input_ids"][n].tolist() == ids + [3] * (6 - len(ids))
        assert made.train.inputs["attention_mask"][n].tolist() == [1] * len(ids) + [0] * (
            6 - len(ids)
        )
    bare = {"type": "WordLevel", "vocab": {"[UNK]": 0, "fine": 1, "stop": 2}, "unk_token": "[UNK]"}
    name = tokenizer(tmp_path / "bare", model=bare)
    assert "names no padding token, nor has it any of [PAD], <pad>" in refusal(
        Text(path=path, tokenizer=name).load
    )
    (tmp_path / "bare/tokenizer_config.json").write_text(
        '{"pad_token": {"content": "stop"}}', encoding="utf-8"
    )
    assert Text(path=path, tokenizer=name).load().train.inputs["input_ids"][:, -1].eq(2).all()
    (tmp_path / "bare/tokenizer.json").write_text("{}", encoding="utf-8")
    assert refusal(Text(path=path, tokenizer=name).load).endswith(
        "tokenizer.json is no tokenizer of Hugging Face's: it has no 'model'"
    )
    assert refusal(Text(path=path, tokenizer=f"hf:{tmp_path}/no").load).endswith(
        "tokenizer.json cannot be read: " + _gone(tmp_path)
    )


def _gone(folder: Path) -> str:
    return f"[Errno 2] No such file or directory: '{folder}/no/tokenizer.json'"


def test_bad_texts_are_refused(tmp_path: Path) -> None:
    rows = reviews(8)
    rows[2]["text"] = None
    assert refusal(Text(path=write(tmp_path / "t.jsonl", rows)).load).endswith(
        "column 'text' (text) has no value in line 3"
    )
    rows[2]["text"] = "x"
    other = Text(path=write(tmp_path / "t.jsonl", rows), text="body")
    assert "there is no column 'body' (text); the columns: text, label" in refusal(other.load)
    for value in ("bert", "hf:"):
        line = refusal(
            lambda value=value: spec.parse(
                f"text(path='t.csv', tokenizer={value!r})", DATASETS, "data set"
            )
        )
        assert f"must be 'words' or 'hf:folder', got {value!r}" in line


def batch(vocabulary: int, length: int = 7, n: int = 5) -> dict[str, Tensor]:
    g = torch.Generator().manual_seed(0)
    counts = torch.tensor([1, 3, length, 2, 5])[:n, None]
    return {
        "input_ids": torch.randint(0, vocabulary, (n, length), generator=g),
        "attention_mask": (torch.arange(length) < counts).long(),
    }


def test_text_mlp_is_the_mean_embedding_through_layers() -> None:
    model = TextMlp(dim=4, hidden=(6,), vocabulary=11).build(3, (7,), seed=2).double()
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
    assert TextMlp(dim=4, hidden=(), vocabulary=11).build(3, (7,), seed=2).head.in_features == 4


def test_text_transformer_is_torchs_encoder_layer_with_a_padding_mask() -> None:
    model = (
        TextTransformer(dim=8, depth=2, heads=2, vocabulary=11)
        .build(3, (7,), seed=2)
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
    one, two, other = (kind.build(3, (7,), seed=seed) for seed in (1, 1, 2))
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
        refusal(lambda: TextMlp().build(2, (7,), 0))
        == "text_mlp needs vocabulary, the number of token ids of the data"
    )
    wrong = refusal(lambda: TextTransformer(vocabulary=9).build(2, (1, 8, 8), 0))
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
