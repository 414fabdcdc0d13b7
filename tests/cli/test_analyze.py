"""`eigenforget analyze`."""

from __future__ import annotations

from pathlib import Path

from eigenforget.cli import main

CLASS3 = "by_class(label=3)"


def run(*argv: object) -> None:
    main([str(a) for a in argv])


def test_analyze_draws_spectra_curves_and_projections(made: Path, tmp_path: Path) -> None:
    out = tmp_path / "analysis.html"
    run(
        "analyze",
        "--original",
        made / "original.safetensors",
        "--oracle",
        made / "oracle.safetensors",
        "--forget",
        CLASS3,
        "--out",
        out,
    )
    page = out.read_text()
    assert page.count('<figure id="chart-') >= 3
