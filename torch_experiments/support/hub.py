"""A network with its weights by name: of the Hugging Face hub, or of a folder that ``save_pretrained`` wrote.

Weights are read from safetensors alone, and no code of the repository runs.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from torch_experiments.support.loading import random_batch

TOKENS = 16  # of a sample, where no shape is asked for


def pretrained(name: str, revision: str | None = None) -> nn.Module:
    """Return the model of the class that its configuration names, with all of its weights.

    Args:
        name: ``ORG/NAME`` on the hub, of which what is missing is downloaded, or a folder.
        revision: a branch, tag or commit.

    Raises:
        ImportError: without transformers.
        ValueError: for a name that cannot be read, a class that transformers does not have, or weights that are
            missing, in which case the model would be certified with random ones.

    >>> pretrained("no/such/folder")
    Traceback (most recent call last):
    ValueError: hf: 'no/such/folder' is no folder and no ORG/NAME
    """
    folder = Path(name)
    if not folder.is_dir() and name.count("/") > 1:
        raise ValueError(f"hf: {name!r} is no folder and no ORG/NAME")
    import transformers

    try:
        with _quiet(transformers.utils.logging):
            config = transformers.AutoConfig.from_pretrained(name, revision=revision)
            kind = _class(transformers, config, name)
            model, told = kind.from_pretrained(
                name, revision=revision, use_safetensors=True, output_loading_info=True
            )
    except _Unknown:
        raise
    except Exception as error:  # of any kind, where a file is missing, damaged, or of another shape
        said = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise ValueError(
            f"hf: {name!r} cannot be read ({said}); give ORG/NAME of a model with safetensors, or a folder with "
            "config.json and model.safetensors"
        ) from error
    if absent := sorted({*told["missing_keys"], *(key for key, *_ in told["mismatched_keys"])}):
        raise ValueError(f"hf: {name!r} has no weights for {', '.join(absent[:5])}, which would be random")
    found: nn.Module = model
    return found


def example(model: Any, shape: tuple[int, ...], samples: int, seed: int) -> dict[str, Tensor]:
    """Return random inputs of a model of transformers by the names of its arguments: tokens, or pixels.

    Args:
        model: with its ``config`` and ``main_input_name``.
        shape: of one sample; from the configuration if empty.
        samples, seed: how many, and of what draw.

    Raises:
        ValueError: where the configuration does not tell the shape.

    >>> from types import SimpleNamespace as Space
    >>> tokens = Space(main_input_name="input_ids", config=Space(vocab_size=7, is_encoder_decoder=False))
    >>> {name: x.shape for name, x in example(tokens, (), 2, 0).items()}
    {'input_ids': torch.Size([2, 16]), 'attention_mask': torch.Size([2, 16])}
    """
    name, config = model.main_input_name, model.config
    if name == "input_ids":
        ids = random_batch(model, shape or (TOKENS,), samples, tokens=config.vocab_size, seed=seed).inputs
        found = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        return found | ({"decoder_input_ids": ids} if config.is_encoder_decoder else {})
    if not shape and name == "pixel_values" and hasattr(config, "image_size"):
        sides = config.image_size
        height, width = (sides, sides) if isinstance(sides, int) else sides
        shape = (getattr(config, "num_channels", 3), height, width)
    if not shape:
        raise ValueError(
            f"input: is missing; give the shape of one {name}, such as --input 80,3000, or --batch FILE"
        )
    return {name: random_batch(model, shape, samples, seed=seed).inputs}


class _Unknown(ValueError):
    """A class that transformers does not have."""


@contextmanager
def _quiet(logging: Any) -> Iterator[None]:
    """Let transformers say nothing of weights, as what is missing is an error, and show bars on terminals alone."""
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    if not sys.stderr.isatty():
        logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def _class(transformers: Any, config: Any, name: str) -> Any:
    """Return the class of transformers that a configuration names, the bare model if it names none."""
    kinds = list(config.architectures or ())
    if not kinds:
        return transformers.AutoModel
    if not hasattr(transformers, kinds[0]):
        raise _Unknown(
            f"hf: {name!r} is a {kinds[0]}, which transformers {transformers.__version__} does not have, and no "
            "code of a repository is run; give a function that makes it, as module:function, with --checkpoint"
        )
    return getattr(transformers, kinds[0])
