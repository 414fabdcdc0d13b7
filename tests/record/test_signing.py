"""Signatures beside records: checked by hand against the package cryptography, every kind of
forgery, keys that cannot be used.
"""

from __future__ import annotations

import base64
import builtins
import json
import stat
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from eigenforget.record import (
    canonical,
    make_salt,
    manifest_of,
    manifest_text,
    read,
    seal,
    write,
    write_text,
)
from eigenforget.record.signing import (
    PASSPHRASE,
    fingerprint,
    make_key,
    read_public_key,
    read_signature,
    sign_all,
)
from eigenforget.record.verify import Options, verify
from tests.record.toys import chain, made, refusal


@pytest.fixture(autouse=True)
def no_passphrase(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(PASSPHRASE, raising=False)


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """mine.pem, other.pem and their public keys."""
    folder = tmp_path_factory.mktemp("keys")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv(PASSPHRASE, raising=False)
        for name in ("mine", "other"):
            make_key(folder / f"{name}.pem")
    return folder


@pytest.fixture
def signed(keys: Path, tmp_path: Path) -> Path:
    """A folder with two signed records."""
    chain(tmp_path / "records", [made("m0"), made("m1")])
    sign_all([tmp_path / "records"], keys / "mine.pem")
    return tmp_path / "records"


def errors(folder: Path, public: Path | None = None) -> list[str]:
    return [
        f"{Path(f.where).name}: {f.what}"
        for f in verify([folder], Options(public_key=public)).findings
        if f.status == "error"
    ]


def test_a_signature_is_ed25519_over_schema_and_digest(signed: Path, keys: Path) -> None:
    value = json.loads((signed / "0.json.sig").read_bytes())
    record = json.loads((signed / "0.json").read_bytes())
    assert value["algorithm"] == "ed25519" and value["digest"] == record["digest"]
    public = serialization.load_pem_public_key((keys / "mine.pub.pem").read_bytes())
    assert isinstance(public, ed25519.Ed25519PublicKey)
    public.verify(
        base64.b64decode(value["signature"]), f"eigenforget.record/1 {record['digest']}".encode()
    )
    assert (
        base64.b64decode(value["public_key"])
        == public.public_bytes_raw()
        == read_public_key(keys / "mine.pub.pem")
    )


def test_good_signatures_are_told_with_the_key(signed: Path, keys: Path) -> None:
    own = fingerprint(read_public_key(keys / "mine.pub.pem"))
    for public, words in (
        (keys / "mine.pub.pem", "the given key"),
        (None, "say whose it must be with --public-key"),
    ):
        found = [
            f
            for f in verify([signed], Options(public_key=public)).findings
            if f.where.endswith(".sig")
        ]
        assert [f.status for f in found] == ["ok", "ok"] and all(
            own in f.what and words in f.what for f in found
        )


def change(path: Path, **fields: Any) -> None:
    path.write_text(canonical({**json.loads(path.read_bytes()), **fields}) + "\n", encoding="utf-8")


def test_forgeries_are_errors(signed: Path, keys: Path) -> None:
    path, mine = signed / "0.json.sig", keys / "mine.pub.pem"
    whole = path.read_bytes()
    assert errors(signed, mine) == []
    zeros = {n: base64.b64encode(bytes(n)).decode() for n in (32, 64)}
    cases: list[tuple[dict[str, Any], str]] = [
        ({"signature": zeros[64]}, "the signature is not valid for this record and key"),
        ({"digest": read(signed / "1.json").digest}, "signs another record, "),
        (
            {"signature": json.loads((signed / "1.json.sig").read_bytes())["signature"]},
            "the signature is not valid for this record and key",
        ),
        ({"public_key": zeros[32]}, "signed with another key, "),
        ({"public_key": zeros[64]}, "public_key must be 32 bytes in base64"),
        ({"signature": "?"}, "signature must be 64 bytes in base64"),
        ({"signature": 3}, "signature must be 64 bytes in base64"),
        ({"algorithm": "none"}, "algorithm must be one of ed25519, got 'none'"),
        ({"schema": "eigenforget.signature/2"}, "schema must be one of eigenforget.signature/1"),
        ({"extra": 1}, "signature: unknown field 'extra'"),
    ]
    for fields, words in cases:
        path.write_bytes(whole)
        change(path, **fields)
        [found] = errors(signed, mine)
        assert found.startswith(f"0.json.sig: {words}"), found
    sign_all([signed / "0.json"], keys / "other.pem", overwrite=True)
    assert (
        errors(signed, mine)[0].startswith("0.json.sig: signed with another key")
        and errors(signed) == []
    )
    path.unlink()
    assert (
        errors(signed, mine) == ["0.json: is not signed: there is no 0.json.sig"]
        and errors(signed) == []
    )


def test_a_record_that_is_sealed_anew_loses_its_signature(signed: Path, keys: Path) -> None:
    """The last record of a chain has no successor that would notice."""
    last = read(signed / "1.json")
    write(
        seal(made("m1", claims=("Nothing is left.",)), last.previous),
        signed / "1.json",
        overwrite=True,
    )
    assert [line[:31] for line in errors(signed)] == ["1.json.sig: signs another recor"]
    assert errors(signed, keys / "mine.pub.pem")


def test_nothing_is_signed_unless_all_can_be(signed: Path, keys: Path, tmp_path: Path) -> None:
    for path in signed.glob("*.sig"):
        path.unlink()
    whole = (signed / "1.json").read_bytes()
    (signed / "1.json").write_bytes(whole.replace(b"5.5", b"5.4"))
    assert "changed after sealing" in refusal(
        sign_all, [signed / "0.json", signed / "1.json"], keys / "mine.pem"
    )
    (signed / "1.json").write_bytes(whole)
    (signed / "0.json").rename(tmp_path / "0.json")
    assert "is missing" in refusal(sign_all, [signed], keys / "mine.pem")
    (tmp_path / "0.json").rename(signed / "0.json")
    (signed / "1.json.sig").write_text("mine")
    assert "use --overwrite to sign again" in refusal(sign_all, [signed], keys / "mine.pem")
    assert [p.name for p in signed.glob("*.sig")] == ["1.json.sig"]
    write_text(signed / "split.json", manifest_text(manifest_of(["a"], ["b"])))
    made_files = sign_all(sorted(signed.glob("*.json")), keys / "mine.pem", overwrite=True)
    assert [p.name for p in made_files] == ["0.json.sig", "1.json.sig"] and errors(
        signed, keys / "mine.pub.pem"
    ) == []


def test_keys_are_private_and_never_replaced(tmp_path: Path) -> None:
    private, public = make_key(tmp_path / "k.pem")
    assert (private, public) == (
        tmp_path / "k.pem",
        tmp_path / "k.pub.pem",
    ) and b"ENCRYPTED" not in private.read_bytes()
    assert (
        stat.S_IMODE(private.stat().st_mode)
        == stat.S_IMODE(make_salt(tmp_path / "salt").stat().st_mode)
        == 0o600
    )
    before = private.read_bytes(), public.read_bytes()
    assert "never replaced" in refusal(make_key, private)
    private.rename(tmp_path / "other.pem")
    assert "k.pub.pem exists" in refusal(make_key, private) and not private.exists()
    assert ((tmp_path / "other.pem").read_bytes(), public.read_bytes()) == before
    assert ".pem file" in refusal(
        make_key, tmp_path / "key.txt"
    ) and "is a file; name a folder" in refusal(make_key, private.parent / "other.pem" / "k.pem")


def test_a_key_with_a_passphrase_needs_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(seal(made()), tmp_path / "r.json")
    monkeypatch.setenv(PASSPHRASE, "très secret")
    private, public = make_key(tmp_path / "k.pem")
    assert b"ENCRYPTED" in private.read_bytes()
    serialization.load_pem_private_key(private.read_bytes(), "très secret".encode())
    for word in ("wrong", ""):
        monkeypatch.setenv(PASSPHRASE, word)
        assert refusal(sign_all, [path], private).endswith(
            f"its passphrase is read from {PASSPHRASE}"
        )
    monkeypatch.setenv(PASSPHRASE, "très secret")
    sign_all([path], private)
    assert verify([path], Options(public_key=public)).status == 0
    plain, _ = make_plain(tmp_path, monkeypatch)
    monkeypatch.setenv(PASSPHRASE, "not needed")
    sign_all([path], plain, overwrite=True)


def make_plain(folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    monkeypatch.delenv(PASSPHRASE)
    return make_key(folder / "plain.pem")


def test_other_files_and_other_kinds_of_keys_are_refused(tmp_path: Path) -> None:
    path = write(seal(made()), tmp_path / "r.json")
    other = ec.generate_private_key(ec.SECP256R1())
    pkcs8, none = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    (tmp_path / "ec.pem").write_bytes(other.private_bytes(serialization.Encoding.PEM, pkcs8, none))
    spki = serialization.PublicFormat.SubjectPublicKeyInfo
    (tmp_path / "ec.pub.pem").write_bytes(
        other.public_key().public_bytes(serialization.Encoding.PEM, spki)
    )
    (tmp_path / "text.pem").write_text("not a key")
    assert "not an Ed25519 private key" in refusal(sign_all, [path], tmp_path / "ec.pem")
    assert "not a private key" in refusal(sign_all, [path], tmp_path / "text.pem")
    assert "cannot be read" in refusal(sign_all, [path], tmp_path / "none.pem")
    for name in ("ec.pub.pem", "text.pem"):
        assert "not an Ed25519 public key" in refusal(
            verify, [path], Options(public_key=tmp_path / name)
        )
    assert "cannot be read" in refusal(read_public_key, tmp_path / "none.pem")
    assert not (tmp_path / "r.json.sig").exists() and "cannot be read" in refusal(
        read_signature, tmp_path / "r.json.sig"
    )


def test_without_cryptography_signatures_are_not_checked_and_never_passed(
    signed: Path, keys: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__

    def blocked(name: str, *args: Any) -> Any:
        if name.split(".")[0] == "cryptography":
            raise ImportError(name)
        return real(name, *args)

    monkeypatch.setattr(builtins, "__import__", blocked)
    found = [f for f in verify([signed]).findings if f.where.endswith(".sig")]
    assert [f.status for f in found] == ["not checked"] * 2 and "eigenforget[sign]" in found[0].what
    assert verify([signed], Options(strict=True)).status == 2
    for call in (
        lambda: verify([signed], Options(public_key=keys / "mine.pub.pem")),
        lambda: make_key(signed / "k.pem"),
    ):
        assert "pip install 'eigenforget[sign]'" in refusal(call)
    change(signed / "0.json.sig", digest="sha256:" + "0" * 64)
    assert errors(signed) == ["0.json.sig: signs another record, sha256:000000000000…"]
