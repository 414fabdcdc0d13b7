"""Several processes against one: weights, outputs, scores and costs."""

from __future__ import annotations

import copy
import multiprocessing
import os
import time
from dataclasses import replace
from itertools import chain, pairwise
from pathlib import Path
from typing import Any, cast

import pytest
import torch
import torch.distributed as dist
from lightning_fabric.plugins.precision import DoublePrecision
from torch import Tensor, nn

import eigenforget
from eigenforget.core.errors import EigenforgetError
from eigenforget.core.types import Batch, Outputs
from eigenforget.data.sources import TensorSource
from eigenforget.evaluation.metrics import METRICS, PairedMetric, PanelMetric
from eigenforget.evaluation.observe import batches, pairs
from eigenforget.methods import METHODS
from eigenforget.training.engine import Engine
from eigenforget.training.gradients import curvature_product, mean_gradient
from eigenforget.training.phases import LossInputs, Optimizer, Phase
from eigenforget.training.processes import bounds, fabric_over, own_rows
from eigenforget.training.recipe import Recipe, fit_recipe, supervised
from tests import toys

pytestmark = pytest.mark.long
WORLDS = (2, 3)
SPECS = (
    "muda(alternations=2, batch_size=8, basis_samples=20)",
    # AdamW divides by the size of a gradient, so it turns rounding into steps.
    "muda(alternations=2, batch_size=8, basis_samples=20, norm='train', optimizer='sgd', forget_lr=0.05)",
    "finetune(epochs=2, batch_size=8)",
    "scrub(epochs=3, msteps=2, batch_size=8)",
    "scrub(epochs=2, msteps=2, batch_size=8, one_optimizer=True)",
    "random_label(epochs=2, batch_size=8)",
    "neg_grad_plus(epochs=2, batch_size=8)",
    "bad_teacher(epochs=2, batch_size=8)",
    "l1_sparse(epochs=2, batch_size=8)",
    "masked(inner=random_label(epochs=1, batch_size=8), keep_top=0.5)",
    "random_label(epochs=2, batch_size=8, redraw='batch', retain_steps='mixed')",
    "ssd(chunk=5)",
    "ssd(estimator='batch', batch_size=7)",
    "lfssd(chunk=5)",
    "wood_fisher(samples=20, chunk=6)",
    "engram(batch_size=7)",
    "msg(epochs=1, batch_size=8)",
    "influence(iterations=4)",
    "probed_muda(epochs=2, steps=3, batch_size=8, probe_every=2)",
    "probed_muda(epochs=2, steps=3, batch_size=8, probe_every=2, norm='train')",
    "unseen_distill(epochs=1, stand_in_epochs=1, batch_size=8)",
    "esc()",
)


class Net(nn.Module):
    """Two convolutions with batch norm, a batch norm of features [B, D], a head."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.body = nn.Sequential(
                nn.Conv2d(1, 4, 3, padding=1, bias=False),
                nn.BatchNorm2d(4),
                nn.ReLU(),
                nn.Conv2d(4, 6, 3, stride=2, bias=False),
                nn.BatchNorm2d(6, momentum=None),
                nn.ReLU(),
                nn.AdaptiveAvgPool2d(2),
                nn.Flatten(),
                nn.Linear(24, 7),
                nn.BatchNorm1d(7, affine=False),
                nn.ReLU(),
            )
            self.head = nn.Linear(7, 4)

    def forward(self, x: Tensor) -> Tensor:
        return cast("Tensor", self.head(self.body(x)))


def images(n: int, classes: tuple[int, ...] = (0, 1, 2, 3), seed: int = 0) -> TensorSource:
    """Noisy images [n, 1, 8, 8] with one bright quarter for each class."""
    g = torch.Generator().manual_seed(seed)
    y = torch.tensor([classes[i % len(classes)] for i in range(n)])
    x = torch.randn(n, 1, 8, 8, generator=g, dtype=torch.float64)
    for i, label in enumerate(y.tolist()):
        x[i, :, 4 * (label // 2) : 4 * (label // 2) + 4, 4 * (label % 2) : 4 * (label % 2) + 4] += 2
    return TensorSource(x, y)


FORGET, RETAIN = (
    images(18, (3,), 1),
    images(42, (0, 1, 2), 2),
)  # batches of 8 end with one of 2 samples


def fitted(engine: Engine, model: nn.Module, *phases: Phase, cycles: int = 2) -> dict[str, Tensor]:
    return dict(engine.fit(model, list(phases), epochs=cycles, seed=3).state_dict())


def of_features(part: LossInputs) -> Tensor:
    return part.outputs.features.square().sum(1)


def whole_batch(first: LossInputs, second: LossInputs) -> Tensor:
    """No mean over samples: entries of the batch's Gram matrix, and the labels' order."""
    gram = first.outputs.features.T @ first.outputs.features
    weights = torch.arange(1, len(second.batch.labels) + 1).to(second.outputs.logits)
    return gram.norm() / 10 + (supervised(second) * weights).sum() / weights.sum()


def penalty(model: nn.Module, cycle: int) -> Tensor:
    return (cycle + 1) * 0.01 * sum((p.square().sum() for p in model.parameters()), torch.zeros(()))


def trained(engine: Engine) -> dict[str, Any]:
    """Weights after training in several ways, with what each cost."""
    sgd, both = Optimizer(lr=0.05, weight_decay=0.01, clip=1.0), (FORGET, RETAIN)
    plain = Phase("plain", (RETAIN,), supervised, sgd, 8)
    coupled = Phase(
        "coupled", both, whole_batch, sgd, 5, teachers=(Net(9).double().eval(),), penalty=penalty
    )
    features = Phase("features", (RETAIN,), of_features, sgd, 8)
    adam = Phase(
        "adam",
        (RETAIN,),
        supervised,
        Optimizer(kind="adamw", lr=0.01),
        16,
        trains=lambda name: "head" in name,
        norm="frozen",
    )
    by_last = replace(coupled, name="by last", as_one=True, normalised_by_last=True)
    found = {
        "by last": fitted(engine, Net().double(), by_last, plain),
        "plain": fitted(engine, Net().double(), plain),
        "coupled": fitted(engine, Net().double(), coupled, plain),
        "features": fitted(engine, Net().double(), features),
        "adam": fitted(engine, Net().double(), adam),
    }
    return {"weights": found, "trained": engine.meter.trained, "forwarded": engine.meter.forwarded}


def unlearned(engine: Engine) -> dict[str, Any]:
    model = Net().double()
    fit_recipe(
        model,
        TensorSource(
            torch.cat([FORGET.inputs, RETAIN.inputs]), torch.cat([FORGET.targets, RETAIN.targets])
        ),
        Recipe(epochs=3, batch_size=8, lr=0.05),
        engine=engine.alone(),
        seed=0,
    )
    found, before = {}, copy.deepcopy(engine.meter)
    for text in SPECS:
        method = METHODS.parse(text)
        rows: list[Any] = []
        result = eigenforget.unlearn(
            model,
            forget=FORGET,
            retain=RETAIN,
            method=method,
            engine=engine,
            seed=1,
            log=rows.append,
        )
        found[text] = {
            **result.state_dict(),
            "losses": torch.tensor([row["loss"] for row in rows], dtype=torch.float64),
        }
    return {
        "weights": found,
        "samples": (
            engine.meter.trained - before.trained,
            engine.meter.forwarded - before.forwarded,
        ),
    }


def measured(double: Engine) -> dict[str, Any]:
    """Outputs in batches of 8 (2 at the end), derivatives, and all scores of a fixed model."""
    model = Net(5).double()
    engine = Engine(device="cpu", devices=double.devices)
    engine.fabric.launch()
    passes = engine.forward(model, RETAIN, layers=("body.0",), batch_size=8)
    rows = [(o.logits, o.features, o.layers["body.0"], b.labels, b.inputs) for b, o in passes]
    forget, retain, test = toys.sides(by_class=True)
    parts = eigenforget.evaluation.observe.parts_of(
        forget, retain=retain, test=test, forgotten_classes=toys.GONE
    )
    panel = eigenforget.evaluation.board.Panel(
        parts=parts, num_classes=toys.CLASSES, forgotten_classes=toys.GONE, engine=engine
    )
    board = eigenforget.evaluation.board.Board(panel, [toys.net(0)], [toys.net(1)])
    scores = board.measure(toys.net(2), "unlearned").scores
    slope = mean_gradient(engine, model, RETAIN, batch_size=8)
    bend = curvature_product(engine, model, RETAIN, slope, kind="hessian", batch_size=8)
    outputs = [torch.cat(column) for column in zip(*rows, strict=True)]
    return {
        "slope": slope,
        "bend": bend,
        "outputs": outputs,
        "scores": {s.name: s.value for s in scores},
    }


def sharded(engine: Engine) -> dict[str, float]:
    """Scores of metrics that are fed with the rows of this rank only, as in a user's own job of
    several processes.
    """
    forget, retain, test = toys.sides(by_class=True)
    parts = eigenforget.evaluation.observe.parts_of(
        forget, retain=retain, test=test, forgotten_classes=toys.GONE
    )
    panel = eigenforget.evaluation.board.Panel(
        parts=parts, num_classes=toys.CLASSES, forgotten_classes=toys.GONE, engine=toys.ENGINE
    )
    model, other = toys.net(2), toys.net(1)
    seen, beside = panel.observe(model), panel.observe(other)
    context = panel.scoring(model, seen).context
    found: dict[str, float] = {}
    for kind in METRICS:
        if not issubclass(kind, PanelMetric):
            continue
        metric = kind.create(context)
        for part, rows in seen.items():
            ((whole, outputs),) = batches(rows)
            own = engine.processes.rows(len(whole.labels))
            metric.update(
                part,
                Batch(None, whole.labels[own], whole.positions[own]),
                Outputs(outputs.logits[own], outputs.features[own]),
            )
        found |= {score.name: score.value for score in metric.scores() if score.value is not None}
    for comparison in METRICS:
        if not issubclass(comparison, PairedMetric):
            continue
        paired = comparison.create(context)
        for part, rows in seen.items():
            ((labels, mine, theirs),) = pairs(rows, beside[part], comparison.reads)
            own = engine.processes.rows(len(labels))
            paired.update(part, labels[own], mine[own], theirs[own])
        with paired.sync_context():
            found |= {
                f"{comparison.name} {stem}": value
                for stem, value in paired.values().items()
                if not isinstance(value, str)
            }
    return found


def in_double(patch: pytest.MonkeyPatch) -> None:
    """Without the casts to float32, so that nothing but a wrong division of labour makes weights
    differ.
    """
    mapped = Outputs.mapped
    patch.setattr(
        Outputs,
        "mapped",
        lambda outputs, change: outputs if change is Tensor.float else mapped(outputs, change),
    )
    patch.setattr(DoublePrecision, "convert_output", lambda self, outputs: outputs)


def unequal(engine: Engine) -> dict[str, str]:
    """What several ranks refuse: weights that differ between them, statistics of their own rows, a
    loss that one step makes infinite.
    """
    found = {}
    phase = Phase("plain", (RETAIN,), supervised, Optimizer(lr=0.05), 8)
    tracked = nn.Sequential(
        nn.Conv2d(1, 3, 3),
        nn.InstanceNorm2d(3, track_running_stats=True),
        nn.Flatten(),
        nn.Linear(108, 4),
    ).double()
    wild = Phase(
        "wild", (RETAIN,), lambda part: supervised(part) * 1e300 * 1e300, Optimizer(lr=1.0), 8
    )
    for name, model, chosen in (
        ("seeds", Net(engine.fabric.global_rank).double(), phase),
        ("tracked", tracked, phase),
        ("wild", Net(), wild),
    ):
        try:
            engine.fit(model, [chosen], epochs=1, seed=0)
        except EigenforgetError as error:
            found[name] = f"{type(error).__name__}: {error}"
    return found


def one_rank(rank: int, world: int, folder: Path, what: str) -> None:
    """A process of the job; it leaves its results in the folder."""
    torch.set_num_threads(1)
    in_double(pytest.MonkeyPatch())
    os.environ["LOCAL_RANK"] = str(rank)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder / 'meeting'}", rank=rank, world_size=world
    )
    engine = Engine(device="cpu", precision="64-true", devices=world)
    engine.fabric.launch()
    torch.save({name: JOBS[name](engine) for name in what.split()}, folder / f"{rank}.pt")


def failing(engine: Engine) -> None:
    if not engine.leads:
        raise EigenforgetError("rank 1 gives up")
    engine.fit(
        Net().double(), [Phase("plain", (RETAIN,), supervised, Optimizer(), 8)], epochs=1, seed=0
    )


JOBS = {
    "trained": trained,
    "unlearned": unlearned,
    "measured": measured,
    "sharded": sharded,
    "unequal": unequal,
    "failing": failing,
}


def launched(world: int, folder: Path, what: str, seconds: float = 900) -> list[int | None]:
    """The exit codes of `world` processes that do the jobs."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.training.test_processes"])
    processes = [
        context.Process(target=one_rank, args=(rank, world, folder, what)) for rank in range(world)
    ]
    for process in processes:
        process.start()
    end = time.monotonic() + seconds
    for process in processes:
        process.join(max(0.0, end - time.monotonic()))
    codes = [process.exitcode for process in processes]
    for process in processes:
        process.kill()
    return codes


@pytest.fixture(scope="module")
def alone() -> dict[str, Any]:
    with pytest.MonkeyPatch.context() as patch:
        in_double(patch)
        return {
            name: JOBS[name](Engine(device="cpu", precision="64-true"))
            for name in ("trained", "unlearned", "measured", "sharded")
        }


@pytest.fixture(scope="module", params=WORLDS)
def together(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> list[dict[str, Any]]:
    """The results of each rank."""
    folder = tmp_path_factory.mktemp("ranks")
    codes = launched(request.param, folder, "trained unlearned measured sharded unequal")
    assert codes == [0] * request.param
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(request.param)]


def compare(
    found: dict[str, Any], wanted: dict[str, Any], *, rtol: float = 1e-9, atol: float = 1e-11
) -> None:
    assert list(found) == list(wanted)
    for name, state in wanted.items():
        assert list(found[name]) == list(state)
        for key, value in state.items():
            torch.testing.assert_close(
                found[name][key],
                value,
                rtol=rtol,
                atol=atol,
                msg=lambda m, n=name, k=key: f"{n} {k}: {m}",
            )


@pytest.mark.parametrize("job", ["trained", "unlearned"])
def test_weights_are_those_of_one_process(
    alone: dict[str, Any], together: list[dict[str, Any]], job: str
) -> None:
    for mine in together:
        compare(mine[job]["weights"], alone[job]["weights"])
    for other in together[1:]:
        for name, state in together[0][job]["weights"].items():
            assert all(
                torch.equal(value, other[job]["weights"][name][key]) for key, value in state.items()
            ), name


def test_costs_do_not_depend_on_the_number_of_ranks(
    alone: dict[str, Any], together: list[dict[str, Any]]
) -> None:
    for mine in together:
        assert mine["unlearned"]["samples"] == alone["unlearned"]["samples"]
        assert all(
            mine["trained"][key] == alone["trained"][key] > 0 for key in ("trained", "forwarded")
        )


def test_a_layer_that_the_loss_does_not_reach_stays(together: list[dict[str, Any]]) -> None:
    state = together[0]["trained"]["weights"]["features"]
    assert torch.equal(state["head.weight"], Net().double().head.weight)
    assert not torch.equal(state["body.0.weight"], cast("Tensor", Net().double().body[0].weight))


def test_outputs_and_scores_are_those_of_one_process(
    alone: dict[str, Any], together: list[dict[str, Any]]
) -> None:
    for mine in together:
        found, wanted = mine["measured"], alone["measured"]
        assert all(
            torch.equal(a, b) for a, b in zip(found["outputs"], wanted["outputs"], strict=True)
        )
        assert all(
            torch.equal(value, found[key][name])
            for key in ("slope", "bend")
            for name, value in wanted[key].items()
        )
        assert found["scores"].keys() == wanted["scores"].keys() and len(wanted["scores"]) > 50
        assert found["scores"] == pytest.approx(wanted["scores"], abs=1e-10)


def test_metrics_fed_with_shards_merge_to_the_whole(
    alone: dict[str, Any], together: list[dict[str, Any]]
) -> None:
    for mine in together:
        assert mine["sharded"] == pytest.approx(alone["sharded"], abs=1e-10)


def test_what_ranks_cannot_agree_on_is_an_error(together: list[dict[str, Any]]) -> None:
    for mine in together:
        found = mine["unequal"]
        assert (
            "is not the same on all" in found["seeds"]
            and "before training: build or load it in the same way" in found["seeds"]
        )
        assert (
            found["tracked"].startswith("EigenforgetError: 1.running_mean")
            and "train on one device" in found["tracked"]
        )
        assert found["wild"].startswith("Diverged")


def test_a_rank_that_fails_ends_the_others(tmp_path: Path) -> None:
    started = time.monotonic()
    codes = launched(2, tmp_path, "failing")
    assert all(codes) and None not in codes and time.monotonic() - started < 600


def test_shares_cover_every_row_once_and_differ_by_one_at_most() -> None:
    for world in (2, 3, 5):
        for count in range(1, 23):
            inputs = {"x": torch.arange(count), "flag": torch.ones(())}
            shares = [
                own_rows(inputs, slice(a, b), count)
                for a, b in pairwise(bounds(count, count=world))
            ]
            rows = [share["x"].tolist() for share in shares]
            assert all(share["flag"].ndim == 0 for share in shares)
            assert list(chain(*rows)) == list(range(count))
            assert len(rows) == world and max(map(len, rows)) - min(map(len, rows)) <= 1


def test_a_number_names_one_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen: dict[str, Any] = {}
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr("lightning_fabric.Fabric", lambda **given: chosen.update(given))
    fabric_over("cuda:1", precision="32-true", devices=1, strategy="auto")
    assert (chosen["accelerator"], chosen["devices"]) == ("cuda", [1])
    fabric_over("cuda", precision="32-true", devices=2, strategy="auto")
    assert (chosen["accelerator"], chosen["devices"]) == ("cuda", 2)
    for device, devices in (
        ("cpu:0", 1),
        ("auto:1", 1),
        ("cuda:x", 1),
        ("cuda:", 1),
        ("cuda:1", 2),
    ):
        with pytest.raises(EigenforgetError, match="a number is for one GPU, as in cuda:1"):
            fabric_over(device, precision="32-true", devices=devices, strategy="auto")
