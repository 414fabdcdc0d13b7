"""Scores of samples: how strongly models memorise each, and files with a number for each id."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from eigenforget.core.errors import EigenforgetError
from eigenforget.core.text import listed
from eigenforget.record import RecordError, write_text
from eigenforget.requests.request import text_of_list

ModelScore = Literal["loss", "confidence", "margin"]

_LINES = (".jsonl", ".ndjson")


def memorisation_scores(with_sample: Any, without: Any, labels: Any) -> np.ndarray:
    """How strongly each sample is memorised: mean p(y_i | x_i) of models with it minus without it.

    High: the models are right about the sample only because they saw it, as for mislabelled and
    atypical ones. Source: Feldman, Zhang, arXiv 2008.03703, mem(A, S, i). Deviation: the
    probability of the label, where the paper counts the models that predict it; less noise for few
    models.

    Args:
        with_sample: Logits [M1, N, C] of models trained with the samples.
        without: Logits [M2, N, C] of models trained without them.
        labels: Class labels [N].

    Returns:
        float64 [N] in [−1, 1].

    Raises:
        EigenforgetError: Shapes differ, there is no model, logits are not finite, or labels are
            outside the classes.
    """
    truth = np.asarray(labels)
    seen, unseen = _logits(with_sample, truth, "with_sample"), _logits(without, truth, "without")
    if seen.shape[2] != unseen.shape[2]:
        raise EigenforgetError(
            f"with_sample has {seen.shape[2]} classes and without has {unseen.shape[2]}"
        )
    sides = (_label_probability(seen, truth), _label_probability(unseen, truth))
    return np.asarray(sides[0].mean(axis=0) - sides[1].mean(axis=0))


def subsampled_memorisation(probabilities: Any, included: Any) -> np.ndarray:
    """How strongly each sample is memorised, from models trained on random subsets.

    It is mean p(y_i | x_i) of the models whose subset has sample i, minus that of the others.
    Source: Feldman, Zhang, arXiv 2008.03703, the estimator from random subsets. Deviation: as in
    `memorisation_scores`.

    Args:
        probabilities: Of the sample's label under each model, [M, N].
        included: Whether the model was trained with the sample, bools [M, N].

    Returns:
        float64 [N] in [−1, 1].

    Raises:
        EigenforgetError: Shapes or types differ, probabilities are outside [0, 1], or a sample was
            trained on by all models or by none.
    """
    found, inside = np.asarray(probabilities, dtype=np.float64), np.asarray(included)
    if found.ndim != 2 or inside.shape != found.shape or inside.dtype != np.bool_:
        what = f"got {list(found.shape)} and {inside.dtype} {list(inside.shape)}"
        raise EigenforgetError(
            f"probabilities and bools of one shape [models, samples] are needed, {what}"
        )
    if not ((found >= 0) & (found <= 1)).all():
        raise EigenforgetError("probabilities must be numbers from 0 to 1")
    counts = inside.sum(axis=0)
    lacking = np.flatnonzero((counts == 0) | (counts == len(found)))
    if len(lacking):
        raise EigenforgetError(
            f"samples {listed(lacking)} are in the subsets of all {len(found)} models or of none"
        )
    seen = np.where(inside, found, 0).sum(axis=0) / counts
    unseen = np.where(inside, 0, found).sum(axis=0) / (len(found) - counts)
    return np.asarray(seen - unseen)


def model_scores(logits: Any, labels: Any, what: ModelScore) -> np.ndarray:
    """What one model makes of each sample, float64 [N].

    Args:
        logits: [N, C].
        labels: [N].
        what: "loss" is the cross-entropy −log p(y) in nats. "confidence" is the largest softmax
            probability, of whichever class. "margin" is the logit of the label minus the largest
            other logit, which is negative if the model is wrong.

    Raises:
        EigenforgetError: What `memorisation_scores` refuses, or fewer than 2 classes.
    """
    truth = np.asarray(labels)
    wide = _logits(np.asarray(logits)[np.newaxis], truth, "logits")[0]
    if wide.shape[1] < 2:
        raise EigenforgetError(
            f"a score of a classifier needs at least 2 classes, got {wide.shape[1]}"
        )
    rows = np.arange(len(truth))
    own, top = wide[rows, truth], wide.max(axis=1)
    if what == "margin":
        others = wide.copy()
        others[rows, truth] = -np.inf
        return np.asarray(own - others.max(axis=1))
    total = np.exp(wide - top[:, np.newaxis]).sum(axis=1)
    return np.asarray(1 / total if what == "confidence" else np.log(total) + (top - own))


def write_scores(
    path: str | Path,
    ids: Sequence[str] | np.ndarray,
    scores: Any,
    *,
    column: str = "score",
    overwrite: bool = True,
) -> Path:
    """Writes a CSV file with the columns id and `column`, or JSON lines for a name in .jsonl.

    The file is written as a whole or not at all, and numbers read back exactly. An existing one is
    replaced, but for `overwrite=False`.

    Raises:
        EigenforgetError: There is not one finite score for each id, ids repeat, or the file exists
            and is not replaced, or cannot be written.
    """
    names, values = [str(name) for name in ids], np.asarray(scores, dtype=np.float64)
    if values.shape != (len(names),):
        raise EigenforgetError(
            f"{len(names)} ids and scores of shape {list(values.shape)}: one score is needed for "
            "each id"
        )
    _check_rows(names, values, str(path))
    rows = list(zip(names, values.tolist(), strict=True))
    target = Path(path)
    if _format(target) == "lines":
        text = "".join(json.dumps({"id": name, column: value}) + "\n" for name, value in rows)
    else:
        table = io.StringIO(newline="")
        csv.writer(table, lineterminator="\n").writerows([("id", column), *rows])
        text = table.getvalue()
    try:
        return write_text(target, text, overwrite=overwrite)
    except RecordError as error:
        raise EigenforgetError(str(error)) from None


def read_scores(path: str | Path, column: str = "score") -> dict[str, float]:
    """Score by id of a CSV file with a header, or of JSON lines (.jsonl).

    Further columns are ignored.

    Raises:
        EigenforgetError: The file cannot be read or parsed, has no such column, repeats ids, or has
            scores that are no finite numbers; the message names it.
    """
    target = Path(path)
    kind = _format(target)
    try:
        text = text_of_list(target)
    except (RecordError, UnicodeDecodeError) as error:
        raise EigenforgetError(f"cannot read the scores {str(path)!r}: {error}") from None
    rows = _json_rows(text, target) if kind == "lines" else _csv_rows(text, target)
    names, values = [], []
    for number, row in rows:
        for key in ("id", column):
            if row.get(key) is None:
                known = ", ".join(map(str, row)) or "none"
                raise EigenforgetError(
                    f"{path}, line {number}: there is no {key!r}; the columns are: {known}"
                )
        names.append(str(row["id"]))
        values.append(_number(row[column]))
    _check_rows(names, np.asarray(values, dtype=np.float64), str(path))
    return dict(zip(names, values, strict=True))


def check_scores_path(path: Path) -> None:
    """Checks that scores can be written to a path.

    Raises:
        EigenforgetError: Its ending is another, it is a folder, or its folder is a file.
    """
    _format(path)
    if path.is_dir():
        raise EigenforgetError(f"{path} is a folder; scores go into a file")
    above = next(parent for parent in path.absolute().parents if parent.exists())
    if not above.is_dir():
        raise EigenforgetError(f"{path} cannot be written: {above} is not a folder")


def _format(path: Path) -> str:
    if path.suffix.lower() in _LINES:
        return "lines"
    if path.suffix.lower() == ".csv":
        return "csv"
    raise EigenforgetError(f"{path}: scores are kept in .csv, {' or '.join(_LINES)} files")


def _csv_rows(text: str, path: Path) -> list[tuple[int, dict[str, Any]]]:
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        return [
            (reader.line_num, {k: v for k, v in row.items() if k is not None}) for row in reader
        ]
    except csv.Error as error:
        raise EigenforgetError(f"{path}, line {reader.line_num}: not CSV: {error}") from None


def _json_rows(text: str, path: Path) -> list[tuple[int, dict[str, Any]]]:
    rows = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            raise EigenforgetError(f"{path}, line {number}: not JSON: {line[:60]!r}") from None
        if not isinstance(row, dict):
            raise EigenforgetError(
                f"{path}, line {number}: an object with an id and a score is needed, got "
                f"{line[:60]!r}"
            )
        rows.append((number, row))
    return rows


def _number(value: Any) -> float:
    """The number, or NaN for what is none; _check_rows names the ids."""
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        return float("nan")
    try:
        return float(value)
    except (ValueError, OverflowError):
        return float("nan")


def _check_rows(names: list[str], values: np.ndarray, path: str) -> None:
    if not names:
        raise EigenforgetError(f"{path}: there are no scores")
    unique, counts = np.unique(np.asarray(names), return_counts=True)
    if len(unique) != len(names):
        raise EigenforgetError(
            f"{path}: ids must be unique; repeated: {listed(unique[counts > 1])}"
        )
    bad = ~np.isfinite(values)
    if bad.any():
        raise EigenforgetError(
            f"{path}: scores must be finite numbers; these ids have none: "
            f"{listed(np.asarray(names)[bad])}"
        )


def _logits(logits: Any, labels: np.ndarray, what: str) -> np.ndarray:
    wide = np.asarray(logits, dtype=np.float64)
    if wide.ndim != 3 or not len(wide) or labels.ndim != 1 or wide.shape[1] != len(labels):
        raise EigenforgetError(
            f"{what} must be logits [models, {len(labels)} samples, classes] of at least one "
            f"model, got {list(wide.shape)}"
        )
    if labels.dtype.kind not in "iu" or (labels < 0).any() or (labels >= wide.shape[2]).any():
        raise EigenforgetError(
            f"labels must be integers from 0 to {wide.shape[2] - 1}, got "
            f"{listed(np.unique(labels))}"
        )
    if not np.isfinite(wide).all():
        raise EigenforgetError(f"{what} has logits that are not finite")
    return wide


def _label_probability(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Softmax probability of the label, [M, N].

    The largest logit is subtracted first, so that nothing overflows.
    """
    weights = np.exp(logits - logits.max(axis=2, keepdims=True))
    return np.asarray(weights[:, np.arange(len(labels)), labels] / weights.sum(axis=2))
