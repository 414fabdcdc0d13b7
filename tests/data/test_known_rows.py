"""Which rows a model was trained on, as hashes, and what changed since."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from eigenforget.core.errors import EigenforgetError
from eigenforget.data import Arrays, Data, from_arrays
from eigenforget.data.known_rows import DataChanges, KnownRows
from eigenforget.data.table import TableFile
from tests.data.image_toys import arrays as points
from tests.data.table_toys import people, write
from tests.data.test_image_folder import ImageFolder, paint
from tests.data.toys import refusal


def table(path: Path, rows: list[dict], **options) -> Data:
    given = {"label": "species", "id": "name", "drop": ("colour", "zip", "house"), **options}
    return TableFile(path=str(write(path, rows)), **given).load()


def test_nothing_differs_where_nothing_changed(tmp_path) -> None:
    data = table(tmp_path / "a.csv", people())
    assert KnownRows.of(data).changes(data) == DataChanges(0, 0, 0, 0, 0)
    assert KnownRows.of(data).changes(data).words() == ""


@pytest.mark.parametrize("ids", ["name", ""])
def test_rows_that_are_gone_new_and_changed_are_counted(tmp_path, ids) -> None:
    drop = ("colour", "zip", "house", *(() if ids else ("name",)))
    rows = people(60)
    known = KnownRows.of(table(tmp_path / "a.csv", rows, id=ids, drop=drop))
    new = [{**row, "name": f"n{i}", "age": 200 + i} for i, row in enumerate(people(3))]
    changed = [{**rows[9], "age": 150}, *rows[10:]]
    now = table(tmp_path / "b.csv", [*rows[2:9], *changed, *new], id=ids, drop=drop)
    found = known.changes(now)
    if ids:
        assert (found.gone, found.added, found.changed, found.renamed) == (2, 3, 1, 0)
    else:  # numbers of rows are no names: all of them are others now
        assert (found.gone, found.added, found.changed) == (3, 4, 0) and found.renamed > 50
    assert found.moved > 0, "the seeded division is drawn anew"
    assert str(found.gone) in found.words() and "new" in found.words()


def test_rows_are_taken_back_to_the_sides_where_they_were(tmp_path) -> None:
    rows = people(60)
    before = table(tmp_path / "a.csv", rows)
    known = KnownRows.of(before)
    fixed = before.normalisation.spelled()
    new = {**rows[0], "name": "new", "age": 99}
    after = known.divided(table(tmp_path / "b.csv", [new, *rows[3:]], normalize=fixed))
    for side in ("train", "test"):
        then, now = (getattr(data, f"{side}_index").ids for data in (before, after))
        left = [name for name in then if name not in {"p000", "p001", "p002"}]
        assert sorted(now) == sorted(left)
        source, old = getattr(after, side), getattr(before, side)
        place = {name: n for n, name in enumerate(then)}
        assert torch.equal(source.inputs, old.inputs[[place[name] for name in now]])
        assert source.labels().tolist() == getattr(after, f"{side}_index").labels.tolist()
    assert known.changes(after) == DataChanges(3, 0, 0, 0, 0)


def test_images_on_disk_are_divided_too(tmp_path) -> None:
    for n in range(20):
        paint(tmp_path / "ab"[n % 2] / f"{n:02}.png", seed=n)
    spec = ImageFolder(path=str(tmp_path), size=4, keep="disk")
    known = KnownRows.of(spec.load())
    (tmp_path / "a" / "00.png").unlink()
    divided = known.divided(spec.load())
    assert len(divided.train) + len(divided.test) == 19
    assert known.changes(divided)._replace(gone=1) == DataChanges(1, 0, 0, 0, 0)
    (batch,) = divided.test.batches(10)
    assert batch.labels.tolist() == divided.test_index.labels.tolist()


def test_equal_rows_are_counted_one_by_one() -> None:
    inputs, labels = points(8, 0)
    twice = np.concatenate([inputs, inputs]), np.concatenate([labels, labels])
    data = from_arrays(train=Arrays(*twice), test=Arrays(*points(4, 1)))
    once = from_arrays(train=Arrays(inputs, labels), test=Arrays(*points(4, 1)))
    assert KnownRows.of(data).changes(once).gone == 8
    assert KnownRows.of(once).changes(data).added == 8


def test_a_key_hides_rows_from_who_guesses_them(tmp_path) -> None:
    data = table(tmp_path / "a.csv", people())
    plain, keyed = KnownRows.of(data), KnownRows.of(data, key=b"secret")
    assert not np.isin(plain.train.rows, keyed.train.rows).any()
    assert not np.isin(plain.train.ids, keyed.train.ids).any()
    (tmp_path / "k.rows").write_text(keyed.text())
    assert "p000" not in keyed.text()
    assert KnownRows.read(tmp_path / "k.rows", b"secret").changes(data).words() == ""
    kept = KnownRows.of(data, kept=np.arange(5))
    assert len(kept.train.rows) == 5 and len(kept.test.rows) == len(data.test)


@pytest.mark.parametrize(
    "text",
    ["", "{}", "[]", '{"schema":"eigenforget.rows/1"}', "BAD64", "ODD", "UNEQUAL"],
)
def test_damaged_files_are_one_line(tmp_path, text) -> None:
    value = json.loads(KnownRows.of(table(tmp_path / "a.csv", people())).text())
    if text == "BAD64":
        value["train"]["rows"] = "ä"
    elif text == "ODD":
        value["train"]["rows"] = "AAAA"
    elif text == "UNEQUAL":
        value["train"]["rows"] = ""
    path = tmp_path / "x.rows"
    path.write_text(json.dumps(value) if text.isupper() and text.isalnum() else text)
    assert "x.rows" in refusal(lambda: KnownRows.read(path))


def test_no_side_may_be_empty(tmp_path) -> None:
    known = KnownRows.of(table(tmp_path / "a.csv", people()))
    with pytest.raises(EigenforgetError, match="none of the rows"):
        known.divided(table(tmp_path / "b.csv", people(seed=1)))
