"""Seeds: by hand, and apart for every purpose."""

from __future__ import annotations

import hashlib
import itertools

import torch

from eigenforget.core.seeds import derive, generator


def test_a_seed_is_the_first_63_bits_of_a_digest() -> None:
    digest = hashlib.sha256(b"5\x1forder\x1fforget\x1f2").digest()
    assert derive(5, "order", "forget", 2) == int.from_bytes(digest[:8], "big") // 2


def test_every_purpose_has_numbers_of_its_own() -> None:
    purposes = [(), ("a",), ("ab",), ("a", "b"), ("b", "a"), ("a", 1), ("a", "", 1)]
    seeds = [derive(s, *p) for s, p in itertools.product((0, 1, 10), purposes)]
    assert len(set(seeds)) == len(seeds) and all(0 <= seed < 2**63 for seed in seeds)


def test_a_generator_starts_at_its_seed_and_leaves_the_global_one_alone() -> None:
    before = torch.get_rng_state()
    found = torch.rand(5, generator=generator(3, "x"))
    expected = torch.rand(5, generator=torch.Generator().manual_seed(derive(3, "x")))
    assert torch.equal(found, expected) and torch.equal(torch.get_rng_state(), before)
