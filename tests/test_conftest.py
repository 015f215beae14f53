"""Runs of the tests: the seed of their draws, and their order."""

from pathlib import Path

import hypothesis
import pytest
import torch
from hypothesis import core

from tests import conftest

ROOT = Path(__file__).parents[1]
DRAW = """
import torch
from hypothesis import given, strategies as st

@given(st.integers(0, 2**60))
def test_draws(n):
    print("drawn", n)

def test_torch():
    print("drawn", torch.rand(1).item())
"""


@pytest.fixture
def drawn(pytester, monkeypatch):
    """Yield a function that runs a test file under the settings of all tests: its draws and the seed it names."""
    assert torch, "a run within this one cannot be the first to import it"
    monkeypatch.setattr(core, "global_force_seed", core.global_force_seed)  # put back after those runs
    monkeypatch.setenv("HYPOTHESIS_PROFILE", "dev")  # that of CI is the same in every run, whatever the seed
    before = hypothesis.settings.get_current_profile_name()
    pytester.makeconftest((ROOT / "tests/conftest.py").read_text(encoding="utf-8"))
    pytester.makepyfile(DRAW)

    def drawn(*options):
        output = pytester.runpytest_inprocess("-s", "-p", "no:cacheprovider", *options).outlines
        seeds = [line.split()[2].rstrip(":") for line in output if line.startswith("hypothesis seed")]
        return [line for line in output if "drawn" in line], *seeds

    yield drawn
    hypothesis.settings.load_profile(before)  # the inner runs load theirs in this process


def test_a_seed_repeats_the_draws_and_the_header_names_it(drawn):
    first, seed = drawn()
    assert (first, seed) == drawn(f"--hypothesis-seed={seed}")
    assert first != drawn(f"--hypothesis-seed={int(seed) + 1}")[0]


def test_files_that_take_long_are_there_and_run_first():
    assert all((ROOT / "tests" / name).is_file() for name in conftest.LONG)
    names = ["claims/test_ledger.py", *reversed(conftest.LONG), "units/test_axes.py"]
    assert sorted(names, key=conftest.place) == [*conftest.LONG, "claims/test_ledger.py", "units/test_axes.py"]


def test_make_keeps_the_order_for_its_workers():
    assert "--dist loadfile --no-loadscope-reorder" in (ROOT / "Makefile").read_text()
