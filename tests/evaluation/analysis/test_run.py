"""analyze: models beside each other, the result in Python, and the command."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from eigenforget.core.errors import EigenforgetError
from eigenforget.evaluation.analysis import Analysis, analyze, measure_features
from eigenforget.evaluation.analysis.geometry import cka
from eigenforget.record import RunRecord, read_folder
from eigenforget.record.verify import verify
from tests import toys

PARTS = ("forget", "retain", "test_forget", "test_retain")


def test_all_models_are_measured_and_compared() -> None:
    world = toys.world()
    models, roles = [world.originals[0], *world.oracles[:2]], ["original", "oracle", "oracle"]
    panel = world.panel(layers=("0",))
    before = [p.clone() for m in models for p in m.parameters()]
    found = measure_features(panel, models, roles)  # type: ignore[arg-type]
    assert all(
        torch.equal(a, b)
        for a, b in zip(before, (p for m in models for p in m.parameters()), strict=True)
    )
    assert [list(m.series["analysis"]) for m in found] == [["0", "input of 4"]] * 3
    assert [s.name for s in found[0].scores] == ["da@0", "da_energy@0", "da", "da_energy"]
    seen = [world.seen(m, layers=("0",)) for m in models]
    full = panel.measure(models[0])
    assert found[0].value("da") == pytest.approx(full.value("da"), rel=1e-9) and found[0].value(
        "da@0"
    ) == pytest.approx(full.value("da@0"))
    for part in PARTS:
        x, y, z = (s[part].features for s in seen)  # type: ignore[index]
        mine = found[1].series["analysis"]["input of 4"]["cka"]
        assert mine["original"][part] == pytest.approx(cka(y, x)) and mine["oracle"][
            part
        ] == pytest.approx(cka(y, z))
    assert "original" not in found[0].series["analysis"]["0"]["cka"]
    again = measure_features(panel, models, roles)  # type: ignore[arg-type]
    assert [m._replace(seconds=0.0) for m in again] == [m._replace(seconds=0.0) for m in found]


def test_features_that_are_not_finite_are_an_error() -> None:
    world = toys.world()
    broken = toys.net()
    with torch.no_grad():
        broken[0].weight[0, 0] = torch.inf
    with pytest.raises(
        EigenforgetError, match=r"part forget, layer '0': the model's features are not finite"
    ):
        measure_features(world.panel(layers=("0",)), [broken], ["original"])


def test_the_command_writes_records_and_a_page(
    digits: Any, trained: nn.Module, tmp_path: Path
) -> None:
    from eigenforget.cli import main
    from eigenforget.models import checkpoint

    oracle = (
        replace(digits, recipe=replace(digits.recipe, epochs=1))
        .train(seed=1, without_forget=True)
        .model
    )
    for name, model in (("original", trained), ("oracle", oracle)):
        meta = {"data": "digits()", "model": "small_resnet(width=8)"}
        checkpoint.save_checkpoint(model, tmp_path / f"{name}.safetensors", metadata=meta)
    command = [
        "analyze",
        "--original",
        str(tmp_path / "original.safetensors"),
        "--oracle",
        str(tmp_path / "oracle.safetensors"),
    ]
    command += [
        "--forget",
        "by_class(label=3)",
        "--out",
        str(tmp_path / "a.html"),
        "--device",
        "cpu",
    ]
    main(command)
    records: list[RunRecord] = read_folder(tmp_path / "a-records")
    assert [r.role for r in records] == ["original", "oracle"] and records[0].job["layers"] == [
        "layer1",
        "layer2",
    ]
    assert set(records[0].series["analysis"]) == {"layer1", "layer2", "input of fc"}
    assert "Features of seen and unseen data" in (tmp_path / "a.html").read_text()
    with pytest.raises(SystemExit):
        main(command)


def samples(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Clusters of four classes in the toys' eight inputs."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 4
    return torch.randn(count, 8, generator=generator) + 3 * torch.eye(4, 8)[labels], labels


@pytest.fixture(scope="module")
def analysis() -> Analysis:
    inputs, labels = samples(120, 0)
    gone = labels == 3
    original, *oracles = (toys.net(seed) for seed in range(3))
    return analyze(
        original,
        oracles={"first": oracles[0], "second": oracles[1]},
        forget=(inputs[gone], labels[gone]),
        retain=TensorDataset(inputs[~gone], labels[~gone]),
        test=DataLoader(TensorDataset(*samples(60, 1)), batch_size=7),
        layers=["0"],
    )


def test_analyze_takes_tensors_datasets_and_loaders(analysis: Analysis) -> None:
    assert [(r.name, r.role) for r in analysis.records] == [
        ("original", "original"),
        ("first", "oracle"),
        ("second", "oracle"),
    ]
    assert list(analysis.measured) == ["original", "first", "second"]
    job = analysis.records[0].job
    assert job["layers"] == ["0"] and job["sizes"]["test_forget"] == 15
    series = analysis.records[1].series["analysis"]
    assert series["0"]["samples"] == dict(zip(PARTS, (30, 90, 15, 45), strict=True))
    assert series["input of 4"]["k"] == 3


def test_an_analysis_is_printed_and_written(analysis: Analysis, tmp_path: Path) -> None:
    lines = repr(analysis).splitlines()
    assert [line.split(":")[0] for line in lines[-2:]] == ["0", "input of 4"] and len(lines) < 10
    page = analysis.report(tmp_path / "analysis.html")
    assert all(str(r.digest) in page.read_text(encoding="utf-8") for r in analysis.records)
    folder = analysis.save(tmp_path / "records")
    assert tuple(read_folder(folder)) == analysis.records and verify([folder]).status == 0
    with pytest.raises(EigenforgetError, match="records"):
        analysis.save(folder)


def test_an_analysis_is_a_table(analysis: Analysis) -> None:
    pytest.importorskip("pandas")
    frame = analysis.to_frame()
    value = frame.loc[("0", "forget", "da")]
    assert value.original == analysis.measured["original"].value("da@0")
    assert value.retrained - value.original == pytest.approx(value.gap)


def test_without_held_out_samples_and_layers_the_rest_is_measured() -> None:
    inputs, labels = samples(120, 0)
    gone = labels == 3
    found = analyze(
        toys.net(),
        oracles=[toys.net(1)],
        forget=(inputs[gone], labels[gone]),
        retain=(inputs[~gone], labels[~gone]),
    )
    assert [r.name for r in found.records] == ["original", "oracle 1"]
    assert found.records[0].job["layers_chosen"] == "automatically"
    series = found.records[0].series["analysis"]["input of 4"]
    assert set(series["samples"]) == {"forget", "retain"} and "retained classes" in str(
        series["reasons"]
    )
    assert series["values"]["forget"]["neighbours"] is None
    assert series["values"]["forget"]["class_mean"] is not None


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"oracles": []}, "oracles"),
        ({"oracles": 3}, "oracles.*int"),
        ({"oracles": {"original": toys.net()}}, "original"),
        ({"oracles": ["not a model"]}, "oracle 1.*str"),
        ({"layers": "layer1"}, "layers.*'layer1'"),
        ({"layers": ["nowhere"]}, "nowhere"),
        ({"layers": 3}, "layers.*3"),
        ({"layer": "nowhere"}, "nowhere"),
        ({"engine": "cpu"}, "engine.*'cpu'"),
        ({"k": 0}, "k must .*0"),
        ({"forgotten_classes": (9,)}, "forgotten_classes: 9"),
        ({"forget": samples(20, 0)}, "16 samples of the retain set"),
        ({"test": samples(20, 0)}, "4 samples of the test set"),
        ({"forget": 3}, "forget.*int"),
        ({"retain": 3}, "retain.*int"),
    ],
)
def test_wrong_arguments_are_one_line(wrong: dict[str, Any], words: str) -> None:
    inputs, labels = samples(20, 0)
    right: dict[str, Any] = {
        "forget": (inputs[:4], labels[:4]),
        "retain": (inputs[4:], labels[4:]),
    }
    with pytest.raises(EigenforgetError, match=words) as found:
        analyze(toys.net(), **{"oracles": [toys.net()], **right, **wrong})
    assert "\n" not in str(found.value)
