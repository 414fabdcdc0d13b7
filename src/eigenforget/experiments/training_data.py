"""Whether data is what a checkpoint was trained on: its digests, its inputs, and what it knows."""

from __future__ import annotations
