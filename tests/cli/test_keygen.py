"""`eigenforget keygen`."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.cli.round_toys import refused_in_one_line, run


def test_new_key_and_salt_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("EIGENFORGET_KEY_PASSPHRASE", raising=False)
    run("keygen", tmp_path / "key.pem", "--salt", tmp_path / "salt")
    told = capsys.readouterr().out
    assert f"wrote {tmp_path / 'salt'}" in told and re.search(
        r"key\.pem \(keep it secret\) and \S*key\.pub\.pem: key [0-9a-f]{16}\n", told
    )


BAD = {
    "keygen nothing": (["keygen"], "keygen needs the PATH.pem of a new key, or --salt PATH"),
    "keygen other name": (["keygen", "key"], "a key is kept in a .pem file, got 'key'"),
    "keygen salt first": (["keygen", "key", "--salt", "salt"], "a key is kept in a .pem file"),
    "keygen salt over key": (["keygen", "a.pem", "--salt", "a.pub.pem"], "a file of the key"),
    "keygen no name": (["keygen", "", "--salt", "salt"], "a key is kept in a .pem file"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_and_exit_2(
    case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    refused_in_one_line(*BAD[case], tmp_path, capsys, monkeypatch)
