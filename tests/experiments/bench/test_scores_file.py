"""Scores files keep what tables are made from, in the same bytes, and refuse what is damaged."""

from __future__ import annotations

import gzip
from dataclasses import replace
from pathlib import Path

import pytest

from eigenforget.experiments.bench.scores_file import (
    SCORES_FILE,
    read_scores_file,
    read_studies,
    write_scores_file,
)
from eigenforget.record import RecordError, RunRecord, chained, write
from tests.report_toys import whole


@pytest.fixture
def records() -> list[RunRecord]:
    return list(chained(replace(r, previous=None, digest=None) for r in whole(points=4)))


def test_all_but_the_series_comes_back(tmp_path: Path, records: list[RunRecord]) -> None:
    with_group = replace(records[0], series={**records[0].series, "forget_groups": {"a": 0.5}})
    write_scores_file(tmp_path, {"b/seed1": records, "a/seed0": [with_group]})
    found = read_scores_file(tmp_path)
    assert list(found) == ["b/seed1", "a/seed0"]
    assert found["b/seed1"] == [replace(r, series={}) for r in records]
    assert found["a/seed0"] == [replace(with_group, series={"forget_groups": {"a": 0.5}})]


def test_a_text_may_hold_any_character(tmp_path: Path, records: list[RunRecord]) -> None:
    odd = replace(records[0], claims=("a\u2028b\x85c",), series={})
    write_scores_file(tmp_path, {"a": [odd, odd]})
    assert read_scores_file(tmp_path) == {"a": [odd, odd]}
    path = tmp_path / SCORES_FILE
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes())[:-1], mtime=0))
    with pytest.raises(RecordError, match="cut off"):
        read_scores_file(tmp_path)


def test_a_file_that_unpacks_beyond_memory_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("eigenforget.experiments.bench.scores_file._MOST_BYTES", 1000)
    (tmp_path / SCORES_FILE).write_bytes(gzip.compress(bytes(1001), mtime=0))
    with pytest.raises(RecordError, match="unpacks to more than"):
        read_scores_file(tmp_path)


def test_the_same_records_give_the_same_bytes(tmp_path: Path, records: list[RunRecord]) -> None:
    first = write_scores_file(tmp_path, {"a/seed0": records}).read_bytes()
    assert write_scores_file(tmp_path, {"a/seed0": records}).read_bytes() == first
    assert first[4:8] == bytes(4) and [p.name for p in tmp_path.iterdir()] == [SCORES_FILE]


def test_sealed_records_go_before_the_scores_file(tmp_path: Path, records: list[RunRecord]) -> None:
    write_scores_file(tmp_path, {"old/seed0": records})
    assert list(read_studies(tmp_path)) == ["old/seed0"]
    folder = tmp_path / "new" / "seed0" / "records"
    folder.mkdir(parents=True)
    for number, item in enumerate(records):
        write(item, folder / f"{number}.json")
    assert read_studies(tmp_path) == {"new/seed0": records}
    assert read_studies(tmp_path / "new") == {}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no gzip",
        gzip.compress(b"{}\n", mtime=0),
        gzip.compress(b'{"folder": "a"}\n', mtime=0),
        gzip.compress(b"3\n", mtime=0),
        gzip.compress(b'{"folder": []}\n', mtime=0),
        gzip.compress(b"[" * 50_000 + b"\n", mtime=0),
        gzip.compress(b"\xff\n", mtime=0),
        gzip.compress(bytes(1000), mtime=0)[:-20] + b"\xff" * 20,
    ],
)
def test_a_damaged_file_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / SCORES_FILE).write_bytes(content)
    if content:
        with pytest.raises(RecordError, match=SCORES_FILE):
            read_scores_file(tmp_path)
    else:
        assert read_scores_file(tmp_path) == {}
