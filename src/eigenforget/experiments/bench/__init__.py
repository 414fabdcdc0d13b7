"""Plans of any size that survive and resume, and methods tuned under one budget."""

from eigenforget.experiments.bench.jobs import MethodJob, StudySpec
from eigenforget.experiments.bench.plan import Plan, read_plan
from eigenforget.experiments.bench.run import Bench, Outline
from eigenforget.experiments.bench.scores_file import read_scores_file, write_scores_file
from eigenforget.experiments.bench.store import Store
from eigenforget.experiments.bench.tuning import Tuning, TuningResult
from eigenforget.experiments.bench.workers import BACKENDS, Pool, pool_of

__all__ = [
    "BACKENDS",
    "Bench",
    "MethodJob",
    "Outline",
    "Plan",
    "Pool",
    "Store",
    "StudySpec",
    "Tuning",
    "TuningResult",
    "pool_of",
    "read_plan",
    "read_scores_file",
    "write_scores_file",
]
