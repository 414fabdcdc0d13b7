"""Small models that memorise, trained in seconds: half of them saw planted canaries (mislabelled
samples), half of them did not.
"""

from functools import cache

import numpy as np
import torch
from torch import nn

from eigenforget.core.seeds import generator
from eigenforget.evaluation.evidence import Evidence, PartOutputs

CLASSES, WIDTH, STEPS = 4, 20, 120
SIZES = {"retain": 240, "forget": 120, "test_retain": 300}


def world():
    """Inputs and labels by part; labels of forget and test_retain are wrong, drawn alike, and can
    only be memorised.
    """
    g = generator(0, "world")
    centres = torch.randn(CLASSES, WIDTH, generator=g)
    parts = {}
    for part, n in SIZES.items():
        true = torch.randint(CLASSES, (n,), generator=g)
        wrong = (true + torch.randint(1, CLASSES, (n,), generator=g)) % CLASSES
        parts[part] = (
            centres[true] + torch.randn(n, WIDTH, generator=g),
            true if part == "retain" else wrong,
        )
    return parts


def seen_by(model, parts):
    model.eval()
    with torch.no_grad():
        return {
            part: PartOutputs(
                model(x).numpy(), np.zeros((len(y), 1), np.float32), y.numpy(), np.arange(len(y))
            )
            for part, (x, y) in parts.items()
        }


@cache
def trained(seed, *, with_canaries):
    """The outputs of one network on all parts."""
    parts = world()
    data = [parts["retain"], *([parts["forget"]] if with_canaries else [])]
    x, y = (torch.cat(column) for column in zip(*data, strict=True))
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = nn.Sequential(nn.Linear(WIDTH, 128), nn.ReLU(), nn.Linear(128, CLASSES))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(STEPS):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    return seen_by(model, parts)


def evidence_of(parts, *, oracles=(), peers=(), gone=(), classes=CLASSES):
    """Evidence without a model: these audits read logits only."""
    return Evidence(nn.Identity(), parts, classes, gone, oracles=tuple(oracles), peers=tuple(peers))


def random_seen(seed, sizes, *, labels, scale=3.0, shift=0.0, classes=CLASSES):
    """Outputs of a made-up model: normal logits, with `shift` on the true label."""
    rng = np.random.default_rng(seed)
    found = {}
    for part, n in sizes.items():
        y = labels[part]
        logits = rng.normal(size=(n, classes)) * scale
        logits[np.arange(n), y] += shift
        found[part] = PartOutputs(
            logits.astype(np.float32), np.zeros((n, 1), np.float32), y, np.arange(n)
        )
    return found


def random_labels(seed, sizes, classes=CLASSES):
    rng = np.random.default_rng(seed)
    return {part: rng.integers(0, classes, n) for part, n in sizes.items()}
