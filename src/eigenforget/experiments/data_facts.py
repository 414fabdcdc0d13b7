"""What a checkpoint says of its data, in the metadata and in a file beside it."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from eigenforget.core.errors import EigenforgetError
from eigenforget.core.types import Split
from eigenforget.data.bundle import Data
from eigenforget.data.known_rows import KnownRows
from eigenforget.data.normalisation import Normalisation
from eigenforget.record import file_digest, read_salt, text_digest
from eigenforget.training.recall import Recall

ROWS = ".rows"
"""Ending of the file with the hashes of the rows, beside a checkpoint."""
_KEY = b"eigenforget.rows/1"


class DataFacts(NamedTuple):
    """What is known of the data of a checkpoint; "" or None for what is not.

    Attributes:
        data: Digest of the data.
        split: Digest of the split; where ids are hidden it is not told.
        coding: Digest of what class numbers and encoded inputs stand for.
        normalisation: How raw values became inputs.
        rows: Digest of the file with the hashes of the rows.
        recall: What the model knew of its training data when it was saved.
    """

    data: str
    split: str = ""
    coding: str = ""
    normalisation: Normalisation | None = None
    rows: str = ""
    recall: Recall | None = None

    @classmethod
    def of(cls, data: Data, split: Split | None, rows: str, *, hidden: bool) -> DataFacts:
        """The facts of a data set.

        Args:
            data: The data set.
            split: Its split; None where nothing is forgotten.
            rows: Text of the file with the hashes of its rows.
            hidden: Whether ids are hidden: who guesses them could confirm them by the split's
                digest.
        """
        told = "" if split is None or hidden else split.digest
        return cls(data.digest, told, data.coding, data.normalisation, text_digest(rows))

    def metadata(self) -> dict[str, str]:
        """The entries of a checkpoint's metadata."""
        found = {
            "data_digest": self.data,
            "split_digest": self.split,
            "coding": self.coding,
            "rows": self.rows,
        }
        if self.normalisation is not None:
            found["normalisation"] = json.dumps(self.normalisation.as_json(digest=False))
        if self.recall is not None:
            found["recall"] = json.dumps(self.recall.as_json())
        return {name: text for name, text in found.items() if text}

    @classmethod
    def read(cls, metadata: Mapping[str, str]) -> DataFacts:
        """The facts that metadata tells.

        Raises:
            EigenforgetError: An entry is damaged.
        """
        try:
            normalisation, recall = (
                json.loads(metadata[name]) if name in metadata else None
                for name in ("normalisation", "recall")
            )
            return cls(
                metadata.get("data_digest", ""),
                metadata.get("split_digest", ""),
                metadata.get("coding", ""),
                None if normalisation is None else Normalisation.from_json(normalisation),
                metadata.get("rows", ""),
                None if recall is None else Recall.from_json(recall),
            )
        except (KeyError, TypeError, ValueError, RecursionError):
            raise EigenforgetError("what it says of its data is damaged") from None

    def check_inputs(self, data: Data, *, cure: str = "") -> None:
        """Checks that inputs and classes of the data mean what they meant to the model.

        Args:
            data: The data.
            cure: What to do where they do not; by default to give the data as it was.

        Raises:
            EigenforgetError: They do not; the message names both.
        """
        then, now = self.normalisation, data.normalisation
        if then is not None and now is not None and not then.near(now):
            few = f"normalize={then.spelled()!r}" if len(then.mean) <= 4 else "normalize as then"
            raise EigenforgetError(
                f"was trained on {then.words()}, and the data gives {now.words()}; "
                f"{cure or f'give {few}, or leave --data out'}"
            )
        if self.coding and self.coding != data.coding:
            as_then = "give the data, with its order of classes and its tokenizer, as it was then"
            raise EigenforgetError(
                "the classes, words or categories that became numbers are not those that the model "
                f"was trained with; {cure or as_then}"
            )

    def known_rows(self, checkpoint: Path, salt: Path | None) -> KnownRows | None:
        """The rows in the file beside a checkpoint; None where there is no such file.

        Args:
            checkpoint: The checkpoint.
            salt: File with the salt under which ids are hidden.

        Raises:
            EigenforgetError: The file is not the one that was written with the checkpoint.
        """
        path = checkpoint.with_suffix(ROWS)
        if not self.rows or not path.is_file():
            return None
        if file_digest(path) != self.rows:
            raise EigenforgetError(
                f"{path} is not the file that was written with {checkpoint}; put that file there, "
                "or remove this one"
            )
        found = KnownRows.read(path, row_key(salt))
        return None if found.keyed and salt is None else found


def row_key(salt: Path | None) -> bytes:
    """The key under which rows are hashed: from the salt where ids are hidden, else none."""
    if salt is None:
        return b""
    return hmac.new(read_salt(salt), _KEY, hashlib.sha256).digest()


def described_changes(known: KnownRows | None, data: Data) -> tuple[str, dict[str, Any]]:
    """What changed in the data, in words and as it stands in a record."""
    if known is None:
        return "which rows differ is not known, as the file of row hashes is not read", {}
    changes = known.changes(data)
    return changes.words(), changes._asdict()
