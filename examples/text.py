"""Forget everything one author wrote: texts from a CSV file, a small text model, and three
retrained models to compare with.

    python examples/text.py                         # about ten seconds
    python examples/text.py --corpus data/texts.csv # write the corpus only

The corpus is made up, so that it is known what there is to forget: four topics, eight authors, and
words that one author alone uses for one topic. A model retrained without an author cannot know what
that author's words mean.
"""

from __future__ import annotations

import csv
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch

from eigenforget import MUDA, Engine, Finetune, RandomLabel
from eigenforget.data import Text
from eigenforget.experiments.experiment import Experiment
from eigenforget.experiments.study import Study
from eigenforget.models import TextMlp
from eigenforget.requests import ByGroup
from eigenforget.training.recipe import Recipe

TOPICS = {
    "cooking": "oven salt butter simmer dough onion pan taste recipe boil",
    "football": "goal keeper match striker league penalty pitch coach whistle season",
    "gardening": "soil prune seed bloom hedge compost weed spade rain lawn",
    "travel": "train hotel border ticket luggage harbour map flight island road",
}
FILLERS = "the a we then again very quite some people day morning today never always little good long after before with"
SYLLABLES = ("ba", "do", "ki", "lu", "mer", "nor", "pas", "qua", "rin", "sul", "tev", "zo")
AUTHORS, HABITS = 8, 4


def corpus(texts: int, seed: int) -> list[dict[str, str]]:
    """Rows of text, topic and author. A text has two or three words of its topic, one or two of
    another and of its author's habits.
    """
    rng = np.random.default_rng(seed)
    topics, fillers = {topic: words.split() for topic, words in TOPICS.items()}, FILLERS.split()
    habits = {
        (f"author{author}", topic): ["".join(rng.choice(SYLLABLES, 4)) for _ in range(HABITS)]
        for author in range(AUTHORS)
        for topic in topics
    }
    rows = []
    for _ in range(texts):
        topic, other = map(str, rng.choice(list(topics), 2, replace=False))
        author = f"author{rng.integers(AUTHORS)}"
        words = [
            *rng.choice(topics[topic], rng.integers(2, 4)),
            *rng.choice(topics[other], rng.integers(1, 3)),
        ]
        words += [*rng.choice(habits[author, topic], rng.integers(1, 3)), *rng.choice(fillers, 7)]
        rows.append({"text": " ".join(rng.permutation(words)), "topic": topic, "author": author})
    return rows


def write(path: Path, texts: int = 3000, seed: int = 0) -> None:
    """The corpus as a CSV file."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["text", "topic", "author"])
        writer.writeheader()
        writer.writerows(corpus(texts, seed))


def main() -> None:
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "texts.csv"
        write(path)
        experiment = Experiment(
            Text(path=str(path), label="topic", group="author", max_length=16),
            TextMlp(dim=64, hidden=(32,)),
            Recipe(epochs=10, batch_size=64, lr=0.5),
            ByGroup(group="author3"),
            Engine(device="cpu"),
        )
        methods = [MUDA(alternations=4), Finetune(), RandomLabel(lr=0.2, batch_size=64)]
        records = list(Study(experiment, methods, seed=0).records())
    shown = ("forget_accuracy", "test_retain_accuracy", "mia_auc")
    print(f"{'':14s}" + "".join(f"{name:>22s}" for name in shown))
    for record in records:
        values = {score.name: score.value for score in record.scores}
        print(f"{record.name:14s}" + "".join(f"{values[name]:22.3f}" for name in shown))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--corpus"]:
        write(Path(sys.argv[2]))
    else:
        main()
