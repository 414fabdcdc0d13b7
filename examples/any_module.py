"""One call on an nn.Module of your own and plain DataLoaders: unlearn a class, then compare with a
retrained model.
"""

from __future__ import annotations

import numpy as np
import torch
from sklearn.datasets import load_wine
from sklearn.model_selection import train_test_split
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from eigenforget import MUDA, Engine, evaluate, train, unlearn

FORGOTTEN = 2


class Wines(nn.Module):
    """A model that eigenforget has never seen: features, then the last Linear layer as the
    classifier head.
    """

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(13, 32), nn.ReLU(), nn.Linear(32, 16), nn.ReLU())
        self.head = nn.Linear(16, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(x))


def loader(x: np.ndarray, y: np.ndarray) -> DataLoader:
    return DataLoader(
        TensorDataset(torch.tensor(x, dtype=torch.float32), torch.tensor(y)),
        batch_size=32,
        shuffle=True,
    )


def main() -> None:
    x, y = load_wine(return_X_y=True)
    x = (x - x.mean(0)) / x.std(0)
    x_train, x_test, y_train, y_test = train_test_split(
        x, y, test_size=0.3, random_state=0, stratify=y
    )
    gone = y_train == FORGOTTEN
    forget, retain, test = (
        loader(x_train[gone], y_train[gone]),
        loader(x_train[~gone], y_train[~gone]),
        loader(x_test, y_test),
    )

    engine, recipe = Engine(device="cpu"), "recipe(epochs=40, batch_size=16, lr=0.02)"
    torch.manual_seed(0)
    original = train(Wines(), loader(x_train, y_train), recipe, engine=engine)
    oracles = {
        f"oracle {seed}": train(Wines(), retain, recipe, engine=engine, seed=seed)
        for seed in (1, 2, 3)
    }

    unlearned = unlearn(
        original,
        forget=forget,
        retain=retain,
        method=MUDA(alternations=10, batch_size=16),
        engine=engine,
    )
    found = evaluate(
        {"original": original, "muda": unlearned},
        oracles=oracles,
        forget=forget,
        retain=retain,
        test=test,
        engine=engine,
    )
    print(found)
    print(found.verdict("muda").line)
    name = "test_forget_accuracy"
    if not found["muda"][name].value < found["original"][name].value:
        raise SystemExit("muda did not forget")


if __name__ == "__main__":
    main()
