"""Model families of other libraries go all the way, with small instances and random weights."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from eigenforget import Logits
from eigenforget.cli import main
from tests.extras import journey

torchvision = pytest.importorskip("torchvision")
timm = pytest.importorskip("timm")
transformers = pytest.importorskip("transformers")
peft = pytest.importorskip("peft")

TORCHVISION: dict[str, Callable[[], nn.Module]] = {
    "resnet": lambda: torchvision.models.ResNet(
        torchvision.models.resnet.BasicBlock, [1, 1, 1, 1], num_classes=3, width_per_group=64
    ),
    "convnext": lambda: torchvision.models.ConvNeXt(
        [
            torchvision.models.convnext.CNBlockConfig(8, 16, 1),
            torchvision.models.convnext.CNBlockConfig(16, None, 1),
        ],
        num_classes=3,
    ),
    "vit": lambda: torchvision.models.VisionTransformer(32, 8, 1, 2, 16, 32, num_classes=3),
    "swin": lambda: torchvision.models.SwinTransformer(
        [4, 4], 8, [1, 1], [2, 2], [4, 4], num_classes=3
    ),
    "swin_v2": lambda: torchvision.models.SwinTransformer(
        [4, 4],
        8,
        [1, 1],
        [2, 2],
        [4, 4],
        num_classes=3,
        block=torchvision.models.swin_transformer.SwinTransformerBlockV2,
        downsample_layer=torchvision.models.swin_transformer.PatchMergingV2,
    ),
}


@pytest.mark.parametrize("family", TORCHVISION)
def test_torchvision(family: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    journey.go(TORCHVISION[family](), TORCHVISION[family], tmp_path)


TIMM: dict[str, dict[str, Any]] = {
    "resnet18": {"channels": (8, 8, 16, 16)},
    "convnext_atto": {"depths": (1, 1, 1, 1), "dims": (4, 4, 8, 8)},
    "vit_tiny_patch16_224": {"img_size": 32, "patch_size": 8, "depth": 1, "embed_dim": 24},
    "deit_tiny_distilled_patch16_224": {
        "img_size": 32,
        "patch_size": 8,
        "depth": 1,
        "embed_dim": 24,
    },
}


@pytest.mark.parametrize("arch", TIMM)
def test_timm(arch: str, tmp_path: Path) -> None:
    def make() -> nn.Module:
        return timm.create_model(arch, num_classes=3, **TIMM[arch])

    torch.manual_seed(0)
    more = {"layer": "norm"} if "distilled" in arch else {}
    journey.go(make(), make, tmp_path, **more)


HF_IMAGE = {
    "vit": {
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 16,
        "patch_size": 8,
        "image_size": 32,
    },
    "resnet": {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1]},
    "convnext": {"hidden_sizes": [8, 16], "depths": [1, 1], "num_stages": 2},
    "swin": {
        "image_size": 32,
        "embed_dim": 8,
        "depths": [1, 1],
        "num_heads": [2, 2],
        "window_size": 4,
    },
}
HF_TEXT = {
    "bert": {
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 16,
        "vocab_size": 24,
    },
    "distilbert": {"dim": 16, "n_layers": 1, "n_heads": 2, "hidden_dim": 16, "vocab_size": 24},
    "roberta": {
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 16,
        "vocab_size": 24,
    },
    "gpt2": {
        "n_embd": 16,
        "n_layer": 1,
        "n_head": 2,
        "vocab_size": 24,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 1,
    },
    "llama": {
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "intermediate_size": 16,
        "vocab_size": 24,
        "pad_token_id": 0,
    },
}


def hugging_face(auto: str, kind: str, config: dict[str, Any], **more: Any) -> nn.Module:
    made = transformers.AutoConfig.for_model(kind, num_labels=3, **config)
    return getattr(transformers, auto).from_config(made, **more)


@pytest.mark.parametrize(
    ("kind", "attention"), [("vit", "sdpa"), *((kind, "eager") for kind in HF_IMAGE)]
)
def test_image_classifiers_of_hugging_face(kind: str, attention: str, tmp_path: Path) -> None:
    def make() -> nn.Module:
        return hugging_face(
            "AutoModelForImageClassification", kind, HF_IMAGE[kind], attn_implementation=attention
        )

    torch.manual_seed(0)
    journey.go(make(), make, tmp_path)


def text_classifier(kind: str = "bert", **more: Any) -> nn.Module:
    return hugging_face("AutoModelForSequenceClassification", kind, HF_TEXT[kind], **more)


@pytest.mark.parametrize("kind", HF_TEXT)
def test_text_classifiers_of_hugging_face(kind: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    journey.go(text_classifier(kind), lambda: text_classifier(kind), tmp_path, data=journey.tokens)


def with_adapters(*more: str) -> nn.Module:
    torch.manual_seed(1)
    config = peft.LoraConfig(
        task_type=None if more else "SEQ_CLS", r=2, target_modules=["query", "value", *more]
    )
    model = peft.get_peft_model(text_classifier(), config)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter, std=0.1)
    return model


@pytest.mark.parametrize("more", [(), ("classifier",)])
def test_a_model_with_lora_adapters_is_unlearned_in_them(
    more: tuple[str, ...], tmp_path: Path
) -> None:
    model = with_adapters(*more)
    result = journey.go(model, lambda: with_adapters(*more), tmp_path, data=journey.tokens)
    moved = {n for n, t in result.state_dict().items() if not torch.equal(t, model.state_dict()[n])}
    assert moved and all("lora_" in name or "modules_to_save" in name for name in moved), moved


def test_a_model_with_merged_adapters_is_a_plain_one(tmp_path: Path) -> None:
    def make() -> nn.Module:
        return with_adapters().merge_and_unload()

    journey.go(make(), make, tmp_path, data=journey.tokens)


def test_one_label_of_hugging_face_stands_for_two_classes(tmp_path: Path) -> None:
    def make() -> nn.Module:
        config = transformers.AutoConfig.for_model("bert", num_labels=1, **HF_TEXT["bert"])
        model = transformers.AutoModelForSequenceClassification.from_config(config)
        two = lambda z: torch.cat([torch.zeros_like(z.logits), z.logits], 1)
        return Logits(model, output=two)

    def data(n: int, seed: int) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        inputs, labels = journey.tokens(n, seed)
        return inputs, (labels > 0).long()

    torch.manual_seed(0)
    journey.go(make(), make, tmp_path, data=data)


class Heads(nn.Module):
    """A coarse and a fine answer from one trunk."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(
            nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(48, 16), nn.ReLU()
        )
        self.coarse, self.fine = nn.Linear(16, 2), nn.Linear(16, 3)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        features = self.trunk(x)
        return {"fine": self.fine(features), "coarse": self.coarse(features)}


def test_one_of_several_heads_is_picked(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = Logits(Heads(), output="fine")
    result = journey.go(model, lambda: Logits(Heads(), output="fine"), tmp_path)
    assert torch.equal(result.model.coarse.weight, model.model.coarse.weight)


class SequenceFirst(nn.Module):
    """Encodes [T, B, D], as torch's own transformers and recurrent layers do by default."""

    def __init__(self, pooled: str) -> None:
        super().__init__()
        self.embed = nn.Embedding(24, 16)
        self.encoder = nn.TransformerEncoderLayer(16, 2, 16, dropout=0.0)
        self.pooled, self.head = pooled, nn.Linear(16, 3)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        del attention_mask
        steps = self.encoder(self.embed(input_ids.T))
        if self.pooled == "before":
            return self.head(steps.mean(0))
        return self.head(steps).mean(0)


@pytest.mark.parametrize("pooled", ["before", "after"])
def test_sequence_first(pooled: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    journey.go(SequenceFirst(pooled), lambda: SequenceFirst(pooled), tmp_path, data=journey.tokens)


def test_sequence_first_at_a_named_layer(tmp_path: Path) -> None:
    torch.manual_seed(0)
    make = lambda: SequenceFirst("before")
    journey.go(make(), make, tmp_path, data=journey.tokens, layer="encoder")


def test_a_frozen_backbone_stays_and_the_head_is_unlearned(tmp_path: Path) -> None:
    def make() -> nn.Module:
        model = TORCHVISION["resnet"]()
        model.requires_grad_(False)
        model.fc.requires_grad_(True)
        return model

    torch.manual_seed(0)
    model = make()
    result = journey.go(model, make, tmp_path)
    parameters = dict(model.named_parameters())
    for name, parameter in result.named_parameters():
        assert parameter.requires_grad == name.startswith("fc.")
        assert name.startswith("fc.") or torch.equal(parameter, parameters[name])


OWN = """
from tests.extras.journey import tokens
from tests.extras.test_families import with_adapters

def datasets():
    return tokens(30, 1), tokens(12, 2)

def make(num_classes):
    return with_adapters()
"""


def test_the_record_says_that_the_adapters_were_unlearned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("own.py").write_text(OWN)
    torch.save(with_adapters().state_dict(), "tuned.pt")
    words = ["unlearn", "tuned.pt", "--data", "python(path='own.py:datasets')"]
    words += ["--model", "module(path='own.py:make')", "--forget", "by_rows(rows=(0, 4, 8))"]
    words += ["--method", "finetune(epochs=1)", "--allow", "poor-original", "--like", "tuned.pt"]
    main([*words, "--out", "forgotten.pt"])
    said = json.loads(Path("forgotten.json").read_text())["job"]["frozen_weights"]
    assert "adapters" in said["said"] and 0.5 < said["share"] < 1
    before, after = torch.load("tuned.pt"), torch.load("forgotten.pt")
    assert list(before) == list(after)
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved and all("lora_" in name or "modules_to_save" in name for name in moved)
