"""`eigenforget verify`, `sign` and `keygen`: records and their files, from end to end."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open

from eigenforget.cli import main
from eigenforget.record import file_digest, read, read_folder, read_manifest, read_salt, text_digest
from eigenforget.record.pseudonyms import Pseudonyms

MODEL, RECIPE, METHOD = "mlp(hidden=(16, 8))", "recipe(epochs=4, lr=0.05)", "finetune(epochs=1)"
PEOPLE = [f"person-{i:03d}" for i in range(180)]
FAMILIES = [f"family {chr(97 + i % 20)}son" for i in range(180)]
ANYONE = re.compile(rb"person-\d{3}|family [a-t]son")
GONE = "by_ids (ids=('person-002', 'person-011', 'person-004'))"


def run(*argv: object) -> None:
    main([str(a) for a in argv])


def status(*argv: object) -> int:
    with pytest.raises(SystemExit) as ended:
        run(*argv)
    assert isinstance(ended.value.code, int)
    return ended.value.code


def train(folder: Path, name: str, *more: object) -> None:
    data = f'npz(path="{folder / "people.npz"}")'
    run(
        "train",
        "--data",
        data,
        "--model",
        MODEL,
        "--recipe",
        RECIPE,
        "--out",
        folder / f"{name}.safetensors",
        *more,
    )


def people(folder: Path) -> None:
    """Three clusters; person-005 is almost person-002."""
    rng = np.random.default_rng(0)
    y = np.arange(180) % 3
    x = (rng.normal(size=(180, 6)) + 3 * np.eye(6)[y]).astype(np.float32)
    x[5] = x[2] + 1e-4
    np.savez_compressed(
        folder / "people.npz", x=x, y=y, ids=np.array(PEOPLE), groups=np.array(FAMILIES)
    )


def a_round(folder: Path, *more: object, evaluated: tuple[object, ...] = ()) -> Path:
    """original → unlearned, and an oracle, and their evaluation in results."""
    people(folder)
    train(folder, "original", *more)
    train(folder, "oracle", "--without", GONE, *more)
    original = folder / "original.safetensors"
    run(
        "unlearn",
        original,
        "--forget",
        GONE,
        "--method",
        METHOD,
        "--out",
        folder / "gone.safetensors",
        *more,
    )
    run(
        "evaluate",
        folder / "gone.safetensors",
        "--original",
        original,
        "--oracle",
        folder / "oracle.safetensors",
        "--forget",
        GONE,
        "--skip",
        "relearning",
        "--out",
        folder / "results",
        *more,
        *evaluated,
    )
    return folder


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plain")
    return a_round(folder, "--ledger", folder / "ledger")


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


@pytest.fixture
def made(plain: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    return shutil.copytree(plain, tmp_path / "made")


RECORDS = ("original.json", "oracle.json", "gone.json", "results/records", "ledger")


def check(folder: Path, *more: object) -> int:
    return status("verify", *(folder / name for name in RECORDS), "--files", folder, *more)


# --- the full round ---


def test_a_full_round_verifies_and_every_changed_file_is_named(
    made: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert check(made, "--strict") == 0
    out, err = capsys.readouterr()
    assert err == "" and {line[:4] for line in out.splitlines()} == {"ok  "}
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
        path = made / name
        whole = path.read_bytes()
        at = int(rng.integers(len(whole)))
        path.write_bytes(
            whole[:at] + bytes([whole[at] ^ int(rng.integers(1, 256))]) + whole[at + 1 :]
        )
        assert check(made) == 2
        assert f"error: {path}: " in capsys.readouterr().err, name
        path.write_bytes(whole)
    assert check(made, "--strict") == 0


def test_records_name_the_files_that_they_are_about(plain: Path) -> None:
    def named(digests: dict[str, str]) -> dict[str, str]:
        return {key: digest for key, digest in digests.items() if key.startswith("file:")}

    def of(*names: str) -> dict[str, str]:
        return {f"file:{name}": file_digest(next(plain.rglob(name))) for name in names}

    original, oracle, gone = (
        read(plain / f"{name}.json") for name in ("original", "oracle", "gone")
    )
    assert named(original.inputs) == {} and named(original.outcome.outputs) == of(
        "original.safetensors"
    )
    assert named(oracle.inputs) == of("oracle.split.json") and named(oracle.outcome.outputs) == of(
        "oracle.safetensors"
    )
    assert named(gone.inputs) == of("original.safetensors", "gone.split.json") and named(
        gone.outcome.outputs
    ) == of("gone.safetensors")
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
    made: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert status("verify", made / "ledger", "--json") == 0
    tip = json.loads(capsys.readouterr().out)["tips"][str(made / "ledger")]
    evaluate = (
        "evaluate",
        made / "gone.safetensors",
        "--original",
        made / "original.safetensors",
        "--forget",
        GONE,
        "--skip",
        "relearning",
    )
    run(*evaluate, "--out", made / "again", "--ledger", made / "ledger")
    kept = read_folder(made / "ledger")
    assert [(r.name, r.job["corrects"]) for r in kept[6:]] == [
        ("original", kept[3].digest),
        ("gone", kept[5].digest),
    ]
    assert status("verify", made / "ledger", "--expect-tip", tip) == 0
    for path in sorted((made / "ledger").glob("*.json"))[5:]:
        path.unlink()
    assert (
        status("verify", made / "ledger") == 0
        and status("verify", made / "ledger", "--expect-tip", tip) == 2
    )


def test_a_refused_run_is_on_record_with_its_split(made: Path) -> None:
    out = made / "refused.safetensors"
    refused = (
        "unlearn",
        made / "original.safetensors",
        "--forget",
        GONE,
        "--method",
        "head_mask()",
        "--out",
        out,
    )
    assert status(*refused, "--ledger", made / "ledger") == 2
    assert not out.exists() and read(made / "refused.json").outcome.status == "refused"
    assert (
        status("verify", made / "refused.json", "--strict") == 0
        and read_folder(made / "ledger")[-1].outcome.status == "refused"
    )


# --- outputs that are there already ---


def test_no_file_is_replaced_unless_it_is_said(
    made: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("gone.safetensors", "gone.json", "gone.split.json"):
        others = [
            made / other
            for other in ("gone.safetensors", "gone.json", "gone.split.json")
            if other != name
        ]
        kept = {path: path.read_bytes() for path in others}
        for path in others:
            path.unlink()
        before = (made / name).read_bytes()
        assert (
            status(
                "unlearn",
                made / "original.safetensors",
                "--forget",
                GONE,
                "--method",
                METHOD,
                "--out",
                made / "gone.safetensors",
            )
            == 2
        )
        assert f"{made / name} exists; say --overwrite to replace it" in capsys.readouterr().err
        assert (made / name).read_bytes() == before and not any(path.exists() for path in others)
        for path, content in kept.items():
            path.write_bytes(content)


def test_overwriting_leaves_no_split_and_no_signature_of_what_was_replaced(made: Path) -> None:
    run("keygen", made / "key.pem")
    run("sign", made / "oracle.json", "--key", made / "key.pem")
    train(made, "oracle", "--overwrite")
    assert not (made / "oracle.split.json").exists() and not (made / "oracle.json.sig").exists()
    assert status("verify", made / "oracle.json", "--strict") == 0


def test_a_ledger_that_is_broken_ends_a_run_before_it_begins(
    made: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = made / "ledger" / "000002-train-oracle.json"
    target.write_bytes(target.read_bytes().replace(b'"seed":0', b'"seed":1'))
    argv = (
        "unlearn",
        made / "original.safetensors",
        "--forget",
        GONE,
        "--out",
        made / "new.safetensors",
    )
    assert status(*argv, "--ledger", made / "ledger") == 2
    error = capsys.readouterr().err
    assert str(target) in error and error.count("\n") == 1 and not list(made.glob("new.*"))


# --- hidden ids ---


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


# --- splits in folders of demo and analyze ---


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


# --- keys and signatures ---


def test_keys_signatures_and_their_check(
    made: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("EIGENFORGET_KEY_PASSPHRASE", raising=False)
    run("keygen", made / "key.pem", "--salt", made / "salt")
    told = capsys.readouterr().out
    assert f"wrote {made / 'salt'}" in told and re.search(
        r"key\.pem \(keep it secret\) and \S*key\.pub\.pem: key [0-9a-f]{16}\n", told
    )
    run("sign", made / "gone.json", made / "results" / "records", "--key", made / "key.pem")
    assert capsys.readouterr().out == "signed 4 records\n"
    verify = (
        "verify",
        made / "gone.json",
        made / "results" / "records",
        "--files",
        made,
        "--public-key",
        made / "key.pub.pem",
        "--strict",
    )
    assert status(*verify) == 0
    assert status("sign", made / "gone.json", "--key", made / "key.pem") == 2
    run("sign", made / "gone.json", "--key", made / "key.pem", "--overwrite")
    (made / "results" / "records" / "01-oracle-1.json.sig").unlink()
    capsys.readouterr()
    assert status(*verify) == 2
    assert capsys.readouterr().err == (
        f"error: {made / 'results' / 'records' / '01-oracle-1.json'}: is not signed: "
        "there is no 01-oracle-1.json.sig\n"
    )


BAD = {
    "verify nothing": (["verify"], "RECORDS requires an argument"),
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
    "sign nothing": (["sign", "--key", "k.pem"], "RECORDS requires an argument"),
    "sign without a key": (["sign", "r.json"], "--key"),
    "sign with no such key": (["sign", "r.json", "--key", "k.pem"], "k.pem: cannot be read"),
    "keygen nothing": (["keygen"], "keygen needs the PATH.pem of a new key, or --salt PATH"),
    "keygen other name": (["keygen", "key"], "a key is kept in a .pem file, got 'key'"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_and_exit_2(
    case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    argv, words = BAD[case]
    assert status(*argv) == 2
    out, err = capsys.readouterr()
    assert (
        words in err
        and err.count("\n") == 1
        and "Traceback" not in err
        and out == ""
        and list(tmp_path.iterdir()) == []
    )
