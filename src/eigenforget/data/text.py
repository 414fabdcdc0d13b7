"""Your own texts, from a file of rows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import AfterValidator, Field

from eigenforget.core.errors import EigenforgetError
from eigenforget.core.fields import Count, NonEmpty
from eigenforget.core.spec import configured
from eigenforget.data.bundle import Data
from eigenforget.data.readers import read_columns
from eigenforget.data.rows import SIDES, HoldoutShare, Roles, Rows, rows_of
from eigenforget.data.table import (
    Delimiter,
    Drop,
    Fraction,
    Group,
    Id,
    Label,
    SplitColumn,
    SplitSeed,
)
from eigenforget.data.tokens import check_tokenizer, text_contents, tokenised

Tokenizer = Annotated[
    str,
    AfterValidator(check_tokenizer),
    "'words', our own, or 'hf:folder' with a tokenizer.json (pip install 'eigenforget[hf]')",
]
MaxLength = Annotated[Count, "tokens of a text; longer ones are cut"]
Vocabulary = Annotated[
    int, Field(ge=3), "largest number of token ids of 'words', padding and unknown included"
]


@configured
class Text:
    """Texts with labels from a .csv, .tsv, .jsonl or .parquet file.

    Inputs are {"input_ids", "attention_mask"}, int64 [N, max_length] both, as Hugging Face models
    take them; Data.vocabulary is the number of token ids. "words" takes runs of letters and digits,
    in lower case. The most frequent words of the training texts have ids from 2 on, with ties in
    alphabetical order. Padding is 0, and any other word is 1. The columns other than the text are
    columns of the Index. The content of a text is the hash of the text as it was read.
    """

    name: ClassVar[str] = "text"
    path: Annotated[str, "the file, with a header"]
    text: Annotated[NonEmpty, "column with the text"] = "text"
    label: Label = "label"
    id: Id = ""
    group: Group = ""
    split: SplitColumn = ""
    test_fraction: Fraction = 0.2
    seed: SplitSeed = 0
    drop: Drop = ()
    tokenizer: Tokenizer = "words"
    max_length: MaxLength = 64
    vocabulary: Vocabulary = 5000
    delimiter: Delimiter = ""

    def load(self) -> Data:
        """Reads the file.

        Raises:
            EigenforgetError: A text is missing, or what table refuses; the message names the file.
        """
        try:
            roles = Roles(self.label, self.id, self.group, self.split, self.drop)
            named = (*roles.named(), self.text)
            records = read_columns(Path(self.path), self.delimiter, named)
            texts = records.column(self.text, "text").text
            if (texts == "").any():
                raise EigenforgetError(
                    f"column {self.text!r} (text) has no value in {records.where(texts == '')}"
                )
            rows = rows_of(
                records, roles, HoldoutShare(self.test_fraction, self.seed), besides=(self.text,)
            )
            return text_data(
                list(texts),
                rows,
                tokenizer=self.tokenizer,
                max_length=self.max_length,
                vocabulary=self.vocabulary,
            )
        except EigenforgetError as error:
            raise EigenforgetError(f"{self.path}: {error}") from None


def text_data(
    texts: Sequence[str], rows: Rows, *, tokenizer: str, max_length: int, vocabulary: int
) -> Data:
    """The Data of texts [N] and what is known of them; see Text."""
    sides = {side: [texts[row] for row in rows.positions(side)] for side in SIDES}
    tokens = tokenised(sides, tokenizer=tokenizer, max_length=max_length, vocabulary=vocabulary)
    return rows.data(tokens.inputs, text_contents(texts), **tokens.known())
