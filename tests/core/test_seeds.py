"""Seeds: by hand, and apart for every purpose."""

from __future__ import annotations

import hashlib
import itertools

import pytest
import torch

from eigenforget.core.seeds import derive, generator, seed_torch, torch_state_kept


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


def test_a_seeded_block_leaves_the_random_state_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    others: list[int] = []
    monkeypatch.setattr(torch.cuda, "manual_seed_all", others.append)
    monkeypatch.setattr(torch.cuda, "manual_seed", others.append)
    before, found = torch.get_rng_state(), []
    for device in (None, torch.device("cpu")):
        with torch_state_kept(device):
            seed_torch(4, device)
            found.append(torch.rand(3))
    assert torch.equal(*found) and torch.equal(torch.get_rng_state(), before)
    assert torch.equal(found[0], torch.rand(3, generator=torch.Generator().manual_seed(4)))
    assert not others  # on the CPU no other device is seeded
