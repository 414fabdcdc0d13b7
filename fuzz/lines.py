"""Command lines of every command, from its own arguments; most have one thing wrong."""

from __future__ import annotations

from collections.abc import Iterator

from hypothesis import strategies as st

from eigenforget.cli import COMMANDS, app
from fuzz import bases, values
from fuzz.watching import Outcome, Workspace, of_command

_FILES = (
    *("original.safetensors", "gone.safetensors", "oracle1.safetensors", "original.pt", ".", "new"),
    *("original.json", "results", "results/records", "results/records/03-gone.json", "ledger"),
    *("key.pem", "key.pub.pem", "salt", "plan.toml", "people.npz", "ids.txt", "table.csv"),
    *("gone.split.json", "nowhere", "new.safetensors", "new/new.json", "people.npz/x", "new.html"),
    *("bench", "store", "bench.toml"),
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
    "plan": ("bench.toml", "plan.toml"),
    "folders": ("bench", "results"),
    "folder": ("store", "store/models"),
    "into": ("new.md",),
    "store": ("new.store", "", "store"),
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


def commanded(space: Workspace, line: list[str]) -> Iterator[Outcome]:
    space.restored()
    # No operating system passes these in an argument.
    yield of_command([word.replace("\x00", "\\0") for word in line], space)
