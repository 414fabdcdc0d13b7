"""Ed25519 signatures beside records: RECORD.json.sig.

This is the only module here that needs a package from outside, and only when it is used.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from . import fields
from .canonical import RecordError, canonical
from .files import check_place, fill_secret, write_text
from .manifest import is_manifest
from .reading import check_canonical, read_bytes, read_json
from .schema import SCHEMA, RunRecord
from .store import read, read_folder, record_files
from .transactions import transaction

SIGNATURE_SCHEMA = "eigenforget.signature/1"
PASSPHRASE = "EIGENFORGET_KEY_PASSPHRASE"
"""Environment variable with the passphrase of a private key; not set or empty: the key has none."""
_ALGORITHM = "ed25519"
_MOST_BYTES = 1 << 16
"""Of a signature or a key."""
_FIELDS = ("schema", "algorithm", "public_key", "digest", "signature")


class NoCryptographyError(RecordError):
    """The package that knows Ed25519 is not installed."""


class Signature(NamedTuple):
    """The content of a .sig file.

    Args:
        public_key: The raw public key, 32 bytes.
        digest: The digest of the record.
        signature: 64 bytes.
    """

    public_key: bytes
    digest: str
    signature: bytes


def make_key(path: str | Path) -> tuple[Path, Path]:
    """Makes a private key X.pem (PKCS 8, mode 0600) and its public key X.pub.pem beside it.

    Raises:
        RecordError: One of them exists.
    """
    path = Path(path)
    ed25519, serialization = _cryptography()
    if path.suffix != ".pem":
        raise RecordError(f"a key is kept in a .pem file, got {str(path)!r}")
    public = path.with_suffix(".pub.pem")
    for file in (path, public):
        if os.path.lexists(file):
            raise RecordError(f"{file} exists; a key is never replaced")
        check_place(file, overwrite=False)
    key, word = ed25519.Ed25519PrivateKey.generate(), _passphrase()
    lock = serialization.BestAvailableEncryption(word) if word else serialization.NoEncryption()
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, lock)
    spelled = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    with transaction(overwrite=False) as step:
        fill_secret(step.draft(path), private)
        step.draft(public).write_bytes(spelled)
    return path, public


def sign_all(
    paths: Iterable[str | Path], key_path: str | Path, *, overwrite: bool = False
) -> list[Path]:
    """Writes RECORD.json.sig beside each of these records, and of those in these folders.

    Lists of ids among the files are skipped: a record names their digests.

    Returns:
        The paths of the signatures.

    Raises:
        RecordError: Before anything is written: a record was changed, the chain of a folder is
            broken, a signature exists, or the key cannot be used.
    """
    key = _private_key(Path(key_path))
    stored: dict[Path, RunRecord] = {}
    for path in map(Path, paths):
        if path.is_dir():
            read_folder(path)
        stored |= {
            file: read(file)
            for file in (record_files(path) if path.is_dir() else [path])
            if not is_manifest(file)
        }
    taken = [signature_path(path) for path in stored if signature_path(path).exists()]
    if taken and not overwrite:
        raise RecordError(f"{taken[0]}: exists already; use --overwrite to sign again")
    with transaction(overwrite=overwrite) as step:
        for path, record in stored.items():
            text = _signature_of(record, key)
            write_text(step.draft(signature_path(path)), text)
    return [signature_path(path) for path in stored]


def _signature_of(record: RunRecord, key: Any) -> str:
    _, serialization = _cryptography()
    public = key.public_key().public_bytes(
        serialization.Encoding.Raw, serialization.PublicFormat.Raw
    )
    value = {
        "schema": SIGNATURE_SCHEMA,
        "algorithm": _ALGORITHM,
        "public_key": base64.b64encode(public).decode(),
        "digest": record.digest,
        "signature": base64.b64encode(key.sign(message(str(record.digest)))).decode(),
    }
    return canonical(value) + "\n"


def message(digest: str) -> bytes:
    """What is signed.

    The name of the schema in front keeps it from being read as a signature over anything else.
    """
    return f"{SCHEMA} {digest}".encode("ascii")


def signature_path(record_path: str | Path) -> Path:
    """Where the signature of a record is."""
    return Path(f"{record_path}.sig")


def read_signature(path: str | Path) -> Signature:
    """The content of a signature file, not yet checked.

    Raises:
        RecordError: The file is none, or was changed; the message names it.
    """
    path = Path(path)
    value, content = read_json(path, _MOST_BYTES)
    try:
        raw = fields.obj(value, "signature", _FIELDS)
        fields.choice(raw["schema"], "schema", (SIGNATURE_SCHEMA,))
        fields.choice(raw["algorithm"], "algorithm", (_ALGORITHM,))
        digest = fields.sha256(raw["digest"], "digest")
        found = Signature(
            _bytes(raw["public_key"], "public_key", 32),
            digest,
            _bytes(raw["signature"], "signature", 64),
        )
        written = canonical(value) + "\n"
    except RecordError as error:
        raise RecordError(f"{path}: {error}") from None
    check_canonical(path, content, written)
    return found


def check_signature(record: RunRecord, path: Path, public_key: bytes | None = None) -> str:
    """Who signed the record, in one line.

    Args:
        record: The record.
        path: The signature file.
        public_key: The only key that will do; None for any.

    Raises:
        RecordError: The file was changed, is of another record or by another key, or is not valid.
        NoCryptographyError: The package cryptography is not installed.
    """
    found = read_signature(path)
    if found.digest != record.digest:
        raise RecordError(f"{path}: signs another record, {found.digest[:19]}…")
    if public_key is not None and found.public_key != public_key:
        raise RecordError(
            f"{path}: signed with another key, {fingerprint(found.public_key)}, and not "
            f"{fingerprint(public_key)}"
        )
    ed25519, _ = _cryptography()
    from cryptography.exceptions import InvalidSignature

    try:
        ed25519.Ed25519PublicKey.from_public_bytes(found.public_key).verify(
            found.signature, message(found.digest)
        )
    except (InvalidSignature, ValueError):
        raise RecordError(f"{path}: the signature is not valid for this record and key") from None
    whose = (
        "the given key"
        if public_key is not None
        else "the key in the file; say whose it must be with --public-key"
    )
    return f"signed by {fingerprint(found.public_key)} ({whose})"


def read_public_key(path: str | Path) -> bytes:
    """The raw public key (32 bytes) in a PEM file.

    Raises:
        RecordError: The file holds no Ed25519 public key.
        NoCryptographyError: The package cryptography is not installed.
    """
    ed25519, serialization = _cryptography()
    content = read_bytes(path, _MOST_BYTES)
    try:
        key = serialization.load_pem_public_key(content)
    except ValueError:
        key = None
    if not isinstance(key, ed25519.Ed25519PublicKey):
        raise RecordError(
            f"{path}: not an Ed25519 public key in PEM; eigenforget keygen writes one"
        )
    raw: bytes = key.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    return raw


def fingerprint(public_key: bytes) -> str:
    """A short name of a key: the first 16 hex digits of the SHA-256 of its 32 bytes."""
    return f"key {hashlib.sha256(public_key).hexdigest()[:16]}"


def _private_key(path: Path) -> Any:
    ed25519, serialization = _cryptography()
    word = _passphrase()
    content = read_bytes(path, _MOST_BYTES)
    try:
        key = serialization.load_pem_private_key(
            content, None if b"ENCRYPTED" not in content else word
        )
    except (ValueError, TypeError):
        hint = f"; its passphrase is read from {PASSPHRASE}" if b"ENCRYPTED" in content else ""
        raise RecordError(f"{path}: not a private key that can be read{hint}") from None
    if not isinstance(key, ed25519.Ed25519PrivateKey):
        raise RecordError(f"{path}: not an Ed25519 private key; eigenforget keygen makes one")
    return key


def _passphrase() -> bytes | None:
    return os.environ.get(PASSPHRASE, "").encode() or None


def _bytes(value: Any, where: str, length: int) -> bytes:
    try:
        found = base64.b64decode(fields.text(value, where), validate=True)
    except (binascii.Error, ValueError):
        found = b""
    if len(found) != length or base64.b64encode(found).decode() != value:
        raise RecordError(f"{where} must be {length} bytes in base64")
    return found


def _cryptography() -> tuple[Any, Any]:
    try:
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ed25519
    except ImportError:
        raise NoCryptographyError(
            "signatures need the package cryptography: pip install 'eigenforget[sign]'"
        ) from None
    return ed25519, serialization
