"""Your own arrays, from a numpy .npz file."""

from __future__ import annotations

import io
import tokenize
import zipfile
import zlib
from pathlib import Path
from typing import Annotated, ClassVar

import numpy as np

from eigenforget.core.errors import EigenforgetError
from eigenforget.core.fields import Between01, WholeNumber
from eigenforget.core.spec import configured
from eigenforget.core.text import first_line, listed
from eigenforget.data.bundle import Arrays, Data, class_labels, from_arrays
from eigenforget.data.holdout import stratified
from eigenforget.data.memory import check_fits
from eigenforget.data.normalisation import Normalize
from eigenforget.record import RecordError
from eigenforget.record.reading import read_bytes

_SPLIT = ("x_train", "y_train", "x_test", "y_test")
_SPLIT_OPTIONAL = ("ids_train", "ids_test", "groups_train", "groups_test")
_WHOLE = ("x", "y")
_WHOLE_OPTIONAL = ("ids", "groups")
_COLUMN = "columns_"
_UNREADABLE = (
    OSError,
    EOFError,
    ValueError,
    MemoryError,
    OverflowError,
    RuntimeError,
    SyntaxError,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)
"""What numpy and zipfile raise for damaged members; a RuntimeError is an encrypted one."""


@configured
class Npz:
    """Arrays in a .npz file.

    They are x_train, y_train, x_test, y_test (and ids_train, ids_test, groups_train, groups_test),
    or x, y (and ids, groups). Further columns of the Index, such as finer labels, are
    columns_<name>_train with columns_<name>_test, or columns_<name>. x: images uint8 [N, H, W] or
    [N, H, W, C], or feature vectors float [N, D]; y: integers [N]; ids and groups: strings or
    integers [N]; columns: strings, integers, floats or bools [N]. x and y are divided by a
    stratified, seeded split, with ids "row/<row>" by default. Nothing is unpickled.
    """

    name: ClassVar[str] = "npz"
    path: Annotated[str, "the .npz file"]
    test_fraction: Annotated[Between01, "share held out where the file has x, y"] = 0.2
    seed: Annotated[WholeNumber, "which samples are held out"] = 0
    normalize: Normalize = "train"

    def load(self) -> Data:
        """Reads the file.

        Raises:
            EigenforgetError: The file is missing or damaged, has missing or unknown keys, a column
                of one side only or object arrays, or what from_arrays refuses; the message names
                the file.
        """
        arrays = read_npz(Path(self.path))
        try:
            _check_keys(list(arrays))
            train, test = (
                self._divided(arrays)
                if "x" in arrays
                else (_side(arrays, "_train"), _side(arrays, "_test"))
            )
            return from_arrays(train=train, test=test, normalize=self.normalize)
        except EigenforgetError as error:
            raise EigenforgetError(f"{self.path}: {error}") from None

    def _divided(self, arrays: dict[str, np.ndarray]) -> tuple[Arrays, Arrays]:
        whole = _side(arrays, "")
        labels = class_labels(whole.labels, "given")
        for key, column in arrays.items():
            if column.shape[:1] != labels.shape:
                raise EigenforgetError(
                    f"{key} has shape {list(column.shape)}, but y has {len(labels)} labels"
                )
        if whole.ids is None:
            whole = whole._replace(ids=[f"row/{row}" for row in range(len(labels))])
        rows = stratified(labels, test_fraction=self.test_fraction, seed=self.seed)
        return whole.rows(rows.train), whole.rows(rows.test)


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """All arrays of a .npz file, without unpickling.

    Raises:
        EigenforgetError: The file is missing, no .npz or damaged, or holds objects; the message
            names it.
    """
    try:
        content = read_bytes(path, most=1 << 40)
    except RecordError as error:
        raise EigenforgetError(str(error)) from None
    except MemoryError:
        raise EigenforgetError(f"{path}: does not fit into memory") from None
    if not zipfile.is_zipfile(io.BytesIO(content)):
        raise EigenforgetError(f"{path}: not a .npz file, or truncated (numpy.savez writes one)")
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as archive:
            keys = list(archive.files)
            size = sum(item.file_size for item in archive.zip.infolist())
    except _UNREADABLE as error:
        raise EigenforgetError(f"{path}: damaged: {first_line(error)}") from None
    if len(set(keys)) < len(keys):
        twice = sorted({key for key in keys if keys.count(key) > 1})
        raise EigenforgetError(f"{path}: holds {listed(twice)} twice; save it with numpy.savez")
    check_fits(size, str(path))
    return {key: _member(path, content, key) for key in keys}


def _member(path: Path, content: bytes, key: str) -> np.ndarray:
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as archive:
            member = archive[key]
    except _UNREADABLE as error:
        if "Object arrays" in str(error):
            raise EigenforgetError(
                f"{path}: {key} holds Python objects, which are not loaded"
            ) from None
        raise EigenforgetError(f"{path}: {key} is damaged: {first_line(error)}") from None
    if not isinstance(member, np.ndarray):
        raise EigenforgetError(f"{path}: {key} is not a numpy array")
    return member


def _check_keys(keys: list[str]) -> None:
    forms = {_SPLIT: _SPLIT_OPTIONAL, _WHOLE: _WHOLE_OPTIONAL}
    columns = {key for key in keys if key.startswith(_COLUMN) and key != _COLUMN}
    for required, optional in forms.items():
        if set(required) <= set(keys) - columns <= {*required, *optional}:
            if required == _SPLIT:
                _check_pairs(columns)
            return
    # An unknown key is refused: a misspelt `groups` must not be passed over in silence.
    further = {_SPLIT: "columns_<name>_train, columns_<name>_test", _WHOLE: "columns_<name>"}
    allowed = " or ".join(
        f"{', '.join(need)} (optional: {', '.join(may)}, {further[need]})"
        for need, may in forms.items()
    )
    raise EigenforgetError(f"has the keys {listed(keys) or 'none'}; needed: {allowed}")


def _check_pairs(columns: set[str]) -> None:
    for key in sorted(columns):
        name, _, side = key.removeprefix(_COLUMN).rpartition("_")
        if not name or side not in ("train", "test"):
            raise EigenforgetError(
                f"{key}: beside x_train and x_test a column is named columns_<name>_train or "
                "columns_<name>_test"
            )
        other = f"{_COLUMN}{name}_{'test' if side == 'train' else 'train'}"
        if other not in columns:
            raise EigenforgetError(
                f"{key} is there but {other} is not: a column is needed on both sides"
            )


def _side(arrays: dict[str, np.ndarray], suffix: str) -> Arrays:
    columns = {
        key.removeprefix(_COLUMN).removesuffix(suffix): values
        for key, values in arrays.items()
        if key.startswith(_COLUMN) and key.endswith(suffix)
    }
    ids, groups = (arrays.get(f"{column}{suffix}") for column in ("ids", "groups"))
    return Arrays(arrays[f"x{suffix}"], arrays[f"y{suffix}"], ids, groups, columns)
