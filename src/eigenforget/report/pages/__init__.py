"""Pages, tables and cards, from records alone."""
