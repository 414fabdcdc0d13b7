"""Named samples."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path

import numpy as np
import pytest

from eigenforget.core.errors import EigenforgetError
from eigenforget.core.spec import parse
from eigenforget.core.types import Index
from eigenforget.requests import REQUESTS as KINDS
from eigenforget.requests import ByIds, split
from tests.requests.toys import index


def test_by_ids_reads_a_file_and_a_list_alike(tmp_path: Path) -> None:
    path = tmp_path / "ids.txt"
    path.write_text("id004\n\n  id001\nid004\n", encoding="utf-8")
    labels = [0, 1, 0, 1, 0, 1]
    from_file, from_list = (
        split(ByIds(path=str(path)), index(labels)),
        split(ByIds(ids=("id001", "id004")), index(labels)),
    )
    assert list(from_file.forget) == [1, 4] and from_file.digest == from_list.digest


def test_by_ids_reads_standard_input_once_and_takes_lists(monkeypatch: pytest.MonkeyPatch) -> None:
    data = index([0, 1, 0, 1, 0, 1])
    monkeypatch.setattr(sys, "stdin", io.StringIO("id004\nid001\n"))
    assert [list(split(ByIds(path="-"), data).forget) for _ in range(2)] == [[1, 4], [1, 4]]
    monkeypatch.setattr(sys, "stdin", io.StringIO("id002\n"))
    assert list(split(ByIds(path="-", ids=("id000",)), data).forget) == [0, 2]
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(
        EigenforgetError, match="cannot read the id list '-': there is no standard input"
    ):
        split(ByIds(path="-"), data)
    assert (
        ByIds(ids=["id001"])
        == ByIds(ids=("id001",))
        == parse('by_ids(ids=["id001"])', KINDS, "request")
    )  # type: ignore[arg-type]


def test_by_ids_passes_over_a_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "ids.txt"
    path.write_bytes(b"\xef\xbb\xbfid001\r\nid002\r\n")
    assert list(split(ByIds(path=str(path)), index([0, 1, 0, 1])).forget) == [1, 2]


def test_a_pipe_is_refused_and_names_the_way_to_read_one(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "ids")
    with pytest.raises(EigenforgetError, match=r"ids.*no regular file; path='-' reads"):
        split(ByIds(path=str(tmp_path / "ids")), index([0, 1, 0, 1]))


def test_ids_come_from_a_column_of_a_csv_file(tmp_path: Path) -> None:
    for text in ("when,customer\n1,id001\n2, id004 \n3,\n", "when;customer\n1;id001\n2;id004\n"):
        (tmp_path / "asked.csv").write_text(text, encoding="utf-8")
        found = ByIds(path=str(tmp_path / "asked.csv"), column="customer")
        assert list(split(found, index([0, 1, 0, 1, 0, 1])).forget) == [1, 4]
    with pytest.raises(
        EigenforgetError, match=r"asked\.csv.*no column 'id'; it has when, customer"
    ):
        split(ByIds(path=str(tmp_path / "asked.csv"), column="id"), index([0, 1]))
    (tmp_path / "one.csv").write_text("customer\nid001\n", encoding="utf-8")
    found = ByIds(path=str(tmp_path / "one.csv"), column="customer")
    assert list(split(found, index([0, 1, 0])).forget) == [1]


def test_paths_are_found_by_the_ids_at_their_ends_and_others_say_how_ids_look() -> None:
    data = Index(np.array(["cat/1.png", "dog/1.png", "a/cat/1.png"]), np.array([0, 1, 0]))
    where = {
        "cat/1.png": 0,
        "./dog/1.png": 1,
        "/photos/a/cat/1.png": 2,
        "c:\\photos\\cat\\1.png": 0,
    }
    for name, position in where.items():
        assert list(ByIds(ids=(name,)).select(data)) == [position]
    with pytest.raises(EigenforgetError, match=r"1\.png; its ids look like cat/1\.png, dog/1\.png"):
        ByIds(ids=("1.png",)).select(data)


def test_a_ragged_list_names_its_line(tmp_path: Path) -> None:
    (tmp_path / "asked.csv").write_text("when,customer\n1,a\n2\n", encoding="utf-8")
    with pytest.raises(EigenforgetError, match=r"asked\.csv.*line 3"):
        split(ByIds(path=str(tmp_path / "asked.csv"), column="customer"), index([0, 1]))
