"""Plans, keys, salts, signatures, ledgers, lists of ids, requirements, code of one's own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from hypothesis import strategies as st

from fuzz import bases, values
from fuzz.files import CHANGES, replaced
from fuzz.watching import Outcome, Workspace, of_command

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


def planned(space: Workspace, given: tuple[Any, ...]) -> Iterator[Outcome]:
    """A damaged plan, whose jobs are listed."""
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
    line = "bench plan.toml --store new.store --backend sequential --dry-run"
    yield of_command(bases.words(line), space)


_SMALL = {
    "ids.txt": "unlearn original.safetensors --out new.safetensors --forget \"by_ids(path='ids.txt')\"",
    "salt": "unlearn original.safetensors --out new.safetensors --forget GONE --hash-ids salt",
    "key.pem": "sign results/records --key key.pem --overwrite",
    "key.pub.pem": "verify results/records --public-key key.pub.pem",
    "results/records/03-gone.json.sig": "verify results/records --public-key key.pub.pem",
    "results/records/03-gone.json": "report results/records --out new.html",
    "results/records/split.json": "verify results/records --files .",
    "gone.split.json": "verify gone.json --files .",
    "gone.json": "evaluate gone.safetensors --original original.safetensors --forget GONE "
    "--out new",
    "ledger/000001-unlearn-gone.json": "unlearn original.safetensors --forget GONE "
    "--out new.safetensors --ledger ledger",
    "bench/table.csv": "leaderboard bench",
    "bench/scores.jsonl.gz": "leaderboard bench",
    "bench/*/summary.md": "leaderboard bench",
    "bench/*/seed0/records/000*.json": "leaderboard bench",
    "bench/*/seed0/records/004*.json": "report bench/people-mlp-by_class-label-1/seed0/records",
    "store/models/*.safetensors": "cache list store",
    "store/jobs/*.ok.json": "bench bench.toml --store store --out bench --backend sequential",
    "store/baselines/*/00*.json": "bench bench.toml --store store --out bench --dry-run",
    "mine.py": "unlearn original.safetensors --forget GONE --out new.safetensors --method OWN",
}
_PIECES = (
    *("lp_gap", "da", "<=", ">=", "<", "==", "=", "band", "0.5", " or ", " and ", "(", ")", "-"),
    *("+", "*", "nan", "inf", "1e999", " ", "x", "forget_accuracy", "\n", "é", "1" * 400, "±"),
    *("oracle", "original", "%"),
)


def small(space: Workspace, given: tuple[str, Any]) -> Iterator[Outcome]:
    """A damaged key, salt, signature, ledger, list of ids or file of code; a requirement."""
    name, how = given
    folder = space.restored()
    if name == "requirement":
        yield of_command(["check", "results/records", "--require", how], space)
        return
    replaced(next(folder.glob(name)), how)
    yield of_command(bases.words(_SMALL[name]), space)


SMALL = st.one_of(
    st.tuples(st.sampled_from(sorted(_SMALL)), CHANGES),
    st.tuples(st.just("requirement"), st.lists(st.sampled_from(_PIECES), max_size=6).map("".join)),
)
