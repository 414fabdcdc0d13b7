"""Reports from records: a table, figures and one HTML page. Reads records and measures nothing."""

from typing import TYPE_CHECKING

from eigenforget.core.lazy import lazy_names

if TYPE_CHECKING:
    from eigenforget.report.pages.page import render, write_page
    from eigenforget.report.table import build, write_csv

__all__ = ["build", "render", "write_csv", "write_page"]

__getattr__ = lazy_names(
    __name__, {"pages.page": ("render", "write_page"), "table": ("build", "write_csv")}
)
