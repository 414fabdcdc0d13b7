"""What is fuzzed: for each target a strategy of inputs, and what is done with one of them."""

from __future__ import annotations

import hashlib
import io
import json
import struct
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from hypothesis import strategies as st

from eigenforget.cli import COMMANDS, app
from eigenforget.core.spec import as_json, from_json, spell
from eigenforget.data import DATASETS
from eigenforget.evaluation.audits import AUDITS
from eigenforget.evaluation.metrics import METRICS
from eigenforget.methods import METHODS
from eigenforget.models import MODELS
from eigenforget.requests import REQUESTS
from eigenforget.training.recipe import RECIPES
from fuzz import bases, values
from fuzz.watching import Outcome, Workspace, of_call, of_command


class Target(NamedTuple):
    """One kind of inputs.

    Attributes:
        name: What they are called in the figures.
        share: Of all inputs.
        inputs: The strategy.
        run: Takes a workspace and an input, gives what happened.
    """

    name: str
    share: float
    inputs: st.SearchStrategy[Any]
    run: Callable[[Workspace, Any], Iterator[Outcome]]


POOLS: dict[str, tuple[str | int, ...]] = {
    "path": ("people.npz", "images.npz", "people.csv", "people.jsonl", "pictures", "ids.txt"),
    "label": ("label",),
    "column": ("age", "label", "score", "group", "id", "fine"),
    "group": ("family 1", "family 2"),
    "ids": ("person-02", "person-11"),
    "id": ("name", ""),
    "split": ("side", ""),
    "categorical": ("colour",),
    "text": ("text",),
    "tokenizer": ("words", "hf:nowhere"),
    "root": ("nowhere",),
    "workers": (0, 1),
}
_LABELS = {**POOLS, "label": ("x",)}
_LABELS.pop("label")
REGISTRIES = {
    "data": (DATASETS, values.specs(DATASETS, POOLS)),
    "model": (MODELS, values.specs(MODELS, {})),
    "recipe": (RECIPES, values.specs(RECIPES, {})),
    "request": (REQUESTS, values.specs(REQUESTS, {**_LABELS, "path": ("scores.csv", "ids.txt")})),
    "method": (METHODS, values.specs(METHODS, {})),
    "metric": (
        METRICS,
        st.sampled_from([f"{k.name}{e}" for k in METRICS for e in ("", "()", "(x=1)")]),
    ),
    "audit": (AUDITS, values.specs(AUDITS, {})),
}
OWN = st.sampled_from(
    [
        f"python(path={path!r}{more})"
        for path in ("mine.py:Mine", "mine.py:copied", "mine.py:number", "mine.py:", "x.py:X", "")
        for more in ("", ", epochs=1", ", times=1", ", x=1")
    ]
    + [f"python(path={path})" for path in values.LITERALS[:60]]
)


def _parsed(space: Workspace, given: tuple[str, str]) -> Iterator[Outcome]:
    """A spec: parsed, spelled and parsed again, and used as far as the work."""
    kind, text = given
    registry, _ = REGISTRIES[kind]
    space.restored()

    def use() -> None:
        if kind == "metric":
            registry.kind(text)
            return
        found = registry.parse(text)
        spelling = spell(found)
        if spell(registry.parse(spelling)) != spelling:
            raise AssertionError(f"{spelling} is spelled in another way when parsed")
        resolved = json.loads(json.dumps(as_json(found)))
        if spell(from_json(resolved, registry, kind)) != spelling:
            raise AssertionError(f"{spelling} does not come back from JSON")
        if kind == "data":
            found.load()
        elif kind == "model":
            shape = (3, 8, 8) if kind != "mlp" else (5,)
            found.build(num_classes=3, input_shape=shape, seed=0)

    yield of_call(use, space.folder)
    if kind in ("data", "model", "recipe") and len(text) % 4:
        return  # the command line takes more time and does the same with them
    trained = ["--model", bases.MODEL, "--recipe", "recipe(epochs=1)", "--out", "new.safetensors"]
    data = ["--data", "npz(path='people.npz')"]
    line = {
        "data": ["train", "--data", text, *trained],
        "model": ["train", *data, *trained[2:], "--model", text],
        "recipe": ["train", *data, *trained[:2], *trained[4:], "--recipe", text],
        "request": ["unlearn", "original.safetensors", *trained[4:], "--forget", text],
        "method": [
            "unlearn",
            "original.safetensors",
            *trained[4:],
            "--forget",
            bases.GONE,
            "--method",
            text,
        ],
    }.get(
        kind,
        [
            "evaluate",
            "--original",
            "original.safetensors",
            "--forget",
            bases.GONE,
            "--out",
            "new",
            f"--{kind}",
            text,
        ],
    )
    yield of_command(line, space)


def _pairs() -> st.SearchStrategy[tuple[str, str]]:
    return st.sampled_from(sorted(REGISTRIES)).flatmap(
        lambda kind: st.tuples(st.just(kind), st.one_of(*[REGISTRIES[kind][1]] * 8, OWN))
    )


# Command lines.

_FILES = (
    *("original.safetensors", "gone.safetensors", "oracle1.safetensors", "original.pt", ".", "new"),
    *("original.json", "results", "results/records", "results/records/03-gone.json", "ledger"),
    *("key.pem", "key.pub.pem", "salt", "plan.toml", "people.npz", "ids.txt", "table.csv"),
    *("gone.split.json", "nowhere", "new.safetensors", "new/new.json", "people.npz/x", "new.html"),
)
_OPTIONS: dict[str, tuple[str, ...]] = {
    "data": (
        "npz(path='people.npz')",
        "digits()",
        "builtin()",
        "table(path='people.csv', label='label', drop=('name', 'text', 'house', 'side', 'colour'))",
    ),
    "model": (bases.MODEL, "mlp(hidden=(4,))", "small_resnet(width=2)", "gone"),
    "recipe": (bases.RECIPE, "recipe()"),
    "forget": (
        bases.GONE,
        "by_class(label=1)",
        "at_random(n=3)",
        "by_ids(path='ids.txt')",
        "by_ids(path='-')",
    ),
    "without": (bases.GONE, "by_class(label=1)"),
    "method": ("finetune(epochs=1)", "muda()", "head_mask()", "masked(inner=finetune())"),
    "out": (
        "new",
        "new.safetensors",
        "new.html",
        "new.csv",
        "results",
        "gone.safetensors",
        "nowhere/new.safetensors",
        "key.pem",
    ),
    "original": ("original.safetensors", "original.pt"),
    "oracle": ("oracle1.safetensors", "oracle2.safetensors"),
    "peer": ("gone.safetensors",),
    "checkpoint": ("original.safetensors", "gone.safetensors", "original.pt"),
    "models": ("gone.safetensors",),
    "records": ("results/records", "ledger", "results", "results/records/03-gone.json"),
    "record": ("gone.json", "results/records/03-gone.json"),
    "evaluated": ("results/records",),
    "key": ("key.pem", "new.pem"),
    "salt": ("salt", "new.salt"),
    "hash-ids": ("salt",),
    "ledger": ("ledger", "new.ledger"),
    "public-key": ("key.pub.pem",),
    "files": (".", "results"),
    "require": ("lp<=band", "forget_accuracy<=0.5", "lp>=band"),
    "track": ("tensorboard:new",),
    "plan": ("plan.toml",),
    "folders": ("results", "results/records"),
    "into": ("new.md",),
    "store": ("new.store", ""),
    "backend": ("sequential", "processes", "ray", "slurm"),
    "device": ("cpu", "auto", "cpu", "auto", "cuda", "mps"),
    "devices": ("1", "1", "2"),
    "strategy": ("auto", "ddp"),
    "precision": ("32-true", "bf16-mixed", "64-true"),
    "layer": ("", "1", "2"),
    "also-layer": ("1", "2"),
    "skip": ("relearning", "klom"),
    "metric": ("python(path='mine.py:Mine')",),
    "audit": ("relearning(steps=2)", "klom()"),
    "map": ("tsne", "umap"),
    "again": ("error", "skip"),
    "score": ("memorisation", "loss", "confidence", "margin", "lp_gap"),
    "format": ("csv", "parquet", "markdown", "latex"),
    "name": ("muda", "retrain"),
    "max-size": ("0", "1G"),
    "retain-fraction": ("1.0", "0.5", "0"),
    "expect-tip": ("sha256:" + "0" * 64,),
}
_FLAGS = ("bool",)


def _arguments() -> dict[tuple[str, ...], list[tuple[str, bool, bool, bool]]]:
    """(name, needed, whether it is a flag, whether it stands without its name) by command."""
    found = {}
    commands = [((c.replace("_", "-"),), app[c.replace("_", "-")]) for c in COMMANDS]
    commands += [(("cache", c), app["cache"][c]) for c in ("list", "prune", "check")]
    for words, command in commands:
        found[words] = [
            (
                argument.names[0].lower().lstrip("-"),
                bool(argument.required),
                argument.hint is bool,
                not argument.names[0].startswith("--") or argument.index is not None,
            )
            for argument in command.assemble_argument_collection()
            if not argument.children
        ]
    return found


ARGUMENTS = _arguments()


_ENDINGS = {
    "train": "new.safetensors",
    "unlearn": "new.safetensors",
    "scores": "new.csv",
    "analyze": "new.html",
    "report": "new.html",
    "certificate": "new.html",
    "keygen": "new.pem",
}
"""What --out, or the new file, is called for commands that do not take just any name."""


def _line(words: tuple[str, ...]) -> st.SearchStrategy[list[str]]:
    """Valid lines of a command, as far as each of their values is valid alone."""
    needed, further = [], []
    for name, required, flag, bare in ARGUMENTS[words]:
        if flag:
            further.append(st.just([f"--{name}"]))
            continue
        pool = _OPTIONS.get(name, ("0", "1", "2"))
        if name in ("out", "key") and words[0] in _ENDINGS:
            pool = (_ENDINGS[words[0]],)
        value = st.sampled_from((pool[0], *pool))
        pair = value.map(lambda text, n=name, b=bare: [text] if b else [f"--{n}", text])
        (needed if required or (bare and words[0] != "scores") else further).append(pair)
    options = st.lists(st.one_of(further), max_size=3) if further else st.just([])
    given = st.tuples(st.tuples(*needed).map(list), options).map(lambda both: both[0] + both[1])
    return given.map(lambda parts: [*words, *(word for part in parts for word in part)])


def _damaged_line(line: list[str], at: int, word: str, how: str) -> list[str]:
    """A line with one word replaced, added, doubled or left out."""
    at %= len(line)
    new = {"instead": [word], "more": [line[at], word], "cut": [], "twice": [line[at]] * 2}[how]
    return [*line[:at], *new, *line[at + 1 :]]


_LINES = st.sampled_from(sorted(ARGUMENTS)).flatmap(_line)
COMMAND_LINES = st.one_of(
    _LINES,
    *[
        st.builds(
            _damaged_line,
            _LINES,
            st.integers(1, 30),
            st.sampled_from((*values.WORDS, *_FILES, "--help", "--version", "--out", "--no-x")),
            st.sampled_from(("instead", "instead", "instead", "more", "cut", "twice")),
        )
    ]
    * 3,
)


def _commanded(space: Workspace, line: list[str]) -> Iterator[Outcome]:
    space.restored()
    # No operating system passes these in an argument.
    yield of_command([word.replace("\x00", "\\0") for word in line], space)


# Readers.

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


_HOW = st.sampled_from(["put", "put", "put", "remove", "rename", "double"])
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
                "",
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
    st.tuples(st.just("value"), st.integers(0, 60), st.integers(0, 40), values.JSON_VALUES, _HOW),
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
        import os

        os.mkfifo(path)
    elif what in ("nowhere", "loop", "device"):
        path.symlink_to({"nowhere": "not-there", "loop": path.name, "device": "/dev/zero"}[what])
    elif what == "huge":
        with path.open("wb") as file:
            file.truncate(2**36)
    else:
        path.touch()


def _read(space: Workspace, given: tuple[str, tuple[Any, ...]]) -> Iterator[Outcome]:
    name, change = given
    replaced(space.restored() / name, change)
    text = READERS[name]
    if text.split("(")[0] in ("by_ids", "ranked", "by_memorisation"):
        yield of_command(
            ["unlearn", "original.safetensors", "--forget", text, "--out", "new.safetensors"], space
        )
        return
    yield of_call(lambda: DATASETS.parse(text).load(), space.folder)
    if len(repr(change)) % 4:
        return
    yield of_command(
        ["train", "--data", text, "--model", "mlp(hidden=(4,))", "--out", "new.safetensors"], space
    )


# Records.

RECORDS = ("00-original", "01-oracle-1", "02-oracle-2", "03-gone")
_ON_RECORDS = [
    ["report", "results/records", "--out", "new.html"],
    ["card", "results/records"],
    *(
        ["export", "results/records", "--format", f, "--out", "new.out"]
        for f in ("csv", "parquet", "markdown", "latex")
    ),
    ["check", "results/records", "--require", "lp_gap<=band"],
    [
        "certificate",
        "results/records/03-gone.json",
        "--out",
        "new.html",
        "--evaluated",
        "results/records",
    ],
    ["sign", "results/records", "--key", "key.pem", "--overwrite"],
    ["verify", "results/records", "--files", ".", "--json"],
    [
        "evaluate",
        "gone.safetensors",
        "--original",
        "original.safetensors",
        "--forget",
        bases.GONE,
        "--out",
        "new",
    ],
    ["certificate", "gone.json", "--out", "new.html"],
    [
        "unlearn",
        "original.safetensors",
        "--forget",
        bases.GONE,
        "--out",
        "new.safetensors",
        "--ledger",
        "ledger",
    ],
    ["verify", "ledger", "."],
]
SEALED = st.tuples(
    st.sampled_from(
        [
            *(f"results/records/{name}.json" for name in RECORDS),
            "gone.json",
            "ledger/000001-unlearn-gone.json",
        ]
    ),
    st.integers(0, 10**6),
    values.JSON_VALUES,
    _HOW,
    st.integers(0, len(_ON_RECORDS) - 1),
)


def resealed(folder: Path, name: str, change: Callable[[Any], Any]) -> None:
    """Changes the value in a record, and seals it and those that follow in its chain anew."""
    path = folder / name
    chain = sorted(path.parent.glob("0*.json")) if "/" in name else [path]
    previous: Any = None
    for item in chain:
        value = json.loads(item.read_text(encoding="utf-8"))
        if item == path:
            value = change(value)
        if isinstance(value, dict):
            value = value | {"previous": previous if item != chain[0] else value.get("previous")}
            value.pop("digest", None)
            body = values.json_text(value).encode("utf-8", "surrogatepass")
            value["digest"] = previous = f"sha256:{hashlib.sha256(body).hexdigest()}"
        item.write_bytes((values.json_text(value) + "\n").encode("utf-8", "surrogatepass"))
    for signature in path.parent.glob("*.sig"):
        signature.unlink()


def _recorded(space: Workspace, given: tuple[str, int, Any, str, int]) -> Iterator[Outcome]:
    name, place, new, how, number = given

    def change(value: Any) -> Any:
        paths = values.places(value)
        return values.put(value, paths[place % len(paths)], new, how)

    resealed(space.restored(), name, change)
    yield of_command(["verify", str(Path(name).parent) if "/" in name else name], space)
    yield of_command(_ON_RECORDS[number], space)


# Checkpoints.

_ON_MODELS = [
    ["unlearn", "original.safetensors", "--forget", bases.GONE, "--out", "new.safetensors"],
    [
        "evaluate",
        "gone.safetensors",
        "--original",
        "original.safetensors",
        "--forget",
        bases.GONE,
        "--out",
        "new",
    ],
    ["scores", "original.safetensors", "--score", "loss", "--out", "new.csv"],
    [
        "analyze",
        "--original",
        "original.safetensors",
        "--oracle",
        "oracle1.safetensors",
        "--forget",
        bases.GONE,
        "--out",
        "new.html",
    ],
    ["verify", "original.json", "gone.json", "--files", "."],
]
_PT = [
    "unlearn",
    "original.pt",
    "--data",
    "npz(path='people.npz')",
    "--model",
    bases.MODEL,
    "--forget",
    bases.GONE,
    "--out",
    "new.safetensors",
]
TENSORS: dict[str, Callable[[], Any]] = {
    "list": lambda: [1],
    "text": lambda: "x",
    "none": lambda: None,
    "nested": lambda: {"a": torch.ones(1)},
    "scalar": lambda: torch.tensor(1.0),
    "nan": lambda: torch.full((8, 5), float("nan")),
    "double": lambda: torch.ones(8, 5, dtype=torch.float64),
    "half": lambda: torch.ones(8, 5, dtype=torch.float16),
    "whole": lambda: torch.ones(8, 5, dtype=torch.int64),
    "bool": lambda: torch.ones(8, 5, dtype=torch.bool),
    "complex": lambda: torch.ones(8, 5, dtype=torch.complex64),
    "sparse": lambda: torch.eye(8).to_sparse(),
    "meta": lambda: torch.ones(8, 5, device="meta"),
    "empty": lambda: torch.ones(0, 5),
    "expanded": lambda: torch.ones(1).expand(2**40),
    "parameter": lambda: torch.nn.Parameter(torch.ones(8, 5)),
    "quantised": lambda: torch.quantize_per_tensor(torch.ones(8, 5), 0.1, 0, torch.qint8),
    "other shape": lambda: torch.ones(5, 8),
    "float8": lambda: torch.ones(8, 5).to(torch.float8_e4m3fn),
}
CHECKPOINTS = st.one_of(
    st.tuples(
        st.just("bytes"),
        st.sampled_from(["original.safetensors", "gone.safetensors", "original.pt"]),
        values.EDITS,
        st.integers(0, 9),
    ),
    st.tuples(
        st.just("header"), st.integers(0, 10**6), values.JSON_VALUES, _HOW, st.integers(0, 9)
    ),
    st.tuples(
        st.just("length"),
        st.sampled_from([0, 1, 7, 100, 10**6, 2**32, 2**63, 2**64 - 1]),
        st.integers(0, 9),
    ),
    st.tuples(st.just("member"), st.integers(0, 9), values.EDITS),
    st.tuples(
        st.just("tensor"),
        st.sampled_from(sorted(TENSORS)),
        st.sampled_from(["one", "all", "wrapped", "deep", "renamed"]),
    ),
    st.tuples(
        st.just("kind"),
        st.sampled_from(["original.safetensors", "original.pt"]),
        st.sampled_from(["folder", "fifo", "nowhere", "loop", "empty", "device", "huge"]),
    ),
)


def _stored(space: Workspace, given: tuple[Any, ...]) -> Iterator[Outcome]:
    folder = space.restored()
    kind, *how = given
    line = _ON_MODELS[how[-1] % len(_ON_MODELS)] if isinstance(how[-1], int) else _PT
    if kind == "bytes":
        path = folder / how[0]
        path.write_bytes(values.edited(path.read_bytes(), how[1]))
        line = _PT if path.suffix == ".pt" else line
    elif kind == "header":
        header_edited(folder / "original.safetensors", *how[:3])
    elif kind == "length":
        path = folder / "original.safetensors"
        path.write_bytes(struct.pack("<Q", how[0]) + path.read_bytes()[8:])
    elif kind == "member":
        path = folder / "original.pt"
        path.write_bytes(
            zip_edited(path.read_bytes(), how[0], lambda n, d: (n, values.edited(d, how[1])))
        )
    elif kind == "tensor":
        _save_odd(folder / "original.pt", *how)
    else:
        replaced(folder / how[0], ("kind", how[1]))
        line = _PT if how[0].endswith(".pt") else _ON_MODELS[0]
    yield of_command(line, space)


def header_edited(path: Path, place: int, new: Any, how: str) -> None:
    """Changes one value in the header of a safetensors file."""
    content = path.read_bytes()
    length = struct.unpack("<Q", content[:8])[0]
    header = json.loads(content[8 : 8 + length])
    paths = values.places(header)
    text = values.json_text(values.put(header, paths[place % len(paths)], new, how)).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + content[8 + length :])


def _save_odd(path: Path, what: str, where: str) -> None:
    state = dict(torch.load(path, weights_only=True))
    first, odd = next(iter(state)), TENSORS[what]()
    changed: Any = state | {first: odd}
    if where == "all":
        changed = odd
    elif where == "wrapped":
        changed = {"state_dict": changed, "model": {"x": odd}, "epoch": 3}
    elif where == "deep":
        changed = {"a": {"b": changed}}
    elif where == "renamed":
        changed = {3: odd, (1, 2): odd} | state
    try:
        torch.save(changed, path)
    except (RuntimeError, NotImplementedError):
        np.save(path.open("wb"), np.ones(3))


# Plans and the other small files.

_PLAN_VALUES = st.sampled_from(
    [
        *(
            "",
            "''",
            '""',
            "0",
            "-1",
            "1" * 30,
            "1" * 5000,
            "1e999",
            "nan",
            "inf",
            "true",
            "[]",
            "{}",
        ),
        *(
            "[[1]]",
            "[1, 'a']",
            "1979-05-27",
            "07:32:00",
            "0x" + "f" * 400,
            "'digits()'",
            "'muda()'",
        ),
        *("'npz(path=\"nowhere.npz\")'", "['digits()', 3]", "[" * 3000 + "]" * 3000, "'a\\nb'"),
        *(
            '"\\u0000"',
            '"\\u001b[31m"',
            '"\\n"',
            "{a = 1}",
            "{a.b.c = 1}",
            "'[red]x[/red]'",
            "1_000",
        ),
        *(
            "'by_ids(path=\"-\")'",
            "'python(path=\"mine.py:Mine\")'",
            "[10, 11, 0]",
            "[1.5, nan]",
            "'x' 'y'",
        ),
        *(
            "[" + "1," * 3000 + "]",
            "[" + "'finetune()'," * 900 + "]",
            "'" + "a" * 20000 + "'",
            "-0.0",
        ),
        "[" + ",".join(map(str, range(20000))) + "]",
    ]
)
PLANS = st.one_of(
    st.tuples(
        st.just("line"),
        st.integers(0, 20),
        _PLAN_VALUES,
        st.sampled_from(["value", "double", "cut", "key"]),
    ),
    st.tuples(st.just("bytes"), values.EDITS),
    st.tuples(
        st.just("kind"),
        st.sampled_from(["folder", "fifo", "nowhere", "loop", "empty", "device", "huge"]),
    ),
    st.tuples(
        st.just("lines"),
        st.lists(st.tuples(st.integers(0, 20), _PLAN_VALUES), min_size=2, max_size=6),
    ),
    st.tuples(
        st.just("deep"),
        st.sampled_from(
            [
                "a" + ".b" * 2000 + " = 1\n",
                "[" + "a." * 2000 + "b]\n",
                "[[grid]]\n" * 20000,
                "a = " + "{b = " * 500 + "1" + "}" * 500,
            ]
        ),
    ),
)


def _planned(space: Workspace, given: tuple[Any, ...]) -> Iterator[Outcome]:
    path = space.restored() / "plan.toml"
    kind, *how = given
    if kind in ("line", "lines"):
        lines = bases.PLAN.split("\n")
        for number, value, *what in [how] if kind == "line" else how[0]:
            at = number % len(lines)
            key = lines[at].split(" = ")[0]
            lines[at] = {
                "value": f"{key} = {value}",
                "double": f"{lines[at]}\n{lines[at]}",
                "cut": "",
                "key": f"{value} = 1",
            }[what[0] if what else "value"]
        path.write_text("\n".join(lines), encoding="utf-8")
    elif kind == "deep":
        path.write_text(how[0] + bases.PLAN, encoding="utf-8")
    else:
        replaced(path, given)
    yield of_command(
        ["bench", "plan.toml", "--store", "new.store", "--backend", "sequential", "--dry-run"],
        space,
    )


_SMALL = {
    "ids.txt": [
        "unlearn",
        "original.safetensors",
        "--forget",
        "by_ids(path='ids.txt')",
        "--out",
        "new.safetensors",
    ],
    "salt": [
        "unlearn",
        "original.safetensors",
        "--forget",
        bases.GONE,
        "--out",
        "new.safetensors",
        "--hash-ids",
        "salt",
    ],
    "key.pem": ["sign", "results/records", "--key", "key.pem", "--overwrite"],
    "key.pub.pem": ["verify", "results/records", "--public-key", "key.pub.pem"],
    "results/records/03-gone.json.sig": [
        "verify",
        "results/records",
        "--public-key",
        "key.pub.pem",
    ],
    "results/records/03-gone.json": ["report", "results/records", "--out", "new.html"],
    "results/records/split.json": ["verify", "results/records", "--files", "."],
    "gone.split.json": ["verify", "gone.json", "--files", "."],
    "gone.json": [
        "evaluate",
        "gone.safetensors",
        "--original",
        "original.safetensors",
        "--forget",
        bases.GONE,
        "--out",
        "new",
    ],
    "ledger/000001-unlearn-gone.json": [
        "unlearn",
        "original.safetensors",
        "--forget",
        bases.GONE,
        "--out",
        "new.safetensors",
        "--ledger",
        "ledger",
    ],
    "mine.py": [
        "unlearn",
        "original.safetensors",
        "--forget",
        bases.GONE,
        "--out",
        "new.safetensors",
        "--method",
        "python(path='mine.py:Mine')",
    ],
}
_PIECES = [
    "lp_gap",
    "da",
    "<=",
    ">=",
    "<",
    "==",
    "=",
    "band",
    "0.5",
    " or ",
    " and ",
    "(",
    ")",
    "-",
    "+",
    "*",
    "nan",
    "inf",
    "1e999",
    " ",
    "x",
    "forget_accuracy",
    "\n",
    "é",
    "1" * 400,
    "±",
    "oracle",
    "original",
    "%",
]


def _small(space: Workspace, given: tuple[str, Any]) -> Iterator[Outcome]:
    name, how = given
    folder = space.restored()
    if name == "requirement":
        yield of_command(["check", "results/records", "--require", how], space)
        return
    replaced(folder / name, how)
    yield of_command(_SMALL[name], space)


SMALL = st.one_of(
    st.tuples(st.sampled_from(sorted(_SMALL)), CHANGES),
    st.tuples(st.just("requirement"), st.lists(st.sampled_from(_PIECES), max_size=6).map("".join)),
)


# Silent accepts.

_KEPT = [
    "results/records/00-original.json",
    "results/records/03-gone.json",
    "results/records/03-gone.json.sig",
    "results/records/split.json",
    "gone.json",
    "gone.split.json",
    "gone.safetensors",
    "original.json",
    "original.safetensors",
    "oracle1.safetensors",
    "ledger/000001-unlearn-gone.json",
]
BYTES = st.tuples(
    st.sampled_from(_KEPT),
    st.floats(0, 1),
    st.integers(1, 255),
    st.sampled_from(["flip", "flip", "cut", "put"]),
)


def _silent(space: Workspace, given: tuple[str, float, int, str]) -> Iterator[Outcome]:
    """One byte of a kept file changes: verify must not pass."""
    name, place, by, how = given
    folder = space.restored()
    path = folder / name
    content = path.read_bytes()
    at = min(int(place * len(content)), len(content) - 1)
    middle = {"flip": bytes([content[at] ^ by]), "cut": b"", "put": bytes([content[at], by])}[how]
    path.write_bytes(content[:at] + middle + content[at + 1 :])
    lines = [
        ["verify", "results/records", "--files", ".", "--public-key", "key.pub.pem"],
        ["verify", "gone.json", "--files", "."],
        ["verify", "original.json", "oracle1.json", "--files", "."],
        ["verify", "ledger", "--files", "."],
    ]
    ended = [of_command(line, space) for line in lines]
    yield from ended
    if all(item.kind == "answered" for item in ended):
        yield Outcome(
            "escape", f"silent accept: a byte of {name}", f"{how} at {at} of {len(content)}"
        )


TARGETS = (
    Target("command lines", 0.25, COMMAND_LINES, _commanded),
    Target("specs", 0.25, _pairs(), _parsed),
    Target("readers", 0.2, st.tuples(st.sampled_from(sorted(READERS)), CHANGES), _read),
    Target("records", 0.1, SEALED, _recorded),
    Target("checkpoints", 0.07, CHECKPOINTS, _stored),
    Target("plans", 0.05, PLANS, _planned),
    Target("small files", 0.05, SMALL, _small),
    Target("one byte", 0.03, BYTES, _silent),
)
