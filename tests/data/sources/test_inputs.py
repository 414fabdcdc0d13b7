"""What cannot be augmented or joined."""

from __future__ import annotations

import pytest
import torch
from torch.utils.data import TensorDataset

from eigenforget.core import seeds
from eigenforget.core.errors import EigenforgetError
from eigenforget.data.augment import Crop
from eigenforget.data.sources import (
    DatasetSource,
    JoinedSource,
    TensorSource,
    as_source,
)
from tests.data.sources.toys import (
    Dicts,
    images,
    texts,
)


def test_what_cannot_be_augmented_or_joined_is_refused() -> None:
    with pytest.raises(
        EigenforgetError, match="these inputs are a dict of input_ids, attention_mask; choose none"
    ):
        TensorSource(texts().inputs, texts().targets, Crop())
    stream = DatasetSource(Dicts(texts()), augment=Crop())
    assert len(list(stream.batches(8))) == 3
    with pytest.raises(
        EigenforgetError, match="these inputs are a dict of input_ids, attention_mask"
    ):
        next(stream.batches(8, seeds.generator(0)))
    mixed = JoinedSource((texts(4), images(4)))
    with pytest.raises(
        EigenforgetError,
        match=r"joined sources give different inputs: .*'attention_mask': \[6\].* and .*\[1, 5, 4\]",
    ):
        next(mixed.batches(8))
    with pytest.raises(EigenforgetError, match="without any tensor"):
        TensorSource({}, torch.tensor([0]))
    soft = as_source(TensorDataset(torch.ones(2, 3), torch.ones(2, 2)[:, 0].long(), torch.ones(2)))
    assert soft.labels().tolist() == [1, 1]
    with pytest.raises(
        EigenforgetError, match=r"labels must be a 1-D integer tensor, got torch\.float64"
    ):
        as_source([(torch.ones(2), 0.5), (torch.ones(2), 1.0)]).labels()
