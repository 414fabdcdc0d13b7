"""`eigenforget sign`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.round_toys import refused_in_one_line, run, status, train


def test_overwriting_leaves_no_split_and_no_signature_of_what_was_replaced(copied: Path) -> None:
    run("keygen", copied / "key.pem")
    run("sign", copied / "oracle.json", "--key", copied / "key.pem")
    train(copied, "oracle", "--overwrite")
    assert not (copied / "oracle.split.json").exists() and not (copied / "oracle.json.sig").exists()
    assert status("verify", copied / "oracle.json", "--strict") == 0


def test_keys_signatures_and_their_check(
    copied: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("EIGENFORGET_KEY_PASSPHRASE", raising=False)
    run("keygen", copied / "key.pem")
    capsys.readouterr()
    run("sign", copied / "gone.json", copied / "results" / "records", "--key", copied / "key.pem")
    assert capsys.readouterr().out == "signed 4 records\n"
    verify = (
        "verify",
        copied / "gone.json",
        copied / "results" / "records",
        "--files",
        copied,
        "--public-key",
        copied / "key.pub.pem",
        "--strict",
    )
    assert status(*verify) == 0
    assert status("sign", copied / "gone.json", "--key", copied / "key.pem") == 2
    run("sign", copied / "gone.json", "--key", copied / "key.pem", "--overwrite")
    (copied / "results" / "records" / "01-oracle-1.json.sig").unlink()
    capsys.readouterr()
    assert status(*verify) == 2
    assert capsys.readouterr().err == (
        f"error: {copied / 'results' / 'records' / '01-oracle-1.json'}: is not signed: "
        "there is no 01-oracle-1.json.sig\n"
    )


BAD = {
    "sign nothing": (["sign", "--key", "k.pem"], "needs RECORDS"),
    "sign without a key": (["sign", "r.json"], "--key"),
    "sign with no such key": (["sign", "r.json", "--key", "k.pem"], "k.pem: cannot be read"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_and_exit_2(
    case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    refused_in_one_line(*BAD[case], tmp_path, capsys, monkeypatch)
