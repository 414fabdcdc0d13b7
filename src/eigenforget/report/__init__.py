"""Reports from records: a table, figures and one HTML page. Reads records and measures nothing."""

from eigenforget.report.pages.page import render, write_page
from eigenforget.report.table import build, write_csv

__all__ = ["build", "render", "write_csv", "write_page"]
