"""Valid files of every kind, made by the library itself, which the fuzzer then damages."""

from __future__ import annotations

import contextlib
import csv
import gzip
import json
import os
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from eigenforget.cli import main

ROWS = 48
MODEL, RECIPE = "mlp(hidden=(8, 4))", "recipe(epochs=20, batch_size=16)"
GONE = "by_ids(ids=('person-02', 'person-11', 'person-04'))"
PLAN = """title = "Small"
data = "npz(path='people.npz')"
model = ["mlp(hidden=(8,))", "mlp(hidden=(4,))"]
recipe = "recipe(epochs=1, batch_size=16)"
[[grid]]
request = ["by_class(label=1)", "by_class(label=2)"]
method = ["finetune(epochs=1)", "head_mask()"]
seeds = [0, 1]
oracles = [10, 11]
retain_fraction = [1.0, 0.5]
skip = ["relearning"]
also_layer = ["layers.0"]
layer = ""
map_points = 100
precision = "32-true"
channels_last = false
[[grid]]
request = "at_random(n=3)"
method = "identity()"
"""
BENCH = """data = "npz(path='people.npz')"
model = "mlp(hidden=(8, 4))"
recipe = "recipe(epochs=20, batch_size=16)"
[[grid]]
request = "by_class(label=1)"
method = ["identity()", "head_mask()"]
oracles = [10, 11]
skip = ["relearning", "linear_probe", "few_label_probe", "prototypes", "zrf", "u_lira"]
"""
COLOURS = ("red", "green", "blue")


def words(line: str) -> list[str]:
    """The arguments of a command line; GONE, MODEL, PEOPLE and OWN stand for specs."""
    named = {"GONE": GONE, "MODEL": MODEL, "PEOPLE": "npz(path='people.npz')"}
    named["OWN"] = "python(path='mine.py:Mine')"
    return [named.get(word, word) for word in shlex.split(line)]


def make(folder: Path) -> Path:
    """All base files in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    before = Path.cwd()
    os.chdir(folder)
    try:
        _data(folder)
        _models()
        _results()
    finally:
        os.chdir(before)
    return folder


def _data(folder: Path) -> None:
    rng = np.random.default_rng(0)
    y = np.arange(ROWS) % 3
    x = (rng.normal(size=(ROWS, 5)) + 3 * np.eye(5)[y]).astype(np.float32)
    ids = np.array([f"person-{i:02d}" for i in range(ROWS)])
    groups = np.array([f"family {i % 8}" for i in range(ROWS)])
    np.savez(folder / "people.npz", x=x, y=y, ids=ids, groups=groups, columns_age=y * 10 + 20)
    pictures = rng.integers(0, 255, (24, 6, 6, 3), dtype=np.uint8)
    np.savez_compressed(
        folder / "images.npz",
        x_train=pictures,
        y_train=np.arange(24) % 3,
        x_test=pictures[::2] // 2,
        y_test=np.arange(12) % 3,
    )
    rows = [_row(i, rng) for i in range(ROWS)]
    for name, mark in (("people.csv", ","), ("people.tsv", "\t")):
        with (folder / name).open("w", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, list(rows[0]), delimiter=mark)
            writer.writeheader()
            writer.writerows(rows)
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "people.jsonl").write_text(lines, encoding="utf-8")
    _parquet(folder / "people.parquet", rows)
    packed = gzip.compress((folder / "people.csv").read_bytes(), mtime=0)
    (folder / "people.csv.gz").write_bytes(packed)
    _images(folder / "pictures")
    _lists_of_images(folder)
    (folder / "ids.txt").write_text("person-02\nperson-11\n", encoding="utf-8")
    scores = "".join(f"{name},{i / 7}\n" for i, name in enumerate(ids))
    (folder / "scores.csv").write_text("id,score\n" + scores, encoding="utf-8")
    lines = "".join(json.dumps({"id": str(n), "score": i / 7}) + "\n" for i, n in enumerate(ids))
    (folder / "scores.jsonl").write_text(lines, encoding="utf-8")
    (folder / "plan.toml").write_text(PLAN, encoding="utf-8")
    (folder / "mine.py").write_text(OWN, encoding="utf-8")


def _row(i: int, rng: np.random.Generator) -> dict[str, Any]:
    return {
        "name": f"person-{i:02d}",
        "age": int(rng.integers(18, 90)),
        "income": round(float(rng.normal(3e4, 9e3)), 2),
        "colour": COLOURS[i % 3],
        "text": f"the {COLOURS[i % 3]} film, number {i}",
        "label": ("dog", "cat")[i % 2],
        "house": f"h{i % 7}",
        "side": "test" if i % 5 == 0 else "train",
    }


def _parquet(path: Path, rows: list[dict[str, Any]]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.Table.from_pylist(rows), path)


def _lists_of_images(folder: Path) -> None:
    files = sorted((folder / "pictures").rglob("*.*"))
    names = [file.relative_to(folder).as_posix() for file in files]
    lines = ["image;label;price", *(f"{name};{name.split('/')[1]};1,5" for name in names)]
    (folder / "list.csv").write_text("\n".join(lines), encoding="utf-8")
    held = [{"bytes": file.read_bytes(), "path": file.name} for file in files]
    rows = [{"image": cell, "label": n % 2} for n, cell in enumerate(held)]
    _parquet(folder / "pictures.parquet", rows)


def _images(folder: Path) -> None:
    rng = np.random.default_rng(1)
    for name in ("cat", "dog"):
        (folder / name).mkdir(parents=True)
        for i in range(4):
            pixels = rng.integers(0, 255, (6, 6, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{i}.{('png', 'jpg')[i % 2]}")


def _models() -> None:
    data = ("--data", "npz(path='people.npz')", "--model", MODEL, "--recipe", RECIPE)
    _run("train", *data, "--out", "original.safetensors")
    for seed in ("1", "2"):
        out = f"oracle{seed}.safetensors"
        _run("train", *data, "--seed", seed, "--without", GONE, "--out", out)
    method = ("--method", "finetune(epochs=1, batch_size=16)")
    gone = ("--forget", GONE, *method, "--ledger", "ledger", "--out", "gone.safetensors")
    _run("unlearn", "original.safetensors", *gone)
    from eigenforget.models.checkpoint import load_checkpoint

    torch.save(load_checkpoint("original.safetensors").tensors, "original.pt")


def _results() -> None:
    oracles = ("--oracle", "oracle1.safetensors", "--oracle", "oracle2.safetensors")
    _run("keygen", "key.pem", "--salt", "salt")
    _run(
        *("evaluate", "gone.safetensors", "--original", "original.safetensors", *oracles),
        *("--forget", GONE, "--skip", "relearning", "--out", "results"),
    )
    _run("sign", "results/records", "--key", "key.pem")
    _run("export", "results/records", "--format", "csv", "--out", "table.csv")
    Path("bench.toml").write_text(BENCH, encoding="utf-8")
    with contextlib.suppress(SystemExit):
        _run("bench", "bench.toml", "--store", "store", "--out", "bench", "--backend", "sequential")


def _run(*argv: str) -> None:
    main(list(argv))


OWN = '''"""A file of the user's own."""

from typing import ClassVar

from eigenforget.core.spec import configured
from eigenforget.methods.base import Method


@configured
class Mine(Method):
    name: ClassVar[str] = "mine"
    needs: ClassVar[tuple] = ()
    guarantee: ClassVar[str] = "none"
    source: ClassVar[str] = "me"
    role: ClassVar[str] = "unlearned"
    passes: ClassVar[str] = "none"
    epochs: int = 3

    def __call__(self, task):
        return task.student()


def copied(task, *, times: int = 1):
    return task.student()


number = 3
'''
