"""Models of timm, made small by its own arguments, called with images.

timm imports parts of torchvision for data sets and augmentation, none of which a network needs, and torchvision's
wheel on PyPI is built for CUDA: beside a torch for CPU alone its import fails. So stand-ins take its place while
timm is imported, and are taken away again, as other packages ask whether torchvision is there.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType
from typing import Any

from torch import nn

from tests.zoo.registry import CLASSES, PIXELS, Architecture, images

# what timm imports of it, at the top of its files
STOOD_IN_FOR = (
    "torchvision", "torchvision.datasets", "torchvision.models", "torchvision.models.feature_extraction",
    "torchvision.ops", "torchvision.ops.misc", "torchvision.transforms", "torchvision.transforms.functional",
    "torchvision.utils",
)  # fmt: skip


class StandIn(ModuleType):
    """A module that has every name, each a class that does nothing."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        made: Any = type(
            name, (nn.Module,), {"NEAREST": 0, "BILINEAR": 2, "BICUBIC": 3, "BOX": 4, "HAMMING": 5, "LANCZOS": 1}
        )
        setattr(self, name, made)
        return made


@contextmanager
def stood_in() -> Iterator[None]:
    """Put stand-ins in the place of torchvision where it is not installed."""
    names = [] if find_spec("torchvision") else STOOD_IN_FOR
    for name in names:
        module = StandIn(name)
        module.__spec__, module.__path__ = ModuleSpec(name, None, is_package=True), []
        sys.modules[name] = module
        home, _, own = name.rpartition(".")
        if home:
            setattr(sys.modules[home], own, module)
    try:
        yield
    finally:
        for name in names:
            sys.modules.pop(name, None)


def create(name: str, settings: Mapping[str, Any]) -> nn.Module:
    """Return a model of timm, by its name or by `file.Class`, with random weights."""
    with stood_in():
        import timm
    if "." not in name:
        return timm.create_model(name, pretrained=False, num_classes=CLASSES, **settings)
    file, kind = name.split(".")
    home = import_module(f"timm.models.{file}")
    return getattr(home, kind)(num_classes=CLASSES, **{key: _read(home, key, v) for key, v in settings.items()})


def _read(home: ModuleType, key: str, value: Any) -> Any:
    """Return a setting: a class of its file, a configuration of settings, or blocks in timm's shorthand."""
    if key == "block_layer":
        return getattr(home, value)
    if key == "block_args":
        return import_module("timm.models._efficientnet_builder").decode_arch_def(value)
    return (
        getattr(home, value["class"])(**{k: v for k, v in value.items() if k != "class"})
        if key == "cfg" and isinstance(value, dict)
        else value
    )


PATCHES = {"img_size": PIXELS, "patch_size": 8, "embed_dim": 32, "num_blocks": 2}
SMALL_VIT = {"img_size": PIXELS, "patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 4}
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "vit_tiny_patch16_224": ("transformer", SMALL_VIT),
    "deit_tiny_distilled_patch16_224": ("transformer", SMALL_VIT),
    "deit3_small_patch16_224": ("transformer", SMALL_VIT),
    "eva02_tiny_patch14_224": ("transformer", SMALL_VIT),
    "beit_base_patch16_224": ("transformer", SMALL_VIT),
    "cait_xxs24_224": ("transformer", SMALL_VIT | {"depth_token_only": 1}),
    "swin_tiny_patch4_window7_224": (
        "transformer",
        {
            "img_size": PIXELS,
            "patch_size": 4,
            "window_size": 4,
            "embed_dim": 16,
            "depths": (1, 2),
            "num_heads": (2, 4),
        },
    ),
    "pvt_v2_b0": (
        "transformer",
        {"depths": (1, 1, 1, 1), "embed_dims": (8, 16, 20, 32), "num_heads": (1, 2, 5, 4)},
    ),
    "mlp_mixer.MlpMixer": ("MLP of patches", PATCHES),
    "mlp_mixer.MlpMixer, ResMLP": ("MLP of patches", PATCHES | {"block_layer": "ResBlock", "mlp_ratio": 2}),
    "convmixer.ConvMixer": ("convolutional", {"dim": 16, "depth": 2, "kernel_size": 5, "patch_size": 4}),
    "convnext_atto": ("convolutional", {"depths": (1, 1, 1, 1), "dims": (8, 12, 16, 24)}),
    "convnextv2_atto": ("convolutional", {"depths": (1, 1, 1, 1), "dims": (8, 12, 16, 24)}),
    "metaformer.MetaFormer": ("convolutional", {"depths": (1, 1, 1, 1), "dims": (8, 12, 16, 24)}),
    "resnet10t": ("convolutional", {"channels": (8, 12, 16, 24)}),
    "seresnet18": ("convolutional", {"channels": (16, 16, 32, 32), "layers": (1, 1, 1, 1)}),
    "resnetv2_50": ("convolutional", {"layers": (1, 1, 1, 1), "channels": (16, 32, 48, 64), "stem_chs": 8}),
    "resnetv2.ResNetV2, BiT": ("convolutional", {"layers": (1, 1), "channels": (128, 256), "stem_chs": 32}),
    "nfnet.NormFreeNet": (
        "convolutional",
        {"cfg": {"class": "NfCfg", "depths": (1, 1, 1, 1), "channels": (16, 24, 32, 32), "stem_chs": 8}},
    ),
    "regnet.RegNet": (
        "convolutional",
        {
            "cfg": {
                "class": "RegNetCfg",
                "depth": 4,
                "w0": 8,
                "wa": 8.0,
                "wm": 1.3,
                "group_size": 4,
                "stem_width": 8,
            }
        },
    ),
    "efficientnet.EfficientNet": (
        "convolutional",
        {
            "block_args": [["ds_r1_k3_s1_e1_c8_se0.25"], ["ir_r2_k3_s2_e3_c12_se0.25"]],
            "num_features": 32,
            "stem_size": 8,
        },
    ),
    "mobilenetv3.MobileNetV3": (
        "convolutional",
        {
            "block_args": [["ds_r1_k3_s2_e1_c8_se0.25_nre"], ["ir_r2_k3_s2_e3_c12_se0.25"]],
            "num_features": 32,
            "stem_size": 8,
        },
    ),
    "ghostnet.GhostNet": ("convolutional", {"cfgs": [[[3, 16, 16, 0, 1]], [[3, 24, 16, 0.25, 2]]], "width": 0.5}),
    "vgg.VGG": ("convolutional", {"cfg": [4, "M", 8, "M", 8, "M", 8, "M"], "mlp_ratio": 0.004}),
    "densenet121": ("convolutional", {"growth_rate": 8, "block_config": (2, 2)}),
}


def timm_models() -> Iterator[Architecture]:
    """Yield the architectures of the package."""
    for name, (family, settings) in MODELS.items():
        yield Architecture(name, family, "timm", partial(create, name.partition(",")[0], settings), images)
