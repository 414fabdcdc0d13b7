"""Data sets of Hugging Face datasets: images or texts."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

import numpy as np
import pydantic

from eigenforget.core.errors import EigenforgetError
from eigenforget.core.extras import needed
from eigenforget.core.fields import NonEmpty
from eigenforget.core.spec import configured
from eigenforget.core.text import listed
from eigenforget.data.arrow_tables import from_arrow
from eigenforget.data.bundle import Data
from eigenforget.data.holdout import Holdout
from eigenforget.data.image_folder import KeepField, MemoryGib, Workers
from eigenforget.data.images import Images, ImageStorage, image_data
from eigenforget.data.normalisation import Normalize
from eigenforget.data.rows import SIDES, HoldoutShare, Roles, Rows, rows_of
from eigenforget.data.table import Drop, Fraction, Group, Id, Label, SplitSeed
from eigenforget.data.text import MaxLength, Tokenizer, Vocabulary, text_data
from eigenforget.data.torchvision_set import ItemImages, Size


@configured
class HfDataset:
    """Images or texts with labels from a data set of Hugging Face (extra `hf`).

    For example hf_dataset(path='folder', image='image'). The path is a folder written by
    save_to_disk, or one of .parquet, .arrow, .csv or .jsonl files that load_dataset reads. With
    download=True it may also be a name on the hub. Give either `image` or `text`. Without a test
    split, samples are held out by class. The ids are "<split>/<row>" unless a column has them;
    classes are named as in the data set. Columns of numbers, words and times are columns of the
    Index. Images become inputs as in image_folder, texts as in text.
    """

    name: ClassVar[str] = "hf_dataset"
    path: Annotated[NonEmpty, "folder of the data set, or its name on the hub"]
    subset: Annotated[str, "configuration of the data set; '' for its only one"] = ""
    download: Annotated[bool, "allow a name on the hub, which is fetched"] = False
    train: Annotated[NonEmpty, "split to train on"] = "train"
    test: Annotated[str, "split to test on; '' holds out a share of the training split"] = "test"
    image: Annotated[str, "column with the images"] = ""
    text: Annotated[str, "column with the texts"] = ""
    label: Label = "label"
    id: Id = ""
    group: Group = ""
    test_fraction: Fraction = 0.2
    seed: SplitSeed = 0
    drop: Drop = ()
    size: Size = 0
    keep: KeepField = "auto"
    memory_gib: MemoryGib = 2.0
    workers: Workers = 0
    tokenizer: Tokenizer = "words"
    max_length: MaxLength = 64
    vocabulary: Vocabulary = 5000
    normalize: Normalize = "train"

    @pydantic.model_validator(mode="after")
    def _one_input(self) -> Self:
        if bool(self.image) == bool(self.text):
            raise ValueError("give one of image='column' and text='column'")
        if self.text and self.normalize != "train":
            raise ValueError("normalize is for images; texts become token ids")
        return self

    def load(self) -> Data:
        """Loads the data.

        Raises:
            EigenforgetError: datasets is not installed, there is nothing at `path`, no such split
                or column, or what image_folder and text refuse.
        """
        library = needed("datasets", extra="hf", what="hf_dataset")
        try:
            return self._data(library, self._splits(library))
        except EigenforgetError as error:
            raise EigenforgetError(f"{self.path}: {error}") from None

    def _splits(self, library: Any) -> list[Any]:
        """The training split, and the test split where one is named."""
        found = self._found(library)
        names = [self.train, *([self.test] if self.test else [])]
        missing = [name for name in names if name not in found]
        if missing:
            raise EigenforgetError(
                f"there is no split {listed(missing)}; the splits: {listed(found)}; test='' "
                "holds out a share"
            )
        return [found[name] for name in names]

    def _found(self, library: Any) -> dict[str, Any]:
        folder = Path(self.path)
        if not os.path.isdir(folder) and not self.download:
            raise EigenforgetError("no such folder; a name on the hub needs download=True")
        # Its errors go through several libraries and share no narrower class than these.
        failures = (
            OSError,
            ValueError,
            RuntimeError,
            TypeError,
            LookupError,
            library.exceptions.DatasetsError,
        )
        try:
            saved = (folder / name for name in ("dataset_dict.json", "state.json"))
            if any(map(os.path.isfile, saved)):
                found = library.load_from_disk(str(folder))
                return {self.train: found} if isinstance(found, library.Dataset) else dict(found)
            return dict(library.load_dataset(self.path, self.subset or None))
        except failures as error:
            line = (str(error).splitlines() or [type(error).__name__])[0]
            raise EigenforgetError(f"cannot be loaded: {line}") from None

    def _data(self, library: Any, splits: list[Any]) -> Data:
        column = self.image or self.text
        for split in splits:
            if column not in split.column_names:
                raise EigenforgetError(
                    f"there is no column {column!r}; the columns: {listed(split.column_names, 30)}"
                )
        whole = splits[0] if len(splits) == 1 else library.concatenate_datasets(splits)
        rows = self._rows(library, whole, [len(split) for split in splits])
        if not self.image:
            texts = ["" if text is None else text for text in whole[column]]
            if not all(isinstance(text, str) and text for text in texts):
                raise EigenforgetError(f"column {column!r} (text) must hold a string in each row")
            return text_data(
                texts,
                rows,
                tokenizer=self.tokenizer,
                max_length=self.max_length,
                vocabulary=self.vocabulary,
            )
        decoded = (
            whole
            if isinstance(whole.features[column], library.Image)
            else whole.cast_column(column, library.Image())
        )
        keeping = ImageStorage(self.keep, self.memory_gib, self.workers)
        return image_data(
            self._images(decoded, rows),
            keeping=keeping,
            class_names=rows.class_names,
            normalize=self.normalize,
        )

    def _images(self, whole: Any, rows: Rows) -> dict[str, Images]:
        sides = {}
        for side in SIDES:
            positions = rows.positions(side)
            read = ItemImages(whole.select(positions), self.image, self.size or None, side)
            sides[side] = Images(read, rows.labels[positions], *rows.known.rows(positions))
        return sides

    def _rows(self, library: Any, whole: Any, counts: list[int]) -> Rows:
        kept = [
            name
            for name, kind in whole.features.items()
            if isinstance(kind, (library.Value, library.ClassLabel))
        ]
        unknown = [name for name in self.drop if name not in whole.column_names]
        if unknown:
            raise EigenforgetError(
                f"there is no column {listed(unknown)} (drop); the columns: "
                f"{listed(whole.column_names, 30)}"
            )
        records = from_arrow(whole.select_columns(kept).with_format("arrow")[:])
        roles = Roles(
            self.label, self.id, self.group, "", tuple(name for name in self.drop if name in kept)
        )
        label = whole.features.get(self.label)
        names = tuple(label.names) if isinstance(label, library.ClassLabel) else None
        start = np.arange(sum(counts))
        given = Holdout(start[: counts[0]], start[counts[0] :]) if len(counts) == 2 else None
        division = given or HoldoutShare(self.test_fraction, self.seed)
        rows = rows_of(records, roles, division, class_names=names, besides=(self.text,))
        if self.id:
            return rows
        ids = [
            f"{split}/{n}"
            for split, count in zip((self.train, self.test), counts, strict=False)
            for n in range(count)
        ]
        return replace(rows, known=rows.known._replace(ids=np.array(ids)))
