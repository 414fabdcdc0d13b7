"""Damaged files: what is done to any file, and the readers of data, ids and scores."""

from __future__ import annotations

import io
import json
import os
import struct
import warnings
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from eigenforget.data import DATASETS
from fuzz import bases, values
from fuzz.watching import Outcome, Workspace, of_call, of_command

_TABLE = "label='label', id='name', categorical=('colour',), drop=('text', 'house', 'side')"
READERS = {
    "people.npz": "npz(path='people.npz')",
    "images.npz": "npz(path='images.npz')",
    "people.csv": "table(path='people.csv', label='label', id='name', group='house', "
    "split='side', categorical=('colour',), drop=('text',))",
    "people.tsv": "text(path='people.tsv', label='label', id='name')",
    "people.jsonl": f"table(path='people.jsonl', {_TABLE}, missing='mean')",
    "people.parquet": f"table(path='people.parquet', {_TABLE})",
    "pictures/cat/0.png": "image_folder(path='pictures', size=6)",
    "pictures/dog/1.jpg": "image_folder(path='pictures', size=6)",
    "people.csv.gz": f"table(path='people.csv.gz', {_TABLE}, missing='mean')",
    "list.csv": "image_table(path='list.csv', size=6)",
    "pictures.parquet": "image_table(path='pictures.parquet', size=6)",
    "ids.txt": "by_ids(path='ids.txt')",
    "scores.csv": "ranked(path='scores.csv', n=3)",
    "scores.jsonl": "by_memorisation(path='scores.jsonl', n=3)",
}
_HEADERS = st.builds(
    lambda dtype, order, shape: repr({"descr": dtype, "fortran_order": order, "shape": shape}),
    st.sampled_from(
        [
            "<f4",
            "|u1",
            "<i8",
            "|O",
            "<U9",
            ">f8",
            "<c16",
            "|b1",
            "|V8",
            "<M8[s]",
            "|S3",
            "<f2",
            "x",
            [("a", "<i4")],
            "<U999999999",
            3,
            "|S0",
            "<U0",
        ]
    ),
    st.sampled_from([True, False, 3]),
    st.lists(
        st.sampled_from([0, 1, 2, 3, 5, 48, -1, 2**31, 2**40, 2**63, 10**30, 1.5, "a"]), max_size=4
    ).map(tuple),
) | st.sampled_from(
    ["{" * 300, "{}", "", "(", "1" * 5000, "{'shape': (" + "1" * 5000 + ",)}", "\x00", "[" * 9000]
)
_CELLS = st.sampled_from(
    [*values.WORDS, '"', '""', "a,b", "1,5", "1.5", "-0", "TRUE", "NaN", "inf", "1e400"]
)


def _member(content: bytes, header: str) -> bytes:
    """The bytes of a .npy file with another header."""
    length = struct.unpack("<H", content[8:10])[0]
    text = header.encode("utf-8", "surrogatepass")[:60000] + b"\n"
    return content[:8] + struct.pack("<H", len(text)) + text + content[10 + length :]


def zip_edited(
    content: bytes, number: int, change: Callable[[str, bytes], tuple[str, bytes]]
) -> bytes:
    """A zip file in which one member is changed, and whose checksums are right."""
    out = io.BytesIO()
    warnings.filterwarnings("ignore", "Duplicate name")
    with (
        zipfile.ZipFile(io.BytesIO(content)) as old,
        zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as new,
    ):
        for at, info in enumerate(old.infolist()):
            name, data = info.filename, old.read(info)
            if at == number % len(old.infolist()):
                name, data = change(name, data)
            new.writestr(name, data)
    return out.getvalue()


def _cell(text: str, line: int, cell: int, new: str) -> str:
    lines = text.split("\n")
    mark = "\t" if "\t" in text else ","
    at = line % len(lines)
    cells = lines[at].split(mark)
    cells[cell % len(cells)] = new
    lines[at] = mark.join(cells)
    return "\n".join(lines)


def _json_line(text: str, line: int, place: int, new: Any, how: str) -> str:
    lines = text.split("\n")
    at = line % max(1, len(lines) - 1)
    value = json.loads(lines[at])
    paths = values.places(value)
    lines[at] = values.json_text(values.put(value, paths[place % len(paths)], new, how))
    return "\n".join(lines)


HOW = st.sampled_from(["put", "put", "put", "remove", "rename", "double"])
CHANGES: st.SearchStrategy[tuple[Any, ...]] = st.one_of(
    st.tuples(st.just("bytes"), values.EDITS),
    st.tuples(st.just("member"), st.integers(0, 9), values.EDITS),
    st.tuples(st.just("header"), st.integers(0, 9), _HEADERS),
    st.tuples(
        st.just("name"),
        st.integers(0, 9),
        st.sampled_from(
            [
                "x.npy",
                "y.npy",
                "ids.npy",
                "../x.npy",
                "a/b.npy",
                "x",
                "columns_.npy",
                "columns_label.npy",
                "columns_id.npy",
                "columns_\n.npy",
            ]
        ),
    ),
    st.tuples(st.just("cell"), st.integers(0, 60), st.integers(0, 9), _CELLS),
    st.tuples(st.just("value"), st.integers(0, 60), st.integers(0, 40), values.JSON_VALUES, HOW),
    st.tuples(
        st.just("kind"),
        st.sampled_from(["folder", "fifo", "nowhere", "loop", "empty", "device", "huge"]),
    ),
)


def changed(content: bytes, change: tuple[Any, ...]) -> bytes:
    """The content of a file after a change; a change that is not for its format edits bytes."""
    kind, *how = change
    if kind in ("member", "header", "name") and content[:2] == b"PK":
        if kind == "member":
            return zip_edited(content, how[0], lambda n, d: (n, values.edited(d, how[1])))
        if kind == "header":
            return zip_edited(
                content,
                how[0],
                lambda n, d: (n, _member(d, how[1]) if d[:6] == b"\x93NUMPY" else d),
            )
        return zip_edited(content, how[0], lambda _, d: (how[1], d))
    if kind == "cell" and content[:2] != b"PK":
        try:
            return _cell(content.decode(), *how).encode("utf-8", "surrogatepass")
        except UnicodeDecodeError:
            pass
    if kind == "value" and content[:1] == b"{":
        return _json_line(content.decode(), *how).encode("utf-8", "surrogatepass")
    edits = next(
        (item for item in how if isinstance(item, list) and item and isinstance(item[0], tuple)),
        None,
    )
    return values.edited(content, edits or [(0.5, 4, b"\xff\x00")])


def replaced(path: Path, change: tuple[Any, ...]) -> None:
    """Changes a file, or puts something of another kind in its place."""
    if change[0] != "kind":
        path.write_bytes(changed(path.read_bytes(), change))
        return
    path.unlink()
    what = change[1]
    if what == "folder":
        path.mkdir()
    elif what == "fifo":
        os.mkfifo(path)
    elif what in ("nowhere", "loop", "device"):
        path.symlink_to({"nowhere": "not-there", "loop": path.name, "device": "/dev/zero"}[what])
    elif what == "huge":
        with path.open("wb") as file:
            file.truncate(2**36)
    else:
        path.touch()


DAMAGED = st.tuples(st.sampled_from(sorted(READERS)), CHANGES)


def read(space: Workspace, given: tuple[str, tuple[Any, ...]]) -> Iterator[Outcome]:
    """A damaged file of data, ids or scores: loaded, and given to a command."""
    name, change = given
    replaced(space.restored() / name, change)
    text = READERS[name]
    if text.split("(")[0] in ("by_ids", "ranked", "by_memorisation"):
        line = bases.words("unlearn original.safetensors --out new.safetensors --forget")
        yield of_command([*line, text], space)
        return
    yield of_call(lambda: DATASETS.parse(text).load(), space.folder)
    if len(repr(change)) % 4 == 0:
        line = bases.words("train --model 'mlp(hidden=(4,))' --out new.safetensors --data")
        yield of_command([*line, text], space)
