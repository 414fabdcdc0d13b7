"""Measuring models: metrics, audits, and the board that holds models beside retrained ones."""
