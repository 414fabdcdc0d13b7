"""All requests: wrong ones, and stored splits."""

from __future__ import annotations

import pytest

from eigenforget.core.errors import EigenforgetError
from eigenforget.core.spec import parse
from eigenforget.requests import REQUESTS as KINDS
from eigenforget.requests import AtRandom, ByClass, ByIds, ForgetRequest, split
from tests.requests.toys import index

GOLDEN = {
    "by_class(label=1)": "f244d7934be061795e09e3d6af552ba98e308002f38fbaf5aa2686b29d1cda78",
    "by_class(label=(0, 2))": "b965ba91cde8203e9aa588517afdc35883c77d7a528cf896d570d2497fed2822",
    "by_ids(ids=('id001', 'id004'))": "977e782aa296b57b5abb8a7aff7dd93daf4e0b573ce40a8e6542b5890baaa121",
    "at_random()": "010ea1e1edb830a44ebe6822f6ccfaf402d01ebdf0e4ee00c988c77fe464a725",
    "at_random(fraction=0.3, seed=5)": "554d66213f699b6658653f5e054a0c9c3751c3a3d78c0d149b33658adf99ad26",
}


@pytest.mark.parametrize("text", GOLDEN)
def test_stored_splits_stay_valid(text: str) -> None:
    """Digests made before the requests became a package: records and checkpoints hold such."""
    data = index([i % 4 for i in range(40)])
    assert (
        data.digest() == "sha256:9f2ada5f26fe7c7a06e73802096f9fcafae017fe17be042844e0ab85dd10ca9d"
    )
    assert split(parse(text, KINDS, "request"), data).digest == f"sha256:{GOLDEN[text]}"


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (ByClass(label=7), "unknown class 7; the training data has classes: 0, 1"),
        (ByClass(label=(0, 1)), "forgets all 4 training samples"),
        (ByClass(label=()), "unknown class"),
        (ByIds(), "selects nothing"),
        (ByIds(ids=("x", "id000")), "ids not in the training data: x"),
        (ByIds(ids=tuple(f"x{i}" for i in range(30))), r"x9, … \(30 in all\)"),
        (ByIds(path="missing.txt"), "cannot read the id list 'missing.txt'"),
        (ByClass(label=10**18), "unknown class 10000"),
        (AtRandom(fraction=0.01), "forgets none of the 4"),
        (AtRandom(n=5), "n=5 is more than the 4 samples to choose from"),
        (AtRandom(n=3, label=1), "n=3 is more than the 2 samples"),
        (AtRandom(n=1, label=7), "unknown class 7"),
        (AtRandom(fraction=0.99), "forgets all 4"),
    ],
)
def test_wrong_requests(request_: ForgetRequest, message: str) -> None:
    with pytest.raises(EigenforgetError, match=message):
        split(request_, index([0, 1, 0, 1]))
