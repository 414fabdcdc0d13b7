"""The ids of a split as a file."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from eigenforget.experiments.experiment import Experiment
from eigenforget.record import (
    canonical,
    manifest_of,
    manifest_text,
    read_manifest,
    write_text,
)
from eigenforget.record.verify import verify
from tests.record.toys import refusal


def test_the_digest_of_a_split_is_that_of_the_experiment_whose_ids_it_holds(
    digits: Experiment,
) -> None:
    found = digits.manifest()
    ids, split = digits.data.train_index.ids, digits.split
    assert found.digest == split.digest and found.digest.startswith("sha256:")
    assert set(found.forget) == {str(ids[i]) for i in split.forget} and set(found.retain) == {
        str(ids[i]) for i in split.retain
    }
    assert manifest_of(found.retain, found.forget).digest != found.digest


def test_the_digest_of_a_split_by_hand_and_the_way_through_a_file(tmp_path: Path) -> None:
    rows = b"a\x1f1\nb\x1f0\n\xc3\xa4\x1f1\n"
    split = manifest_of(["ä", "a"], ["b"])
    assert split.digest == f"sha256:{hashlib.sha256(rows).hexdigest()}" and split.forget == (
        "a",
        "ä",
    )
    assert read_manifest(write_text(tmp_path / "split.json", manifest_text(split))) == split
    hashed = split._replace(hashed=True)
    assert read_manifest(write_text(tmp_path / "split.json", manifest_text(hashed))) == hashed
    for sides in (
        ([], ["a"]),
        (["a"], []),
        (["a"], ["a"]),
        (["a", "a"], ["b"]),
        (["\ud800"], ["b"]),
    ):
        assert refusal(manifest_of, *sides)


GOOD = json.loads(manifest_text(manifest_of(["a", "b"], ["c"])))
SPLITS: dict[str, Any] = {
    "no JSON": b"{",
    "not UTF-8": b"\xff",
    "list": b"[]\n",
    "schema": {**GOOD, "schema": "eigenforget.split/2"},
    "hashed": {**GOOD, "hashed": 1},
    "missing": {k: v for k, v in GOOD.items() if k != "forget"},
    "more": {**GOOD, "x": 1},
    "digest": {**GOOD, "digest": "sha256:" + "0" * 64},
    "side": {**GOOD, "retain": "c"},
    "number": {**GOOD, "retain": [3]},
    "order": {**GOOD, "forget": ["b", "a"]},
    "twice": {**GOOD, "forget": ["a", "a"]},
    "moved": {**GOOD, "forget": ["a"], "retain": ["b", "c"]},
    "surrogate": json.dumps({**GOOD, "retain": ["\ud800"]}).encode() + b"\n",
    "spelling": json.dumps(GOOD).encode() + b"\n",
}


@pytest.mark.parametrize("name", SPLITS)
def test_what_is_no_list_of_ids_as_it_was_written_is_refused_in_one_line(
    tmp_path: Path, name: str
) -> None:
    path, content = tmp_path / "split.json", SPLITS[name]
    path.write_bytes(content if isinstance(content, bytes) else canonical(content).encode() + b"\n")
    assert refusal(read_manifest, path).startswith(f"{path}: ")
    assert [f for f in verify([path]).findings if f.status == "error"], (
        "given alone it is an error as well"
    )
    path.write_bytes(canonical(GOOD).encode() + b"\n")
    assert read_manifest(path).digest == GOOD["digest"]
