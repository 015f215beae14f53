"""Random numbers that depend on a seed and a place alone, not on what was drawn before."""

from __future__ import annotations

import torch


def generator(seed: int, *place: int, device: str | torch.device = "cpu") -> torch.Generator:
    """Return a generator for this ``seed`` and place: the same numbers whatever was drawn before.

    Seed and place are mixed by SplitMix64 steps, so that neighbours have unrelated streams.

    Args:
        seed: any integer, of which 64 bits count.
        place: integers that say what the numbers are for, such as a task and a step.
        device: of the generator.

    >>> first, again = (torch.rand(1, generator=generator(0, 3, 7)) for _ in range(2))
    >>> bool(first == again), bool(first == torch.rand(1, generator=generator(0, 7, 3)))
    (True, False)
    """
    state = 0
    for number in (seed, *place):
        state = _mixed(state ^ (number & _MASK))
    return torch.Generator(device).manual_seed(state >> 1)  # torch takes 63 bits of a positive seed


_MASK = (1 << 64) - 1


def _mixed(state: int) -> int:
    """Return one step of SplitMix64 (Steele et al. 2014)."""
    state = (state + 0x9E3779B97F4A7C15) & _MASK
    state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & _MASK
    return state ^ (state >> 31)
