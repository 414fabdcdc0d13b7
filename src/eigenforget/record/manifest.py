"""The split of a request as a file: the ids of the forget set and of the retain set.

With them the digest of the split can be computed again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from . import fields
from .canonical import RecordError, canonical
from .reading import check_canonical, opened, read_json

SPLIT_SCHEMA = "eigenforget.split/1"
MANIFEST = "split.json"
"""How the names of these files end; they may stand among records."""
_MOST_BYTES = 1 << 30
"""Of a file; that is some fifty million short ids."""
_FIELDS = ("schema", "hashed", "forget", "retain", "digest")
_END = f'"schema":"{SPLIT_SCHEMA}"}}\n'.encode()


class Manifest(NamedTuple):
    """The ids of a split.

    Args:
        forget: Ids of the forget set, sorted.
        retain: Ids of the retain set, sorted.
        digest: Over the ids of both sides.
        hashed: Whether the ids are pseudonyms (see pseudonyms.py).
    """

    forget: tuple[str, ...]
    retain: tuple[str, ...]
    digest: str
    hashed: bool = False


def manifest_of(forget: Iterable[str], retain: Iterable[str], *, hashed: bool = False) -> Manifest:
    """The manifest of these ids.

    Raises:
        RecordError: A side is empty, or an id stands twice.
    """
    forgotten, retained = tuple(sorted(forget)), tuple(sorted(retain))
    if not forgotten or not retained:
        raise RecordError(
            f"a split has ids on both sides, got {len(forgotten)} to forget and {len(retained)} "
            "to retain"
        )
    if len({*forgotten, *retained}) < len(forgotten) + len(retained):
        raise RecordError("an id stands twice in the split")
    return Manifest(forgotten, retained, split_digest(forgotten, retained), hashed)


def split_digest(forget: Iterable[str], retain: Iterable[str]) -> str:
    """The digest "sha256:…" of a split.

    It goes over the sorted rows: id, unit separator, 1 (forget set) or 0 (retain set), newline.
    """
    total = hashlib.sha256()
    try:
        for row in sorted(
            [f"{name}\x1f1" for name in forget] + [f"{name}\x1f0" for name in retain]
        ):
            total.update(row.encode() + b"\n")
    except UnicodeEncodeError:
        raise RecordError("an id is not Unicode text (a lone surrogate)") from None
    return f"sha256:{total.hexdigest()}"


def manifest_text(item: Manifest) -> str:
    """The manifest as it stands in a file: canonical JSON and a newline."""
    value = {
        "schema": SPLIT_SCHEMA,
        "hashed": item.hashed,
        "forget": item.forget,
        "retain": item.retain,
        "digest": item.digest,
    }
    return canonical(value) + "\n"


def read_manifest(path: str | Path) -> Manifest:
    """The manifest in a file.

    Raises:
        RecordError: The file is none, or was changed; the message names it.
    """
    path = Path(path)
    value, content = read_json(path, _MOST_BYTES)
    try:
        told, found = _checked(value)
        written = manifest_text(found)
    except RecordError as error:
        raise RecordError(f"{path}: {error}") from None
    if told != found.digest:
        raise RecordError(
            f"{path}: its ids do not have the digest that is written in it (changed after writing)"
        )
    check_canonical(path, content, written)
    return found


def is_manifest(path: Path) -> bool:
    """Whether the file ends as a manifest does."""
    if not path.name.endswith(MANIFEST):
        return False
    try:
        with opened(path) as file:
            size = file.seek(0, 2)
            file.seek(size - min(len(_END), size))
            return file.read() == _END
    except RecordError:
        return False  # whoever reads it as a record says what is wrong


def _checked(value: Any) -> tuple[str, Manifest]:
    """The digest that is written in it, and the manifest of its ids."""
    raw = fields.obj(value, "split", _FIELDS)
    if raw["schema"] != SPLIT_SCHEMA:
        raise RecordError(f"schema must be {SPLIT_SCHEMA!r}, got {str(raw['schema'])[:60]!r}")
    if not isinstance(raw["hashed"], bool):
        raise RecordError(f"hashed must be true or false, got {str(raw['hashed'])[:60]!r}")
    sides = [
        [fields.text(v, f"{side}[{i}]") for i, v in enumerate(fields.array(raw[side], side))]
        for side in ("forget", "retain")
    ]
    return fields.sha256(raw["digest"], "digest"), manifest_of(*sides, hashed=raw["hashed"])
