"""From texts to token ids of one length.

The tokenizer is our own, of words, or one from a Hugging Face folder.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from eigenforget.core.errors import EigenforgetError
from eigenforget.core.extras import needed
from eigenforget.core.text import listed
from eigenforget.record import file_digest, value_digest

PAD, UNKNOWN = 0, 1
SPECIAL = ("<pad>", "<unk>")
_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")
_HF = "hf:"
_CHUNK = 1000
_PADS = ("[PAD]", "<pad>", "<|padding|>")
"""How published tokenizers name their padding, where their settings do not say."""


class Tokens(NamedTuple):
    """Texts as token ids.

    Attributes:
        inputs: input_ids and attention_mask, int64 [N, L] both, by side.
        vocabulary: How many token ids there are.
        encoding: Digest of what the ids stand for.
    """

    inputs: Mapping[str, dict[str, Tensor]]
    vocabulary: int
    encoding: str

    def known(self) -> dict[str, Any]:
        """What Data takes beside the inputs."""
        return {"vocabulary": self.vocabulary, "encoding": self.encoding}


def check_tokenizer(value: str) -> str:
    """The value, if it is "words" or "hf:folder".

    Raises:
        ValueError: It is neither (pydantic reports it).
    """
    if value != "words" and (not value.startswith(_HF) or value == _HF):
        raise ValueError(f"must be 'words' or 'hf:folder', got {value!r}")
    return value


def tokenised(
    texts: Mapping[str, Sequence[str]], *, tokenizer: str, max_length: int, vocabulary: int
) -> Tokens:
    """Token ids of the texts of each side, cut or padded to max_length.

    The mask is 1 where there is a token. "words" takes lower-cased runs of letters and digits. The
    most frequent `vocabulary` - 2 words of the TRAINING texts have the ids from 2 on, with ties in
    alphabetical order. All other words are 1 (<unk>), and padding is 0 (<pad>). A text without any
    word is a single <unk>. "hf:folder" takes the folder's tokenizer.json with its own special
    tokens and vocabulary.

    Args:
        texts: The texts by side.
        tokenizer: "words" or "hf:folder".
        max_length: Tokens of a text.
        vocabulary: Largest number of token ids of "words".

    Raises:
        EigenforgetError: The tokenizer cannot be read, or finds no token in a text.
    """
    folder = Path(tokenizer.removeprefix(_HF))
    made = (
        _hugging_face(folder, max_length)
        if tokenizer.startswith(_HF)
        else _words(texts["train"], vocabulary)
    )
    return Tokens(
        {side: _padded(made, column, max_length) for side, column in texts.items()},
        made.size,
        made.digest,
    )


def text_contents(texts: Sequence[str]) -> np.ndarray:
    """SHA-256 of each text as it was read."""
    return np.array(
        [
            hashlib.sha256(b"text\x1f" + text.encode("utf-8", "surrogatepass")).hexdigest()
            for text in texts
        ]
    )


class _Tokenizer(NamedTuple):
    """A tokenizer.

    Args:
        encode: Gives the ids of the tokens of each text, of any length.
        pad: The id of padding.
        size: Number of ids.
        digest: Of what the ids stand for.
    """

    encode: Callable[[Sequence[str]], list[list[int]]]
    pad: int
    size: int
    digest: str


def _words(texts: Sequence[str], vocabulary: int) -> _Tokenizer:
    counts = Counter(word for text in texts for word in _split(text))
    # By count, then by the word itself, so that the order of the texts does not matter.
    chosen = sorted(counts, key=lambda word: (-counts[word], word))[: vocabulary - len(SPECIAL)]
    where = {word: n for n, word in enumerate(chosen, start=len(SPECIAL))}

    def encode(batch: Sequence[str]) -> list[list[int]]:
        return [[where.get(word, UNKNOWN) for word in _split(text)] or [UNKNOWN] for text in batch]

    return _Tokenizer(encode, PAD, len(where) + len(SPECIAL), value_digest(chosen))


def _split(text: str) -> list[str]:
    return _WORD.findall(text.lower())


def _hugging_face(folder: Path, max_length: int) -> _Tokenizer:
    library = needed("tokenizers", extra="hf", what="a Hugging Face tokenizer")
    path = folder / "tokenizer.json"
    # Looked at first: the library raises plain Exception, and nothing narrower, for a file that it
    # cannot read.
    if "model" not in _json_object(path):
        raise EigenforgetError(
            f"tokenizer: {path} is not a Hugging Face tokenizer: it has no 'model'"
        )
    loaded = library.Tokenizer.from_file(str(path))
    pad = _pad_id(loaded, folder)
    loaded.no_padding()
    loaded.enable_truncation(max_length)

    def encode(batch: Sequence[str]) -> list[list[int]]:
        return [list(made.ids) for made in loaded.encode_batch(list(batch))]

    size = loaded.get_vocab_size(with_added_tokens=True)
    return _Tokenizer(encode, pad, size, file_digest(path))


def _pad_id(loaded: Any, folder: Path) -> int:
    if loaded.padding is not None:
        return int(loaded.padding["pad_id"])
    for name in (*_pad_named(folder / "tokenizer_config.json"), *_PADS):
        found = loaded.token_to_id(name)
        if found is not None:
            return int(found)
    raise EigenforgetError(
        f"tokenizer: {folder} names no padding token, nor has it any of {', '.join(_PADS)}"
    )


def _pad_named(path: Path) -> list[str]:
    token = _json_object(path).get("pad_token") if path.is_file() else None
    token = token.get("content") if isinstance(token, dict) else token
    return [token] if isinstance(token, str) else []


def _json_object(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise EigenforgetError(f"tokenizer: {path} cannot be read: {error}") from None
    if not isinstance(found, dict):
        raise EigenforgetError(f"tokenizer: {path} is no JSON object")
    return found


def _padded(made: _Tokenizer, texts: Sequence[str], length: int) -> dict[str, Tensor]:
    ids = torch.full((len(texts), length), made.pad, dtype=torch.int64)
    mask = torch.zeros((len(texts), length), dtype=torch.int64)
    empty = []
    for start in range(0, len(texts), _CHUNK):
        for row, tokens in enumerate(made.encode(texts[start : start + _CHUNK]), start=start):
            kept = tokens[:length]
            ids[row, : len(kept)] = torch.tensor(kept, dtype=torch.int64)
            mask[row, : len(kept)] = 1
            if not kept:
                empty.append(row)
    if empty:
        raise EigenforgetError(
            f"the tokenizer finds no token in the texts {listed(empty)} of one side; drop those "
            "rows"
        )
    return {"input_ids": ids, "attention_mask": mask}
