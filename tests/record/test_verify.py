"""The checker of records: every change of a sealed record is found, the chain, the noted tip, and a
copy of record/ that stands alone.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

import eigenforget
from eigenforget.record import (
    canonical,
    file_digest,
    manifest_of,
    manifest_text,
    seal,
    to_json,
    value_digest,
    weights_digest,
    write,
    write_text,
)
from eigenforget.record.checks import VerifyFinding
from eigenforget.record.verify import Options, verify, verify_main
from tests.record.toys import B, chain, made, refusal

# Python runs a module of this name at its start: from then on only the standard library and
# eigenforget can be imported.
_ONLY_STDLIB = """
import sys
class Only:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] not in sys.stdlib_module_names | {"eigenforget"}:
            raise ImportError(f"{name} is blocked", name=name)
sys.meta_path.insert(0, Only())
"""


SEALED = json.loads(canonical(to_json(seal(made()))))
TEXT = canonical(SEALED) + "\n"
_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2)
    ),
    max_leaves=3,
)


def places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to every value inside."""
    items = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    for key, item in items:
        yield (*at, key)
        yield from places(item, (*at, key))


PLACES = list(places(SEALED))


def holder(body: Any, place: tuple[Any, ...]) -> Any:
    for step in place[:-1]:
        body = body[step]
    return body


@st.composite
def other_values(draw: st.DrawFn) -> str:
    """One value replaced, removed, added beside, or exchanged with another."""
    body = json.loads(TEXT)
    place = draw(st.sampled_from(PLACES))
    at, key = holder(body, place), place[-1]
    kind = draw(st.sampled_from(["replace", "remove", "add", "swap"]))
    if kind == "replace":
        at[key] = draw(_VALUES)
    elif kind == "remove":
        del at[key]
    elif kind == "add" and isinstance(at, list):
        at.insert(key, draw(_VALUES))
    elif kind == "add":
        at[draw(st.text(max_size=5))] = draw(_VALUES)
    else:
        other = draw(st.sampled_from(list(at) if isinstance(at, dict) else range(len(at))))
        at[key], at[other] = at[other], at[key]
    return json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=False) + "\n"


@st.composite
def other_spellings(draw: st.DrawFn) -> str:
    """The same values in another order or with other white space."""
    if draw(st.booleans()):
        keys = list(SEALED)
        order = draw(st.permutations(keys))
        return (
            json.dumps(
                {key: SEALED[key] for key in order}, separators=(",", ":"), ensure_ascii=False
            )
            + "\n"
        )
    where = draw(st.integers(0, len(TEXT)))
    return TEXT[:where] + draw(st.sampled_from([" ", "\n", "\t", "\r\n"])) + TEXT[where:]


@pytest.fixture(scope="module")
def slate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("slate") / "r.json"


@settings(max_examples=300, deadline=None)
@given(text=other_values() | other_spellings())
def test_any_other_text_than_the_sealed_one_is_an_error_that_names_the_file(
    slate: Path, text: str
) -> None:
    assume(text != TEXT)
    slate.write_bytes(text.encode("utf-8", "surrogatepass"))
    result = verify([slate])
    assert result.status == 2 and [f.where for f in result.findings if f.status == "error"] == [
        str(slate)
    ]
    slate.write_bytes(TEXT.encode())
    assert verify([slate]).status == 0


@settings(max_examples=100, deadline=None)
@given(place=st.sampled_from(PLACES), value=_VALUES)
def test_a_digest_that_is_made_to_fit_breaks_the_chain_and_the_noted_tip(
    tmp_path_factory: pytest.TempPathFactory, place: tuple[Any, ...], value: Any
) -> None:
    """Who can write the file can seal it anew: then the next record misses its predecessor, or the
    tip is another one.
    """
    folder = tmp_path_factory.mktemp("chain")
    sealed = chain(folder, [made(), made("next", created="2026-11-24T14:00:00Z")])
    body = json.loads((folder / "0.json").read_text(encoding="utf-8"))
    holder(body, place)[place[-1]] = value
    del body["digest"]
    assume(value_digest(body) != sealed[0].digest)
    for name, tip in (("0.json", sealed[1].digest), ("only", sealed[0].digest)):
        (folder / "0.json").write_text(
            canonical({**body, "digest": value_digest(body)}) + "\n", encoding="utf-8"
        )
        if name == "only":
            (folder / "1.json").unlink()
        assert verify([folder], Options(expect_tip=str(tip))).status == 2
        assert name == "only" or verify([folder]).status == 2


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    """A checkpoint, its ids and its record: run/m.json, run/m.safetensors, run/m.split.json."""
    folder = tmp_path / "run"
    folder.mkdir()
    save_file(
        {"w": torch.arange(6.0).reshape(2, 3)}, folder / "m.safetensors", {"method": "muda()"}
    )
    split = manifest_of(["ann", "bob"], ["cec", "dan"])
    write_text(folder / "m.split.json", manifest_text(split))
    write(sealed_run(folder, split.digest), folder / "m.json")
    return folder


def sealed_run(folder: Path, split: str) -> Any:
    record = made("m", kind="unlearn", role=None, scores=())
    outputs = {
        "model": weights_digest(folder / "m.safetensors"),
        "file:m.safetensors": file_digest(folder / "m.safetensors"),
    }
    inputs = {"split": split, "file:m.split.json": file_digest(folder / "m.split.json")}
    return seal(replace(record, inputs=inputs, outcome=replace(record.outcome, outputs=outputs)))


def errors(result: Any) -> list[tuple[str, str]]:
    return [(Path(f.where).name, f.what) for f in result.findings if f.status == "error"]


def test_files_and_split_are_checked_wherever_they_stand(run_folder: Path, tmp_path: Path) -> None:
    assert [f.status for f in verify([run_folder / "m.json"], Options(strict=True)).findings] == [
        "ok"
    ] * 5
    away = tmp_path / "archive" / "deep"
    shutil.copytree(run_folder, away)
    for name in ("m.safetensors", "m.split.json"):
        (run_folder / name).unlink()
    alone = verify([run_folder / "m.json"])
    assert alone.status == 0 and {f.status for f in alone.findings[1:]} == {"not checked"}
    assert verify([run_folder / "m.json"], Options(strict=True)).status == 2
    assert (
        verify([run_folder / "m.json"], Options((tmp_path / "archive",), strict=True)).status == 0
    )
    assert "not a folder" in refusal(verify, [run_folder / "m.json"], Options((tmp_path / "none",)))


def test_a_split_of_other_ids_is_an_error_even_where_its_file_is_the_named_one(
    run_folder: Path,
) -> None:
    write(
        sealed_run(run_folder, manifest_of(["ann"], ["bob"]).digest),
        run_folder / "m.json",
        overwrite=True,
    )
    assert [(name, what[:30]) for name, what in errors(verify([run_folder / "m.json"]))] == [
        ("m.split.json", "its ids have the split digest ")
    ]


def test_other_weights_under_the_named_file_and_another_header_are_told_apart(
    run_folder: Path,
) -> None:
    save_file(
        {"w": torch.arange(6.0).reshape(2, 3)},
        run_folder / "m.safetensors",
        {"method": "retrain()"},
    )
    [(name, what)] = errors(verify([run_folder / "m.json"]))
    assert name == "m.safetensors" and what.endswith(
        "its weights are those of the record, its header is not"
    )
    save_file(
        {"w": torch.arange(6.0).reshape(3, 2)}, run_folder / "m.safetensors", {"method": "muda()"}
    )
    [(name, what)] = errors(verify([run_folder / "m.json"]))
    assert name == "m.safetensors" and what.endswith("its weights are not those of the record")


def test_a_record_names_plain_files_only(tmp_path: Path) -> None:
    for name in ("../m.safetensors", "a/b", "..", ""):
        write(
            seal(made(inputs={f"file:{name}": "sha256:" + "a" * 64})),
            tmp_path / "r.json",
            overwrite=True,
        )
        [(_, what)] = errors(verify([tmp_path / "r.json"]))
        assert what == f"names the file {name!r}, which is not a plain name"


def test_the_checkpoint_of_an_evaluation_is_looked_for_in_the_given_folders_only(
    tmp_path: Path,
) -> None:
    save_file({"w": torch.ones(2)}, tmp_path / "m.safetensors")
    inputs = {"checked_model": weights_digest(tmp_path / "m.safetensors")}
    for number, name in enumerate(("../../m.safetensors", str(tmp_path / "m.safetensors"))):
        path = tmp_path / "in" / "records" / f"{number}.json"
        write(seal(made(inputs=inputs, job={"checkpoint": name})), path)
        assert errors(verify([path])) == [
            (path.name, f"names the file {name!r}, which is not a plain name")
        ]


def test_a_list_of_ids_may_be_given_beside_records(run_folder: Path) -> None:
    result = verify(sorted(run_folder.glob("*.json")), Options(strict=True))
    assert result.status == 0 and "2 to forget and 2 to retain" in result.findings[-1].what
    text = (run_folder / "m.split.json").read_text()
    (run_folder / "m.split.json").write_text(text.replace("ann", "amy"))
    assert (
        "m.split.json",
        "its ids do not have the digest that is written in it (changed after writing)",
    ) in errors(verify([run_folder / "m.split.json"]))


def test_the_tip_tells_records_that_were_taken_off_the_end(tmp_path: Path) -> None:
    sealed = chain(tmp_path, [made(f"m{i}") for i in range(3)])
    whole = verify([tmp_path])
    assert whole.tips == {str(tmp_path): sealed[2].digest}
    assert (
        verify([tmp_path], Options(expect_tip=str(sealed[1].digest)))
        .findings[4]
        .what.endswith("is in the chain, 1 record before its end")
    )
    (tmp_path / "2.json").unlink()
    cut = verify([tmp_path], Options(expect_tip=str(sealed[2].digest)))
    assert (
        verify([tmp_path]).status == 0
        and cut.status == 2
        and "taken off the end" in errors(cut)[0][1]
    )
    assert "sha256:<64 hex digits>" in refusal(verify, [tmp_path], Options(expect_tip="abc"))
    for paths in ([tmp_path, tmp_path], [tmp_path / "0.json"]):
        assert "one folder" in refusal(verify, paths, Options(expect_tip=str(sealed[0].digest)))


def test_evaluations_of_one_name_on_two_splits_stand_in_one_chain(tmp_path: Path) -> None:
    a, b = ({"split": "sha256:" + c * 64} for c in "ab")
    chain(tmp_path / "two", [made("m", inputs=a), made("m", inputs=b)])
    assert verify([tmp_path / "two"]).status == 0
    chain(
        tmp_path / "same",
        [made("m", inputs=a), made("m", inputs=a, created="2026-11-24T14:00:00Z")],
    )
    [(name, what)] = errors(verify([tmp_path / "same"]))
    assert name == "1.json" and what.startswith("evaluates 'm' as")


def test_json_holds_every_finding(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sealed = chain(tmp_path, [made("m0"), made("m1")])
    assert verify_main([str(tmp_path), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["tips"] == {str(tmp_path): sealed[1].digest} and told["status"] == 0
    assert [VerifyFinding(**row) for row in told["findings"]] == verify([tmp_path]).findings
    (tmp_path / "0.json").write_bytes(b"{")
    assert verify_main([str(tmp_path), "--json"]) == 2
    told = json.loads(capsys.readouterr().out)
    assert (
        told["status"] == 2
        and {
            "status": "error",
            "where": str(tmp_path / "0.json"),
            "what": "not a whole JSON text (truncated or damaged)",
        }
        in told["findings"]
    )


def test_a_copy_of_the_folder_alone_checks_chain_files_and_split(
    run_folder: Path, tmp_path: Path
) -> None:
    home = tmp_path / "empty"
    home.mkdir()
    shutil.copytree(
        Path(eigenforget.__file__).parent / "record",
        home / "record",
        ignore=shutil.ignore_patterns("__pycache__"),
    )

    def alone(*args: object) -> subprocess.CompletedProcess[str]:
        # -S: no site-packages; -E and -s: no other folder of modules.
        return subprocess.run(
            [sys.executable, "-S", "-E", "-s", *map(str, args)],
            cwd=home,
            capture_output=True,
            text=True,
            check=False,
        )

    for name in ("torch", "cryptography", "eigenforget"):
        assert "No module named" in alone("-c", f"import {name}").stderr
    good = alone("-m", "record.verify", run_folder, "--strict")
    assert (good.returncode, good.stderr) == (0, "") and [
        line[:4] for line in good.stdout.splitlines()
    ] == ["ok  "] * 6 + ["veri"]
    blob = bytearray((run_folder / "m.safetensors").read_bytes())
    blob[-1] ^= 1
    (run_folder / "m.safetensors").write_bytes(blob)
    bad = alone("-m", "record.verify", run_folder)
    assert (
        bad.returncode == 2
        and bad.stderr.startswith(f"error: {run_folder / 'm.safetensors'}: ")
        and bad.stderr.count("\n") == 1
    )


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Runs this Python with arguments where nothing outside the standard library can be imported."""
    start = tmp_path_factory.mktemp("start")
    (start / "sitecustomize.py").write_text(_ONLY_STDLIB)
    source = Path(eigenforget.__file__).parents[1]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(start), str(source)])}

    def run(*args: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *map(str, args)], env=env, capture_output=True, text=True, check=False
        )

    return run


@pytest.mark.parametrize("name", ["torch", "numpy", "pydantic", "rich"])
def test_the_bare_python_is_bare(bare: Any, name: str) -> None:
    assert f"{name} is blocked" in bare("-c", f"import {name}").stderr


def test_verify_needs_the_standard_library_only_and_tells_good_from_bad(
    bare: Any, tmp_path: Path
) -> None:
    sealed = chain(
        tmp_path, [made("m0", kind="train", role=None), made("m1")], ["b.json", "a.json"]
    )
    good = bare("-m", "eigenforget.record.verify", tmp_path)
    assert (good.returncode, good.stderr) == (0, "")
    assert good.stdout.splitlines() == [
        f"ok  {tmp_path / 'b.json'}  train  'm0'  ok  {sealed[0].digest}",
        f"ok  {tmp_path / 'a.json'}  evaluate unlearned  'm1'  ok  {sealed[1].digest}",
        f"ok  {tmp_path}  a chain of 2 records; its tip is {sealed[1].digest}",
        *(
            f"not checked  {tmp_path / name}  model {B}: no checkpoint here has these weights; if it was kept, name its folder with --files"
            for name in ("b.json", "a.json")
        ),
        "verified: 3 ok, 2 not checked, 0 with an error",
    ]
    (tmp_path / "b.json").write_bytes((tmp_path / "b.json").read_bytes().replace(b"5.5", b"5.4"))
    bad = bare("-m", "eigenforget.record.verify", tmp_path, tmp_path / "absent.json")
    assert bad.returncode == 2 and "b.json" not in bad.stdout
    assert bad.stdout.splitlines()[-1] == "not verified: 1 ok, 1 not checked, 2 with an error"
    first, second = bad.stderr.splitlines()
    assert first.startswith(f"error: {tmp_path / 'b.json'}: ") and second.startswith(
        f"error: {tmp_path / 'absent.json'}: "
    )


def test_verify_judges_a_folder_as_a_chain_and_a_file_alone(bare: Any, tmp_path: Path) -> None:
    chain(tmp_path, [made("m0"), made("m1")])
    (tmp_path / "0.json").unlink()
    whole = bare("-m", "eigenforget.record.verify", tmp_path)
    assert whole.returncode == 2 and whole.stderr.count("\n") == 1 and "is missing" in whole.stderr
    assert bare("-m", "eigenforget.record.verify", tmp_path / "1.json").returncode == 0
    assert bare("-m", "eigenforget.record.verify").returncode == 2
