"""All architectures."""

from __future__ import annotations

from tests.zoo.hugging_face import hugging_face
from tests.zoo.own import own
from tests.zoo.policies import policies
from tests.zoo.registry import Architecture
from tests.zoo.timm_models import timm_models

ZOO: tuple[Architecture, ...] = (*own(), *hugging_face(), *timm_models(), *policies())
