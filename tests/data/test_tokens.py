"""Token ids of texts."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from eigenforget.data.text import Text
from tests.data.text_toys import reviews, write
from tests.data.toys import refusal


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
        "tokenizer.json is not a Hugging Face tokenizer: it has no 'model'"
    )
    assert refusal(Text(path=path, tokenizer=f"hf:{tmp_path}/no").load).endswith(
        "tokenizer.json cannot be read: " + _gone(tmp_path)
    )


def _gone(folder: Path) -> str:
    return f"[Errno 2] No such file or directory: '{folder}/no/tokenizer.json'"
