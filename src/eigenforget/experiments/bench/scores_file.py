"""Records without their series in one compressed file.

Tables, figures and leaderboards are made from it, at a thirtieth of the size of the records.
"""

from __future__ import annotations

import gzip
import io
import json
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from eigenforget import record
from eigenforget.record import RecordError, RunRecord, canonical, to_json
from eigenforget.record.files import write_bytes

SCORES_FILE = "scores.jsonl.gz"
_MOST_BYTES = 1 << 29
"""Of an unpacked file; that is some 20,000 records."""
_KEPT_SERIES = ("forget_groups",)
"""Small series that tables are made from; figures of single models need the others."""


def write_scores_file(folder: Path, records: Mapping[str, Sequence[RunRecord]]) -> Path:
    """Write the scores, costs and specs of records into `folder/scores.jsonl.gz`.

    Each line is one record in canonical JSON, with the path of its study below the folder and
    without its series. Equal records give equal bytes.

    Args:
        folder: An existing folder.
        records: By the path of their study below the folder, such as "digits-by_class/seed0".
    """
    lines = (line for path, items in records.items() for line in _lines(path, items))
    content = "".join(lines).encode()
    packed = io.BytesIO()
    with gzip.GzipFile(filename="", mode="wb", compresslevel=9, fileobj=packed, mtime=0) as file:
        file.write(content)
    return write_bytes(folder / SCORES_FILE, packed.getvalue())


def read_scores_file(folder: Path) -> dict[str, list[RunRecord]]:
    """The records in `folder/scores.jsonl.gz` by the path of their study, in the file's order.

    Their digests are those of the sealed records that they were made from, whose series they lack,
    so `eigenforget verify` cannot check them.

    Raises:
        RecordError: The file is not there, is damaged, or holds what is no record.
    """
    path = folder / SCORES_FILE
    packed = record.read_bytes(path)
    found: dict[str, list[RunRecord]] = {}
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(packed)) as file:
            content = file.read(_MOST_BYTES + 1)
        if len(content) > _MOST_BYTES:
            raise RecordError(f"it unpacks to more than {_MOST_BYTES} bytes")
        *lines, rest = content.decode().split("\n")
        if rest:
            raise RecordError("its last line is cut off")
        for line in lines:
            value = dict(json.loads(line))
            study = str(value.pop("folder"))
            found.setdefault(study, []).append(record.record_from_json(value))
    except (
        OSError,
        EOFError,
        ValueError,
        KeyError,
        TypeError,
        RecursionError,
        zlib.error,
    ) as error:
        raise RecordError(f"{path}: cannot be read: {error}") from None
    return found


def read_studies(folder: Path, pattern: str = "*/seed*") -> dict[str, list[RunRecord]]:
    """The records of every study below a folder, by its path.

    They are the sealed records where there are any, else those of the scores file in its order.

    Args:
        folder: A folder of results.
        pattern: Which folders below it hold `records/`.
    """
    sealed = sorted(folder.glob(f"{pattern}/records"))
    if sealed:
        paths = {path.parent.relative_to(folder).as_posix(): path for path in sealed}
        return {name: record.read_folder(path) for name, path in paths.items()}
    return read_scores_file(folder) if (folder / SCORES_FILE).exists() else {}


def _lines(path: str, records: Iterable[RunRecord]) -> Iterator[str]:
    for item in records:
        series = {name: item.series[name] for name in _KEPT_SERIES if name in item.series}
        yield canonical({"folder": path, **to_json(replace(item, series=series))}) + "\n"
