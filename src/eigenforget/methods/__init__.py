"""METHODS: every unlearning method and control. Adding one is one file and one line here."""

from eigenforget.methods.finetune import Finetune
from eigenforget.methods.head_mask import HeadMask
from eigenforget.methods.muda import MUDA
from eigenforget.methods.random_label import RandomLabel

METHODS: list[type] = [MUDA, Finetune, RandomLabel, HeadMask]

__all__ = ["METHODS", "MUDA", "Finetune", "HeadMask", "RandomLabel"]
