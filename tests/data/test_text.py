"""Texts from files of rows."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch

from eigenforget.core import spec
from eigenforget.data import DATASETS
from eigenforget.data.text import Text
from tests.data.text_toys import reviews, write
from tests.data.toys import refusal


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
