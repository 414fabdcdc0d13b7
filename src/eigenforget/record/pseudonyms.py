"""Ids of samples, groups and column values as salted hashes.

A record or a split can then be shown without naming anyone.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from .canonical import RecordError
from .files import write_secret
from .hidden_specs import Hidden, Personal, keys_in, tree_of
from .manifest import Manifest, manifest_of
from .reading import read_bytes
from .schema import RunRecord

ALGORITHM = "hmac-sha256"
LENGTH = 16
"""Hex digits that are kept: 64 bits. Two of a million ids meet with a chance of 3e-8, and a meeting
is an error.
"""
SALT_BYTES = 32
_LEAST_BYTES = 16
_MOST_BYTES = 1 << 16
_LISTS = {"id": "id", "ids": "id", "group": "group", "groups": "group"}
"""Names of lists in series and jobs, with the kind of what stands in them."""
_DOMAIN = "eigenforget.pseudonym/1"


class Pseudonyms:
    """HMAC-SHA-256 of kind and value under a secret salt, cut to 16 hex digits.

    It remembers what it hid, and finds collisions. Equal texts of different kinds have different
    pseudonyms; a kind is "id", "group" or "column:<name>".

    Args:
        salt: The secret.

    Raises:
        RecordError: The salt has less than 16 bytes, or two values get one pseudonym.
    """

    def __init__(self, salt: bytes) -> None:
        if len(salt) < _LEAST_BYTES:
            raise RecordError(f"a salt has at least {_LEAST_BYTES} bytes, got {len(salt)}")
        self._salt = salt
        self._owner: dict[str, tuple[str, str]] = {}
        self.given: dict[str, str] = {}  # value -> pseudonym

    def of(self, kind: str, value: Any) -> str:
        """The pseudonym of a value of this kind."""
        text = str(value)
        message = b"\x1f".join(
            part.encode("utf-8", "surrogatepass") for part in (_DOMAIN, kind, text)
        )
        name = hmac.new(self._salt, message, hashlib.sha256).hexdigest()[:LENGTH]
        if self._owner.setdefault(name, (kind, text)) != (kind, text):
            raise RecordError("two ids have the same pseudonym under this salt; make another one")
        self.given.setdefault(text, name)
        return name


def make_salt(path: str | Path) -> Path:
    """Writes a file with 32 random bytes in hex, which only its owner may read.

    Raises:
        RecordError: The file exists.
    """
    return write_secret(path, secrets.token_hex(SALT_BYTES).encode() + b"\n")


def read_salt(path: str | Path) -> bytes:
    """The salt in a file.

    Raises:
        RecordError: The file cannot be read, is not hex, or has less than 16 bytes.
    """
    written = read_bytes(path, _MOST_BYTES)
    try:
        salt = bytes.fromhex(written.decode("ascii"))
    except ValueError:
        raise RecordError(
            f"{path}: a salt is written in hex; eigenforget keygen --salt makes one"
        ) from None
    if len(salt) < _LEAST_BYTES:
        raise RecordError(f"{path}: a salt has at least {_LEAST_BYTES} bytes, got {len(salt)}")
    return salt


def pseudonymised_split(split: Manifest, salt: bytes) -> Manifest:
    """The manifest with pseudonyms for ids; its digest is over them."""
    names = Pseudonyms(salt)
    forget, retain = (
        [names.of("id", value) for value in side] for side in (split.forget, split.retain)
    )
    return manifest_of(forget, retain, hashed=True)


def pseudonymised(
    record: RunRecord,
    salt: bytes,
    split: Manifest | None = None,
    *,
    personal: Mapping[str, Personal],
    known: Mapping[str, Iterable[str]] | None = None,
) -> RunRecord:
    """The record, not sealed, with pseudonyms for whatever can name a person; job["ids"] says so.

    Hidden are sample ids in series, near duplicates and requests, and what a request declares as
    personal, such as groups and column values. If a request declares nothing, all its values are
    hidden. Claims and reasons that quote any of these are changed too. Texts are not searched for
    values that are plain numbers, since every count would match. Not hidden are names of files,
    models and columns, class labels, and the specs of data, model and method.

    Args:
        record: The record; a sealed one loses its digest and its place in a chain.
        salt: At least 16 secret bytes.
        split: The manifest of the original ids. inputs["split"] becomes the digest over their
            pseudonyms, or is taken out where there is no manifest. Whoever guesses the ids could
            confirm them by it.
        personal: What each kind of request declares; see `hidden_specs.key_of` for the keys.
        known: Further values that texts may quote, by kind ("id", "group", "column:<name>").

    Raises:
        RecordError: Two values get one pseudonym, or job and series are not as a run writes them.
    """
    names = Pseudonyms(salt)
    for kind, values in {
        "id": (*split.forget, *split.retain) if split else (),
        **(known or {}),
    }.items():
        for value in values:
            names.of(kind, value)
    try:
        asked = dict(record.job.get("request") or {})
        hidden = Hidden(names.of, personal, keys_in(asked.get("resolved")))
        job, series = (_hide(dict(part), names, hidden) for part in (record.job, record.series))
        quotes = _Quotes(names, hidden)
        if "warnings" in job:
            job["warnings"] = [quotes.cleared(line) for line in job["warnings"]]
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        if isinstance(error, RecordError):
            raise
        raise RecordError(
            f"record {record.name!r}: ids cannot be hidden in a job or series of this form: {error}"
        ) from None
    inputs = {key: value for key, value in record.inputs.items() if key != "split"}
    if split:
        inputs["split"] = pseudonymised_split(split, salt).digest
    return replace(
        record,
        job={**job, "ids": ALGORITHM},
        inputs=inputs,
        outcome=replace(record.outcome, reason=quotes.cleared(record.outcome.reason)),
        scores=tuple(replace(row, reason=quotes.cleared(row.reason)) for row in record.scores),
        series=series,
        claims=tuple(map(quotes.cleared, record.claims)),
        non_claims=tuple(map(quotes.cleared, record.non_claims)),
        previous=None,
        digest=None,
    )


def pseudonymised_text(text: str, salt: bytes, *, personal: Mapping[str, Personal]) -> str:
    """A text in which specs of requests stand, such as a title, with their values hidden.

    A text that is one spec as a whole, as of a request that declares nothing, is hidden too.
    """
    return Hidden(Pseudonyms(salt).of, personal, keys_in(tree_of(text))).text(text)


def _hide(value: Any, names: Pseudonyms, hidden: Hidden) -> Any:
    """The JSON value with every id hidden that its place marks as one.

    Such places are the keys "id", "ids", "group" and "groups", pairs of near duplicates, and specs.
    """
    if isinstance(value, Mapping):
        if set(value) == {"name", "fields"}:
            fields = hidden.fields(value["name"], value["fields"])
            inner = {key: _hide(item, names, hidden) for key, item in fields.items()}
            return {"name": value["name"], "fields": inner}
        return {hidden.text(key): _member(key, item, names, hidden) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_hide(item, names, hidden) for item in value]
    return hidden.text(value) if isinstance(value, str) else value


def _member(key: str, item: Any, names: Pseudonyms, hidden: Hidden) -> Any:
    if key in _LISTS and isinstance(item, (list, tuple)):
        return [names.of(_LISTS[key], value) for value in item]
    if key == "near_duplicates" and isinstance(item, Mapping):
        if item.get("ids") == ALGORITHM:  # taken over from a record whose ids were hidden
            return dict(item)
        pairs = [
            [*(names.of("id", value) for value in pair[:2]), *pair[2:]]
            for pair in item.get("pairs", ())
        ]
        return {**item, "ids": ALGORITHM, "pairs": pairs}
    return _hide(item, names, hidden)


class _Quotes:
    """Finds values that were hidden elsewhere in any text, and hides them there too."""

    def __init__(self, names: Pseudonyms, hidden: Hidden) -> None:
        self._hidden = hidden
        own = set(names.given.values())
        self._given = {
            value: name
            for value, name in names.given.items()
            if value.strip() and not _number(value) and value not in own
        }

    def cleared(self, text: str) -> str:
        """The text without them.

        Long values go first, so that one which is part of another does not break it.
        """
        text = self._hidden.text(text)
        for value in sorted(
            (value for value in self._given if value in text),
            key=lambda value: (-len(value), value),
        ):
            text = re.sub(rf"(?<!\w){re.escape(value)}(?!\w)", self._given[value], text)
        return text


def _number(value: str) -> bool:
    try:
        float(value)
    except ValueError:
        return False
    return True
