"""Records on disk: whole files, chains, corrections."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from eigenforget.record import (
    RecordError,
    canonical,
    in_force,
    read,
    read_chain,
    read_folder,
    seal,
    tip,
    write,
    write_text,
)
from tests.record.toys import A, chain, made, refusal


def test_seal_write_read_round_trip(tmp_path: Path) -> None:
    sealed = seal(made(), A)
    path = write(sealed, tmp_path / "r.json")
    assert read(path) == sealed and sealed.previous == A
    assert sealed.job["fractions"] == [
        0.1,
        1e-7,
    ]  # plain JSON types: equal before and after the disk
    content = json.loads(path.read_text(encoding="utf-8"))
    told = content.pop("digest")
    body = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    assert told == sealed.digest == "sha256:" + hashlib.sha256(body).hexdigest()
    assert path.read_bytes().endswith(b"}\n") and sorted(tmp_path.iterdir()) == [path]


def test_digest_depends_on_content_and_predecessor_only() -> None:
    first = seal(made())
    assert seal(first) == first == seal(made()) and seal(made(), A).digest != first.digest
    assert seal(made(name="muda")).digest != first.digest


def test_every_changed_byte_and_every_kind_of_cut_is_an_error_that_names_the_file(
    tmp_path: Path,
) -> None:
    path = write(seal(made()), tmp_path / "r.json")
    content = path.read_bytes()
    assert len(content) > 800
    damaged = [
        content[:i] + bytes([content[i] ^ 1]) + content[i + 1 :] for i in range(len(content))
    ]
    damaged += [
        content[:i] for i in (*range(0, len(content), 29), len(content) - 2, len(content) - 1)
    ]
    damaged += [content + b"\n", content + content, b" " + content, b"\xef\xbb\xbf" + content]
    for blob in damaged:
        path.write_bytes(blob)
        assert refusal(read, path).startswith(f"{path}: ")
    path.write_bytes(content)
    assert read(path).name == "müda"


@pytest.mark.parametrize(
    "content", [b"", b"\n", b"not json", b"\xff\xfe", b"[]", b"null", b"3", b"{}", b"[" * 100_000]
)
def test_what_is_no_record_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "r.json"
    path.write_bytes(content)
    assert refusal(read, path).startswith(f"{path}: ")
    assert "cannot be read" in refusal(read, tmp_path / "absent.json")


def test_the_same_content_in_another_spelling_is_refused(tmp_path: Path) -> None:
    path = write(seal(made()), tmp_path / "r.json")
    value = json.loads(path.read_bytes())
    for text in (
        json.dumps(value),
        canonical(value),
        canonical(value).replace('"seed":0', '"seed":0,"seed":0') + "\n",
    ):
        path.write_text(text, encoding="utf-8")
        assert "not in canonical form" in refusal(read, path)


def test_numbers_that_json_does_not_know_are_refused(tmp_path: Path) -> None:
    path = write(seal(made()), tmp_path / "r.json")
    good = path.read_text(encoding="utf-8")
    for number in ("NaN", "Infinity", "1e999"):
        for old in ('"value":0.981', '"seed":0'):
            assert old in good
            path.write_text(good.replace(old, old.split(":")[0] + ":" + number), encoding="utf-8")
            assert refusal(read, path).startswith(f"{path}: ")


def test_write_does_not_replace_and_does_not_take_unsealed_records(tmp_path: Path) -> None:
    path = write(seal(made()), tmp_path / "r.json")
    before = path.read_bytes()
    assert (
        "exists already" in refusal(write, seal(made("other")), path)
        and path.read_bytes() == before
    )
    new = tmp_path / "new.json"
    for record in (made(), replace(seal(made()), name="changed after sealing")):
        assert "must be sealed" in refusal(write, record, new) and not new.exists()
    write(seal(made("other")), path, overwrite=True)
    assert read(path).name == "other"


@pytest.mark.parametrize("call", ["replace", "fsync"])
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_failed_write_leaves_the_old_file_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, error: BaseException
) -> None:
    path = write_text(tmp_path / "r.json", "old")

    def fail(*args: Any) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(os, call, fail)
        with pytest.raises((RecordError, KeyboardInterrupt)) as caught:
            write_text(path, "new")
    assert isinstance(caught.value, KeyboardInterrupt) or str(caught.value).startswith(
        f"{path}: cannot be written: No space left on device; "
    )
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]
    assert "cannot be written" in refusal(write_text, path / "r.json", "new")


def test_order_comes_from_the_chain_and_not_from_file_names(tmp_path: Path) -> None:
    names = ["c.json", "a.json", "d.json", "b.json"]
    sealed = chain(tmp_path, [made(f"m{i}") for i in range(4)], names)
    (tmp_path / "notes.txt").write_text("not a record")
    (tmp_path / "._a.json").write_text("not a record")
    assert [r.name for r in read_folder(tmp_path)] == ["m0", "m1", "m2", "m3"]
    assert read_chain([tmp_path / n for n in sorted(names)]) == sealed


def test_tip_is_what_the_next_record_follows(tmp_path: Path) -> None:
    folder = tmp_path / "runs"
    assert tip(folder) is None
    folder.mkdir()
    (folder / "._hidden.json").write_text("")
    assert tip(folder) is None
    sealed = chain(folder, [made("m0"), made("m1")], ["z.json", "a.json"])
    assert tip(folder) == sealed[1].digest
    write(seal(made("m2"), tip(folder)), folder / "b.json")
    assert [r.name for r in read_folder(folder)] == ["m0", "m1", "m2"]
    assert "not a folder" in refusal(tip, folder / "a.json") and "holds no records" in refusal(
        read_folder, tmp_path
    )


@pytest.mark.parametrize("lost", [0, 1])
def test_a_missing_predecessor_is_named(tmp_path: Path, lost: int) -> None:
    sealed = chain(tmp_path, [made(f"m{i}") for i in range(3)])
    (tmp_path / f"{lost}.json").unlink()
    message = refusal(read_folder, tmp_path)
    assert (
        message
        == f"{tmp_path / f'{lost + 1}.json'}: its previous record {str(sealed[lost].digest)[:19]}… is missing: "
        "it was taken away, or changed and sealed again"
    )


def test_forks_and_repeated_records_are_named(tmp_path: Path) -> None:
    sealed = chain(tmp_path, [made("m0"), made("m1")])
    other = write(seal(made("m2"), sealed[0].digest), tmp_path / "fork.json")
    assert refusal(read_folder, tmp_path).startswith(
        f"{other}: has the same previous record as {tmp_path / '1.json'}"
    )
    other.unlink()
    second = write(seal(made("m3")), tmp_path / "second.json")
    assert "begins a chain, as" in refusal(read_folder, tmp_path)
    second.unlink()
    copy = write_text(tmp_path / "copy.json", (tmp_path / "1.json").read_text(encoding="utf-8"))
    assert (
        refusal(read_folder, tmp_path)
        == f"{copy.parent / 'copy.json'}: the same record as {tmp_path / '1.json'}"
    )


def test_a_name_is_evaluated_once_unless_corrected(tmp_path: Path) -> None:
    first = seal(made("m"))
    again = chain(tmp_path / "twice", [made("m"), made("m", created="2026-11-24T14:00:00Z")])
    assert "evaluates 'm' as" in refusal(read_folder, tmp_path / "twice") and again[0] == first
    better = made("m", job={"corrects": first.digest})
    records = chain(tmp_path / "corrected", [made("m"), made("n"), better])
    assert read_folder(tmp_path / "corrected") == records
    assert [r.name for r in in_force(records)] == ["n", "m"] and in_force(records)[1] is records[2]
    trained = made("m", kind="train", role=None)
    assert (
        len(chain(tmp_path / "kinds", [trained, made("m")]))
        == len(read_folder(tmp_path / "kinds"))
        == 2
    )
    chain(tmp_path / "wrong", [made("n"), better])
    assert "is not an earlier record of the chain" in refusal(read_folder, tmp_path / "wrong")


def test_two_names_that_look_alike_are_no_chain(tmp_path: Path) -> None:
    chain(tmp_path / "one", [made("ft"), made("ft", kind="train", role=None), made("muda")])
    assert len(read_folder(tmp_path / "one")) == 3
    for twin in ("FT", "ft ", "ｆｔ"):
        chain(tmp_path / twin, [made("ft"), made(twin, inputs={"split": A})])
        assert repr(twin) in refusal(read_folder, tmp_path / twin)
    runs = [made(name, kind="train", role=None, scores=()) for name in ("ft", "FT")]
    chain(tmp_path / "runs", runs)
    assert len(read_folder(tmp_path / "runs")) == 2, "runs do not stand side by side"
