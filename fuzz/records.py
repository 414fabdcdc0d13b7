"""Records: valid ones with changed values, sealed anew; and single bytes that verify must see."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from fuzz import bases, values
from fuzz.files import HOW
from fuzz.watching import Outcome, Workspace, of_command

_FILES = (
    *(f"results/records/{name}.json" for name in ("00-original", "01-oracle-1", "03-gone")),
    *("gone.json", "ledger/000001-unlearn-gone.json"),
)
_COMMANDS = (
    "report results/records --out new.html",
    "card results/records",
    *(
        f"export results/records --format {name} --out new.out"
        for name in ("csv", "parquet", "markdown", "latex")
    ),
    "check results/records --require 'lp<=band'",
    "certificate results/records/03-gone.json --out new.html --evaluated results/records",
    "certificate gone.json --out new.html",
    "sign results/records --key key.pem --overwrite",
    "verify results/records --files . --json",
    "verify ledger . --files .",
    "evaluate gone.safetensors --original original.safetensors --forget GONE --out new",
    "unlearn original.safetensors --forget GONE --out new.safetensors --ledger ledger",
)
SEALED = st.tuples(
    st.sampled_from(_FILES),
    st.integers(0, 10**6),
    values.JSON_VALUES,
    HOW,
    st.sampled_from(_COMMANDS),
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


def recorded(space: Workspace, given: tuple[str, int, Any, str, str]) -> Iterator[Outcome]:
    """A record with one value changed, verified and then used."""
    name, place, new, how, line = given

    def change(value: Any) -> Any:
        paths = values.places(value)
        return values.put(value, paths[place % len(paths)], new, how)

    resealed(space.restored(), name, change)
    yield of_command(["verify", str(Path(name).parent) if "/" in name else name], space)
    yield of_command(bases.words(line), space)


_KEPT = (
    *("results/records/00-original.json", "results/records/03-gone.json", "gone.json"),
    *("results/records/03-gone.json.sig", "results/records/split.json", "gone.split.json"),
    *("gone.safetensors", "original.json", "original.safetensors", "oracle1.safetensors"),
    *("ledger/000001-unlearn-gone.json", "store/models/original-*.safetensors"),
)
BYTES = st.tuples(
    st.sampled_from(_KEPT),
    st.floats(0, 1),
    st.integers(1, 255),
    st.sampled_from(["flip", "flip", "cut", "put"]),
)


def silent(space: Workspace, given: tuple[str, float, int, str]) -> Iterator[Outcome]:
    """One byte of a kept file changes: verify must not pass."""
    name, place, by, how = given
    folder = space.restored()
    path = next(folder.glob(name))
    content = path.read_bytes()
    at = min(int(place * len(content)), len(content) - 1)
    middle = {"flip": bytes([content[at] ^ by]), "cut": b"", "put": bytes([content[at], by])}[how]
    path.write_bytes(content[:at] + middle + content[at + 1 :])
    lines = map(
        bases.words,
        (
            "verify results/records --files . --public-key key.pub.pem",
            "verify gone.json --files .",
            "verify original.json oracle1.json --files .",
            "verify ledger --files .",
            "cache check store",
        ),
    )
    ended = [of_command(line, space) for line in lines]
    yield from ended
    if all(item.kind == "answered" for item in ended):
        yield Outcome(
            "escape", f"silent accept: a byte of {name}", f"{how} at {at} of {len(content)}"
        )
