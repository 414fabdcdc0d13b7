"""Toys that several tests of this folder share."""

from __future__ import annotations

import numpy as np

N = 20


IDS = np.array([f"id{i:03d}" for i in range(N)])


SCORES = np.round(np.random.default_rng(3).random(N), 1)  # many ties
