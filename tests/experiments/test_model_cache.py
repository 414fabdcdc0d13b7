"""Trained models by content address: found again, never mixed up, never trained twice at once,
damage is found and mended.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
from safetensors import safe_open

from eigenforget.core.errors import EigenforgetError
from eigenforget.core.spec import parse
from eigenforget.data import DATASETS
from eigenforget.experiments.experiment import Experiment
from eigenforget.experiments.model_cache import ModelCache, identity_of
from eigenforget.models import MODELS, checkpoint
from eigenforget.requests import REQUESTS
from eigenforget.training.engine import Engine
from eigenforget.training.recipe import Recipe


def experiment(
    *,
    epochs: int = 1,
    request: str = "by_class(label=3)",
    model: str = "mlp(hidden=(16,))",
    data: str = "digits()",
) -> Experiment:
    known = parse(data, DATASETS, "data set")
    chosen = parse(request, REQUESTS, "request")
    return Experiment(
        known, parse(model, MODELS, "model"), Recipe(epochs=epochs), chosen, Engine(device="cpu")
    )


def test_a_model_is_trained_once_and_comes_back_bit_for_bit(tmp_path: Path) -> None:
    cache, job, asked = ModelCache(tmp_path / "models"), experiment(), []
    first = cache.get(job, "oracle", 4, lambda: asked.append("log"))
    again = ModelCache(tmp_path / "models").get(
        experiment(), "oracle", 4, lambda: asked.append("log")
    )
    assert checkpoint.model_digest(first.model) == checkpoint.model_digest(
        again.model
    ) and asked == ["log"]
    assert again.cost == first.cost and again.seconds == pytest.approx(first.seconds, abs=1e-3)
    alone = job.train(seed=4, without_forget=True)
    assert checkpoint.model_digest(alone.model) == checkpoint.model_digest(first.model)


def test_all_that_decides_the_weights_is_part_of_the_address() -> None:
    base = identity_of(experiment(), "oracle", 0)
    changed = [
        identity_of(experiment(), "oracle", 1),
        identity_of(experiment(), "original", 0),
        identity_of(experiment(epochs=2), "oracle", 0),
        identity_of(experiment(request="by_class(label=4)"), "oracle", 0),
        identity_of(experiment(model="mlp(hidden=(17,))"), "oracle", 0),
        identity_of(experiment(data="digits(normalize='none')"), "oracle", 0),
        identity_of(experiment(data="digits(normalize='mean=0.5 std=0.5')"), "oracle", 0),
        identity_of(
            replace(experiment(), engine=Engine(device="cpu", precision="64-true")), "oracle", 0
        ),
        identity_of(
            replace(experiment(), engine=Engine(device="cpu", channels_last=True)), "oracle", 0
        ),
    ]
    assert identity_of(experiment(), "oracle", 0, threads=1) == base
    changed.append(identity_of(experiment(), "oracle", 0, threads=2))
    texts = [str(sorted(i.items(), key=lambda kv: kv[0])) for i in [base, *changed]]
    assert len(set(texts)) == len(texts)
    # One request in two spellings is one split; an original does not depend on the request.
    ids = experiment().data.train_index.ids[experiment().split.forget]
    spelled = f"by_ids(ids=({', '.join(repr(str(i)) for i in ids)},))"
    assert identity_of(experiment(request=spelled), "oracle", 0) == base
    assert identity_of(experiment(request="by_class(label=4)"), "original", 0) == identity_of(
        experiment(), "original", 0
    )


def test_how_texts_are_read_is_part_of_the_address(tmp_path: Path) -> None:
    rows = [f"word{n} other{n % 3} more,{n % 2}" for n in range(20)]
    (tmp_path / "t.csv").write_text("\n".join(["text,label", *rows]))
    settings = ("", "max_length=2", "vocabulary=5")
    spelled = [f"text(path='{tmp_path / 't.csv'}', {more})" for more in settings]
    jobs = [experiment(data=text, model="text_mlp()", request="at_random(n=2)") for text in spelled]
    assert len({job.data.digest for job in jobs}) == 1, "the texts are the same"
    found = [ModelCache(tmp_path).path_for(job, "original", 0) for job in jobs]
    assert len(set(found)) == len(found)


def test_a_damaged_file_is_named_set_aside_and_trained_anew(tmp_path: Path) -> None:
    said: list[str] = []
    cache, job = ModelCache(tmp_path, warn=said.append), experiment()
    good = checkpoint.model_digest(cache.get(job, "original", 0).model)
    (path,) = tmp_path.glob("*.safetensors")
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(bytes(content))
    assert len(cache.damaged()) == 1 and path.name in cache.damaged()[0]
    assert checkpoint.model_digest(cache.get(job, "original", 0).model) == good
    assert len(said) == 1 and path.name in said[0] and "trained anew" in said[0]
    assert len(list(tmp_path.glob("*.damaged"))) == 1 and cache.damaged() == []
    with safe_open(path, "pt") as file:
        about = dict(file.metadata())
    for key in ("seconds", "cost", "data", "eigenforget_digest"):  # its weights are the same
        whole = path.read_bytes()
        changed = f'"{key}":"9' if key == "seconds" else f'"{key}":"x'
        path.write_bytes(whole.replace(f'"{key}":"{about[key][0]}'.encode(), changed.encode(), 1))
        assert path.read_bytes() != whole and len(cache.damaged()) == 1
        cache.get(job, "original", 0)
        assert path.name in said.pop() and cache.damaged() == []
    path.write_bytes(path.read_bytes()[:200])  # cut short
    assert checkpoint.model_digest(cache.get(job, "original", 0).model) == good and len(said) == 2


def test_a_file_under_the_address_of_another_is_not_taken(tmp_path: Path) -> None:
    cache, job = ModelCache(tmp_path), experiment()
    cache.get(job, "original", 0)
    wrong = cache.path_of(identity_of(job, "original", 1), "original", 1)
    next(tmp_path.glob("*.safetensors")).replace(wrong)
    fresh = job.train(seed=1)
    assert checkpoint.model_digest(cache.get(job, "original", 1).model) == checkpoint.model_digest(
        fresh.model
    )


def test_the_least_recently_used_models_are_pruned_first(tmp_path: Path) -> None:
    cache, job = ModelCache(tmp_path), experiment()
    for seed in (0, 1, 2):
        cache.get(job, "original", seed)
        path = cache.path_of(identity_of(job, "original", seed), "original", seed)
        os.utime(path, (1000 + seed, 1000 + seed))
    cache.get(job, "original", 0)  # used now
    size = cache.entries()[0].size
    removed = cache.prune(2 * size)
    assert [("seed1" in e.path.name) for e in removed] == [True]
    assert {e.path.name.split("-")[1] for e in cache.entries()} == {"seed0", "seed2"}
    assert cache.prune(2 * size) == [] and len(cache.prune(0)) == 2
    with pytest.raises(EigenforgetError, match="0 bytes or more"):
        cache.prune(-1)


def start(tmp_path: Path, *, epochs: int, pause: float) -> BaseProcess:
    """A process that asks for one model; it notes when it trains, and pauses after each epoch.

    A fork: a new interpreter would load torch for longer than it trains.
    """
    context = multiprocessing.get_context("fork")
    process = context.Process(target=_ask, args=(tmp_path, epochs, pause))
    process.start()
    return process


def _ask(folder: Path, epochs: int, pause: float) -> None:
    def log() -> Callable[[object], None]:
        with (folder / "notes").open("a") as file:
            file.write("trains\n")
        return lambda _: time.sleep(pause)

    ModelCache(folder / "models").get(experiment(epochs=epochs), "original", 0, log)


def ended(process: BaseProcess) -> int | None:
    """Its exit code."""
    process.join(900)
    return process.exitcode


def test_two_processes_never_train_the_same_model(tmp_path: Path) -> None:
    workers = [start(tmp_path, epochs=5, pause=0.2) for _ in range(3)]
    assert [ended(worker) for worker in workers] == [0, 0, 0]
    assert (tmp_path / "notes").read_text() == "trains\n"


def test_a_killed_process_leaves_no_lock_and_no_half_model(tmp_path: Path) -> None:
    first = start(tmp_path, epochs=20, pause=5.0)
    deadline = time.monotonic() + 600
    while not (tmp_path / "notes").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    first.kill()
    assert ended(first) == -signal.SIGKILL
    assert list((tmp_path / "models").glob("*.safetensors")) == []
    second = start(tmp_path, epochs=20, pause=0.0)  # the same model: it must not wait for the dead
    assert ended(second) == 0 and len(list((tmp_path / "models").glob("*.safetensors"))) == 1
