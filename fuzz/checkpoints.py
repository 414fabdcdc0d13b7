"""Checkpoints: safetensors and files of torch with changed bytes, headers and tensors."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st

from fuzz import bases, values
from fuzz.files import HOW, replaced, zip_edited
from fuzz.watching import Outcome, Workspace, of_command

_COMMANDS = (
    "unlearn original.safetensors --forget GONE --out new.safetensors",
    "evaluate gone.safetensors --original original.safetensors --forget GONE --out new",
    "scores original.safetensors --score loss --out new.csv",
    "analyze --original original.safetensors --oracle oracle1.safetensors --forget GONE "
    "--out new.html",
    "verify original.json gone.json --files .",
)
_PT = "unlearn original.pt --data PEOPLE --model MODEL --forget GONE --out new.safetensors"
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
    st.tuples(st.just("header"), st.integers(0, 10**6), values.JSON_VALUES, HOW, st.integers(0, 9)),
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


def stored(space: Workspace, given: tuple[Any, ...]) -> Iterator[Outcome]:
    folder = space.restored()
    kind, *how = given
    line = _COMMANDS[how[-1] % len(_COMMANDS)] if isinstance(how[-1], int) else _PT
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
        line = _PT if how[0].endswith(".pt") else _COMMANDS[0]
    yield of_command(bases.words(line), space)


def header_edited(path: Path, place: int, new: Any, how: str) -> None:
    """Changes one value in the header of a safetensors file."""
    content = path.read_bytes()
    length = struct.unpack("<Q", content[:8])[0]
    header = json.loads(content[8 : 8 + length])
    paths = values.places(header)
    changed = values.json_text(values.put(header, paths[place % len(paths)], new, how))
    text = changed.encode("utf-8", "surrogatepass")
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
