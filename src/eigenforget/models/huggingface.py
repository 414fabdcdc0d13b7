"""Image and text classifiers of Hugging Face transformers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from textwrap import shorten
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

import safetensors
import torch
from torch import nn

from eigenforget.core.errors import EigenforgetError
from eigenforget.core.extras import needed
from eigenforget.core.spec import configured
from eigenforget.core.text import listed
from eigenforget.models.building import check_classes, image_shape, initial_weights
from eigenforget.models.features import find_head
from eigenforget.models.module import Arguments, noise_of, refuse_reserved, try_inputs
from eigenforget.models.torchvision_model import check_name

_WEIGHTS = ("model.safetensors", "model.safetensors.index.json")
_OTHER_WEIGHTS = ("*.bin", "*.pt", "*.pth", "*.h5", "*.msgpack", "*.ckpt")
_FAILURES = (
    OSError,
    ImportError,
    RuntimeError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    safetensors.SafetensorError,
)
_CONVERT = (
    "where they are trusted: AutoModelForSequenceClassification.from_pretrained(folder)"
    ".save_pretrained(new) writes safetensors"
)
_AUTO = {"image": "AutoModelForImageClassification", "text": "AutoModelForSequenceClassification"}
_TOKENS = 8
_LONGEST = 300
"""Characters of another library's message that are passed on."""


@configured
class HuggingFace:
    """A classifier of transformers: hf(path="folder") or hf(config={"model_type": "vit", …}).

    A folder holds config.json and, for pretrained weights, model.safetensors. Without these the
    weights are random. A head of other classes is drawn anew. Anything else is the name of a model
    in the local cache, or on the hub with hub=True. Only safetensors are loaded, in float32, and no
    code of a repository is run. Attention is the plain ("eager") one, since fused kernels have no
    second derivative. With random weights, channels and image size come from the data unless
    `config` gives them. Text models get inputs {"input_ids": …, "attention_mask": …}.
    """

    name: ClassVar[str] = "hf"
    path: Annotated[
        str, "folder with config.json, or the name of a model; '' for `config` alone"
    ] = ""
    kind: Annotated[
        Literal["auto", "image", "text"], "what is classified; auto: what the config allows"
    ] = "auto"
    config: Annotated[
        Arguments, 'entries of the config: {"model_type": "vit", "hidden_size": 48}'
    ] = ()
    hub: Annotated[bool, "may download; the default reads local files only"] = False

    def build(self, num_classes: int, input_shape: tuple[int, ...], *, seed: int) -> nn.Module:
        """A model from images [B, C, H, W] or dicts of tokens [B, T] to outputs with logits.

        Raises:
            EigenforgetError: transformers is not installed, there is no such folder, model or
                classifier of this kind, weights are in other formats or of other shapes, or the
                network does not take such images.
        """
        check_classes(self.name, num_classes)
        what = f"hf {self.path or dict(self.config).get('model_type', '')}"
        transformers = needed("transformers", extra="hf", what="the model hf()")
        config = self._config(transformers, num_classes, what)
        kind = _kind(transformers, config, self.kind, what)
        pretrained = self._has_weights(what)
        if kind == "image":
            shape = image_shape(what, input_shape)
            if not pretrained:
                self._fit_to(config, num_channels=shape.channels, image_size=shape.height)
        auto = getattr(transformers, _AUTO[kind])
        with initial_weights(seed):
            loaded = self._load(auto, config, what) if pretrained else _random(auto, config, what)
        example = noise_of(input_shape) if kind == "image" else tokens_of(input_shape)
        try_inputs(loaded.model, example, what=what, num_classes=num_classes)
        _check_resized(loaded, what)
        return loaded.model.train()

    def _config(self, transformers: Any, num_classes: int, what: str) -> Any:
        # Configs are JSON, which has lists and no tuples.
        entries = {name: list(v) if isinstance(v, tuple) else v for name, v in self.config}
        refuse_reserved(what, entries, ("num_labels", "dtype", "torch_dtype", "trust_remote_code"))
        if self.path:
            refuse_reserved(what, entries, ("model_type",))
            folder = Path(self.path)
            if folder.is_dir() and not (folder / "config.json").is_file():
                raise EigenforgetError(f"{what}: the folder has no config.json")
            load = transformers.AutoConfig.from_pretrained
            hint = (
                ""
                if self.hub or folder.is_dir()
                else " (no such folder, and not in the local cache; hub=True may download it)"
            )
            return _called(
                lambda: load(
                    self.path, num_labels=num_classes, local_files_only=not self.hub, **entries
                ),
                f"{what}: no usable config{hint}",
            )
        if "model_type" not in entries:
            raise EigenforgetError(
                'hf needs path="folder or name", or config with a model_type, such as '
                '{"model_type": "vit"}'
            )
        check_name(entries["model_type"], list(transformers.CONFIG_MAPPING.keys()), "transformers")
        return _called(
            lambda: transformers.AutoConfig.for_model(num_labels=num_classes, **entries),
            f"{what}: no usable config",
        )

    def _has_weights(self, what: str) -> bool:
        """Whether there are weights to load; weights in other formats alone are an error."""
        folder = Path(self.path)
        if not self.path or not folder.is_dir():
            return bool(self.path)
        if any((folder / name).is_file() for name in _WEIGHTS):
            return True
        others = sorted(
            file.name
            for pattern in _OTHER_WEIGHTS
            for file in folder.glob(pattern)
            if file.name != "training_args.bin"
        )
        if others:
            raise EigenforgetError(
                f"{what}: only safetensors are loaded, the folder has {listed(others)}; {_CONVERT}"
            )
        return False

    def _fit_to(self, config: Any, **sizes: int) -> None:
        for name, value in sizes.items():
            if hasattr(config, name) and name not in dict(self.config):
                setattr(config, name, value)

    def _load(self, auto: Any, config: Any, what: str) -> _LoadedModel:
        model, info = _called(
            lambda: auto.from_pretrained(
                self.path,
                config=config,
                use_safetensors=True,
                ignore_mismatched_sizes=True,
                output_loading_info=True,
                local_files_only=not self.hub,
                dtype=torch.float32,
                attn_implementation="eager",
            ),
            f"{what} cannot be loaded",
        )
        return _LoadedModel(
            model,
            sorted(key if isinstance(key, str) else key[0] for key in info["mismatched_keys"]),
        )


class _LoadedModel(NamedTuple):
    """A model, and the names of weights whose shape in the file is another."""

    model: nn.Module
    resized: list[str]


def tokens_of(input_shape: tuple[int, ...]) -> dict[str, torch.Tensor]:
    """One text [1, T] of the token 1, with T the length of the data's texts if they have one."""
    length = min(input_shape[0], _TOKENS) if len(input_shape) == 1 else _TOKENS
    ones = torch.ones(1, length, dtype=torch.long)
    return {"input_ids": ones, "attention_mask": ones}


def _random(auto: Any, config: Any, what: str) -> _LoadedModel:
    made = _called(
        lambda: auto.from_config(config, dtype=torch.float32, attn_implementation="eager"),
        f"{what} cannot be made",
    )
    return _LoadedModel(made, [])


def _kind(transformers: Any, config: Any, asked: str, what: str) -> str:
    mappings = {
        "image": transformers.MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING,
        "text": transformers.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING,
    }
    able = [kind for kind, mapping in mappings.items() if type(config) in mapping]
    if asked == "auto" and len(able) == 1:
        return able[0]
    if asked in able:
        return asked
    offered = " and ".join(able) or "no"
    wish = 'say kind="image" or kind="text"' if asked == "auto" else f"kind={asked!r} was asked for"
    raise EigenforgetError(
        f"{what} is a {type(config).__name__}, of which transformers has {offered} classifiers; "
        f"{wish}"
    )


def _check_resized(loaded: _LoadedModel, what: str) -> None:
    """Error: weights outside the head have another shape in the file, and would stay random."""
    if not loaded.resized:
        return
    head, _ = find_head(loaded.model)
    wrong = [name for name in loaded.resized if name.rpartition(".")[0] != head]
    if wrong:
        raise EigenforgetError(f"{what}: of another shape than the config says: {listed(wrong)}")


def _called(load: Callable[[], Any], what: str) -> Any:
    # Configs are checked by a class of their own, an Exception and nothing more special.
    invalid = getattr(
        needed("huggingface_hub.errors", extra="hf", what="the model hf()"),
        "StrictDataclassError",
        ValueError,
    )
    try:
        return load()
    except (*_FAILURES, invalid) as error:
        raise EigenforgetError(
            f"{what}: {shorten(str(error) or type(error).__name__, _LONGEST, placeholder=' …')}"
        ) from None
