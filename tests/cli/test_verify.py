"""`eigenforget verify`: records and their files, from end to end."""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open

from eigenforget.record import file_digest, read, read_folder, read_manifest, read_salt, text_digest
from eigenforget.record.pseudonyms import Pseudonyms
from eigenforget.record.verify import Options, verify
from tests.cli.round_toys import GONE, METHOD, QUICKLY, a_round, refused_in_one_line, run, status

ANYONE = re.compile(rb"person-\d{3}|family [a-t]son")


@pytest.fixture(scope="module")
def hashed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hashed")
    run("keygen", "--salt", folder / "salt")
    return a_round(
        folder,
        "--hash-ids",
        folder / "salt",
        "--ledger",
        folder / "ledger",
        evaluated=("--map", "tsne"),
    )


RECORDS = ("original.json", "oracle.json", "gone.json", "results/records", "ledger")


def check(folder: Path, *more: object) -> int:
    return status("verify", *(folder / name for name in RECORDS), "--files", folder, *more)


def test_a_full_round_verifies_and_every_changed_file_is_named(
    copied: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert check(copied, "--strict") == 0
    out, err = capsys.readouterr()
    *lines, answer = out.splitlines()
    assert err == "" and {line[:4] for line in lines} == {"ok  "}
    assert answer == f"verified: {len(lines)} ok, 0 not checked, 0 with an error"
    names = [
        "original.json",
        "original.safetensors",
        "oracle.safetensors",
        "oracle.split.json",
        "gone.json",
        "gone.safetensors",
        "gone.split.json",
        "results/records/00-original.json",
        "results/records/split.json",
        "ledger/000003-unlearn-gone.json",
    ]
    rng = np.random.default_rng(1)
    for name in names:
        path = copied / name
        whole = path.read_bytes()
        at = int(rng.integers(len(whole)))
        path.write_bytes(
            whole[:at] + bytes([whole[at] ^ int(rng.integers(1, 256))]) + whole[at + 1 :]
        )
        assert check(copied) == 2
        assert f"error: {path}: " in capsys.readouterr().err, name
        path.write_bytes(whole)
    assert check(copied, "--strict") == 0


@pytest.fixture
def signed(copied: Path) -> Path:
    """A round whose records are all signed, with the key."""
    run("keygen", copied / "key.pem")
    run("sign", *(copied / name for name in RECORDS), "--key", copied / "key.pem")
    return copied


def kept_files(folder: Path) -> dict[str, list[Path]]:
    """Records, signatures, checkpoints, splits and hashes of rows of a round, by their endings."""
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.rglob("*")):
        kind = path.name.partition(".")[2]
        if kind in ("json", "json.sig", "safetensors", "split.json", "rows"):
            found.setdefault(kind, []).append(path)
    return found


def wrong(folder: Path, *, strict: bool = False, key: bool = True) -> set[Path]:
    """Files with which something is wrong."""
    public = folder / "key.pub.pem" if key else None
    options = Options((folder,), public_key=public, strict=strict)
    found = verify([folder / name for name in RECORDS], options)
    return {Path(f.where) for f in found.findings if f.status == "error"}


def test_files_that_changed_places_or_stand_for_another_are_found(signed: Path) -> None:
    """No key is needed for that: the records say what each file is."""
    assert wrong(signed, strict=True) == wrong(signed, strict=True, key=False) == set()
    for paths in kept_files(signed).values():
        for one, other in itertools.pairwise(paths):
            first, second = one.read_bytes(), other.read_bytes()
            if first != second:  # the splits of one request are equal
                one.write_bytes(second)
                assert wrong(signed, key=False), f"{other.name} in place of {one.name}"
                other.write_bytes(first)
                assert wrong(signed, key=False), f"{one.name} and {other.name}"
                one.write_bytes(first)
                other.write_bytes(second)


def test_a_file_that_is_gone_is_found(signed: Path) -> None:
    """Records and their signatures as they are; files that a record names, with --strict."""
    for kind, paths in kept_files(signed).items():
        for path in paths:
            whole = path.read_bytes()
            path.unlink()
            listed = kind.startswith("json") and path.name != "split.json"
            assert wrong(signed, strict=not listed), path
            assert wrong(signed, strict=True, key=False) or path.parent == signed, path
            path.write_bytes(whole)


def test_records_name_the_files_that_they_are_about(plain: Path) -> None:
    def named(digests: dict[str, str]) -> dict[str, str]:
        return {key: digest for key, digest in digests.items() if key.startswith("file:")}

    def of(*names: str) -> dict[str, str]:
        return {f"file:{name}": file_digest(next(plain.rglob(name))) for name in names}

    original, oracle, gone = (
        read(plain / f"{name}.json") for name in ("original", "oracle", "gone")
    )
    assert named(original.inputs) == {}
    assert named(oracle.inputs) == of("oracle.split.json")
    assert named(gone.inputs) == of("original.safetensors", "gone.split.json")
    for name, made in {"original": original, "oracle": oracle, "gone": gone}.items():
        assert named(made.outcome.outputs) == of(f"{name}.safetensors", f"{name}.rows")
    for record, name in zip(
        read_folder(plain / "results" / "records"), ("original", "oracle", "gone"), strict=True
    ):
        assert (
            named(record.inputs) == of(f"{name}.safetensors", "split.json")
            and record.job["checkpoint"] == f"{name}.safetensors"
        )
    split = read_manifest(plain / "gone.split.json")
    assert (
        split.digest == gone.inputs["split"]
        and not split.hashed
        and split.forget == ("person-002", "person-004", "person-011")
    )
    assert (plain / "results" / "records" / "split.json").read_bytes() == (
        plain / "gone.split.json"
    ).read_bytes()


def test_every_record_is_in_the_ledger_in_the_order_of_the_work(plain: Path) -> None:
    kept = read_folder(plain / "ledger")
    assert [(r.kind, r.name) for r in kept] == [
        ("train", "original"),
        ("train", "oracle"),
        ("unlearn", "gone"),
        ("evaluate", "original"),
        ("evaluate", "oracle 1"),
        ("evaluate", "gone"),
    ]
    beside = [
        read(plain / f"{name}.json") for name in ("original", "oracle", "gone")
    ] + read_folder(plain / "results" / "records")
    for entry, record in zip(kept, beside, strict=True):
        assert (entry.job, entry.inputs, entry.scores, entry.series) == (
            record.job,
            record.inputs,
            record.scores,
            record.series,
        )


def test_the_noted_tip_is_found_again_and_missed_when_it_is_gone(
    copied: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert status("verify", copied / "ledger", "--json") == 0
    tip = json.loads(capsys.readouterr().out)["tips"][str(copied / "ledger")]
    evaluate = (
        "evaluate",
        copied / "gone.safetensors",
        "--original",
        copied / "original.safetensors",
        "--forget",
        GONE,
        *QUICKLY,
    )
    run(*evaluate, "--out", copied / "again", "--ledger", copied / "ledger")
    kept = read_folder(copied / "ledger")
    assert [(r.name, r.job["corrects"]) for r in kept[6:]] == [
        ("original", kept[3].digest),
        ("gone", kept[5].digest),
    ]
    assert status("verify", copied / "ledger", "--expect-tip", tip) == 0
    for path in sorted((copied / "ledger").glob("*.json"))[5:]:
        path.unlink()
    assert (
        status("verify", copied / "ledger") == 0
        and status("verify", copied / "ledger", "--expect-tip", tip) == 2
    )


def test_a_refused_run_is_on_record_with_its_split(copied: Path) -> None:
    out = copied / "refused.safetensors"
    refused = (
        "unlearn",
        copied / "original.safetensors",
        "--forget",
        GONE,
        "--method",
        "head_mask()",
        "--out",
        out,
    )
    assert status(*refused, "--ledger", copied / "ledger") == 2
    assert not out.exists() and read(copied / "refused.json").outcome.status == "refused"
    assert (
        status("verify", copied / "refused.json", "--strict") == 0
        and read_folder(copied / "ledger")[-1].outcome.status == "refused"
    )


def test_a_refused_run_replaces_no_model(copied: Path) -> None:
    """The model that was there stays whole beside its own record."""
    argv = ("unlearn", copied / "original.safetensors", "--forget", GONE, "--method", "head_mask()")
    names = [f"gone.{ending}" for ending in ("safetensors", "json", "split.json", "rows")]
    before = [(copied / name).read_bytes() for name in names]
    assert status(*argv, "--out", copied / "gone.safetensors", "--overwrite") == 2
    assert [(copied / name).read_bytes() for name in names] == before
    told = copied / "gone.refused.json"
    assert read(told).outcome.status == "refused" and read(told).name == "gone"
    assert status("verify", told, copied / "gone.json", "--strict") == 0


def test_no_file_is_replaced_unless_it_is_said(
    copied: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("gone.safetensors", "gone.json", "gone.split.json"):
        others = [
            copied / other
            for other in ("gone.safetensors", "gone.json", "gone.split.json")
            if other != name
        ]
        kept = {path: path.read_bytes() for path in others}
        for path in others:
            path.unlink()
        before = (copied / name).read_bytes()
        assert (
            status(
                "unlearn",
                copied / "original.safetensors",
                "--forget",
                GONE,
                "--method",
                METHOD,
                "--out",
                copied / "gone.safetensors",
            )
            == 2
        )
        assert (
            f"{copied / name}: exists already; use --overwrite (overwrite=True) to replace it"
            in capsys.readouterr().err
        )
        assert (copied / name).read_bytes() == before and not any(path.exists() for path in others)
        for path, content in kept.items():
            path.write_bytes(content)


def test_a_ledger_that_is_broken_ends_a_run_before_it_begins(
    copied: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = max((copied / "ledger").glob("0*.json"))  # earlier ones are for `verify` to find
    target.write_bytes(target.read_bytes().replace(b'"seed":0', b'"seed":1'))
    argv = (
        "unlearn",
        copied / "original.safetensors",
        "--forget",
        GONE,
        "--out",
        copied / "new.safetensors",
    )
    assert status(*argv, "--ledger", copied / "ledger") == 2
    error = capsys.readouterr().err
    assert str(target) in error and error.count("\n") == 1 and not list(copied.glob("new.*"))


def test_with_hash_ids_no_file_names_anyone(hashed: Path, tmp_path: Path) -> None:
    page = tmp_path / "analysis.html"
    run(
        "analyze",
        "--original",
        hashed / "original.safetensors",
        "--oracle",
        hashed / "oracle.safetensors",
        "--forget",
        GONE,
        "--out",
        page,
        "--hash-ids",
        hashed / "salt",
    )
    files = [
        p
        for folder in (hashed, tmp_path)
        for p in folder.rglob("*")
        if p.is_file() and p.name != "people.npz"
    ]
    assert len(files) > 20
    assert [p.name for p in files if ANYONE.search(p.read_bytes())] == []
    names = Pseudonyms(read_salt(hashed / "salt"))
    gone = sorted(names.of("id", person) for person in ("person-002", "person-004", "person-011"))
    assert (
        list(read_manifest(hashed / "gone.split.json").forget) == gone
        and read_manifest(hashed / "gone.split.json").hashed
    )
    for path in (page, hashed / "results" / "report.html"):
        text = path.read_text(encoding="utf-8")
        assert all(name in text for name in gone), "the request is told by pseudonyms"
    with safe_open(hashed / "gone.safetensors", "pt") as opened:
        assert gone[0] in opened.metadata()["request"]
    pairs = [
        read(path).job["near_duplicates"]["pairs"]
        for path in (hashed / "gone.json", hashed / "results" / "records" / "02-gone.json")
    ]
    assert pairs[0] == pairs[1] and [
        names.of("id", "person-002"),
        names.of("id", "person-005"),
    ] in [pair[:2] for pair in pairs[0]]


def test_hashed_records_verify_as_others_do_and_others_do_name_people(
    hashed: Path, plain: Path
) -> None:
    assert check(hashed, "--strict") == 0
    splits = {read(folder / "gone.json").inputs["split"] for folder in (hashed, plain)}
    assert len(splits) == 2
    names = ("gone.json", "gone.split.json", "gone.safetensors", "results/report.html")
    assert all(ANYONE.search((plain / name).read_bytes()) for name in names)


def test_a_bad_salt_ends_a_run_before_it_begins(
    plain: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "salt").write_text("short")
    for salt, words in (
        (tmp_path / "salt", "written in hex"),
        (tmp_path / "none", "cannot be read"),
    ):
        argv = (
            "--forget",
            GONE,
            "--original",
            plain / "original.safetensors",
            "--out",
            tmp_path / "r",
            "--hash-ids",
            salt,
        )
        assert status("evaluate", *argv) == 2
        assert words in capsys.readouterr().err and not (tmp_path / "r").exists()


def test_analyze_leaves_one_list_of_ids_in_its_folder_and_replaces_it(
    plain: Path, tmp_path: Path
) -> None:
    argv = (
        "analyze",
        "--original",
        plain / "original.safetensors",
        "--oracle",
        plain / "oracle.safetensors",
        "--forget",
        GONE,
    )
    run(*argv, "--out", tmp_path / "a.html")
    folder = tmp_path / "a-records"
    assert status("verify", folder, "--files", plain, "--strict") == 0
    assert (folder / "split.json").read_bytes() == (plain / "gone.split.json").read_bytes()
    run("keygen", tmp_path / "key.pem")
    run("sign", folder, "--key", tmp_path / "key.pem")
    run(*argv, "--out", tmp_path / "a.html", "--overwrite")
    assert sorted(p.name for p in folder.iterdir()) == [
        "00-original.json",
        "01-oracle-1.json",
        "split.json",
    ]
    assert all(
        r.inputs["file:split.json"] == text_digest((folder / "split.json").read_text())
        for r in read_folder(folder)
    )


BAD = {
    "verify nothing": (["verify"], "needs RECORDS"),
    "verify no such": (["verify", "none.json"], "none.json"),
    "no such folder of files": (
        ["verify", "none.json", "--files", "nowhere"],
        "nowhere: not a folder",
    ),
    "no such key": (
        ["verify", "none.json", "--public-key", "none.pem"],
        "none.pem: cannot be read",
    ),
    "tip": (["verify", ".", "--expect-tip", "sha256:12"], "--expect-tip must be a digest"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_and_exit_2(
    case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    refused_in_one_line(*BAD[case], tmp_path, capsys, monkeypatch)
