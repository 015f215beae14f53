"""Runs of all kinds: how a configuration is run, on what, by what its record is known, and what it can be asked.

To add a kind: a frozen dataclass with the fields ``experiment``, ``data``, ``arch``, ``arch_settings``, ``tasks``
and ``steps``, what `training.keeping.Kept` asks of a run of it, and a line in `KINDS`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from torch_experiments.lab import language, models, records, rl, training
from torch_experiments.lab.images import pixels
from torch_experiments.support.choices import choose


@dataclass(frozen=True)
class Kind:
    """What is known of the configurations of one class.

    Attributes:
        run: as `training.run`.
        load: returns what all configurations with this ``data`` are run on.
        identity: of the record of a configuration, a seed and what it was run on.
        sizes: names that ``arch_settings`` may hold.
        stackable: whether the seeds of some of them can be trained at once.
    """

    run: Callable[..., list[records.Record]]
    load: Callable[[str], Any]
    identity: Callable[[Any, int, Any], dict[str, Any]]
    sizes: Callable[[Any], tuple[str, ...]]
    stackable: bool = False


KINDS: Mapping[type, Kind] = {
    training.Config: Kind(
        training.run,
        pixels.load,
        lambda config, seed, data: training.run_identity(config, seed, data.fingerprint),
        lambda config: (*models.settings_of(config.arch), "clones"),
        stackable=True,
    ),
    language.Config: Kind(
        language.run,
        language.load,
        lambda config, seed, data: training.run_identity(config, seed, data.fingerprint),
        lambda config: language.SIZES,
    ),
    **dict.fromkeys(
        (rl.Config, rl.ValueConfig),
        Kind(rl.run, lambda name: None, lambda config, seed, data: config.identity(seed), lambda config: rl.SIZES),
    ),
}


def kind(config: Any) -> Kind:
    """Return the kind of a configuration.

    >>> kind(rl.Config()).sizes(rl.Config())
    ('width', 'depth')
    """
    return KINDS[type(config)]


def check_fields(config: Any, names: Mapping[str, Any]) -> None:
    """Raise a ValueError that names the first option, or axis, which configurations of this kind do not have.

    >>> check_fields(rl.Config(experiment="mine"), {"precision": "bf16"})
    Traceback (most recent call last):
    ValueError: precision: mine does not have it; leave out --precision
    """
    known = {field.name for field in fields(config)}
    for name in names:
        if name not in known:
            raise ValueError(f"{name}: {config.experiment} does not have it; leave out --{name.replace('_', '-')}")


def check_sizes(config: Any, names: Mapping[str, Any]) -> None:
    """Raise a ValueError for a size that the networks of a configuration do not have; it lists those they have."""
    for name in names:
        choose("settings", name, dict.fromkeys(kind(config).sizes(config)))
