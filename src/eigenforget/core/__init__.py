"""Values, specs and errors that every part exchanges; no torch."""
