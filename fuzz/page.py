"""Writes the figures of the last `make fuzz` into docs/reliability.md, between its marks."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parent.parent / "docs" / "reliability.md"
BEGIN, END = "<!-- figures -->\n", "<!-- end -->"


def with_figures(page: str, inputs: dict[str, Any], kills: dict[str, Any]) -> str:
    """The page with these figures."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    ends = inputs["endings"]
    rows = [
        ("inputs", f"{sum(inputs['inputs'].values()):,}"),
        *((f"· {name}", f"{count:,}") for name, count in inputs["inputs"].items()),
        ("commands and calls that they made", f"{sum(ends.values()):,}"),
        ("· refused with one line", f"{ends.get('refused', 0):,}"),
        ("· answered", f"{ends.get('answered', 0) + ends.get('answered no', 0):,}"),
        ("· valid, up to the work", f"{ends.get('reached', 0):,}"),
        ("escapes and silent accepts", str(len(inputs["findings"]))),
        *((str(name), f"{value:,}") for name, value in kills.items()),
    ]
    table = "".join(f"| {name} | {value} |\n" for name, value in rows)
    return f"{before}{BEGIN}| figure | |\n|---|---:|\n{table}{END}{after}"


def main() -> None:
    """python -m fuzz.page INPUTS.json [KILLS.json]"""
    found = [json.loads(Path(name).read_text(encoding="utf-8")) for name in sys.argv[1:3]]
    kills = found[1]["figures"] if len(found) > 1 else {}
    PAGE.write_text(with_figures(PAGE.read_text(encoding="utf-8"), found[0], kills), "utf-8")


if __name__ == "__main__":
    main()
