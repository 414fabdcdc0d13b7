"""Figures of reports, from records alone."""
