"""`lop simulate bit-flipping`: prints how a run ends, writes it, and refuses bad input with one line."""

import subprocess
import sys
from pathlib import Path

import pytest

import lop

LOP = str(Path(__file__).parents[2] / "lop.py")


def call(*arguments):
    return subprocess.run(
        [sys.executable, LOP, "simulate", "bit-flipping", *arguments], capture_output=True, text=True, check=False
    )


def test_a_run_prints_its_end_and_goes_into_a_file(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["lop"])
    file = tmp_path / "run.npz"
    lop.simulate("bit-flipping", "cbp", hidden=3, steps=4_000, seeds=(0, 1), bin_=2_000, out=file)
    printed = capsys.readouterr().out
    assert "cbp, 3 units, 4,000 steps" in printed
    assert "loss" in printed
    assert file.exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--learner", "cpb"], "lop: learner: 'cpb' is unknown; did you mean cbp?"),
        (["--hidden", "-3"], "lop: hidden: got -3; it has to be at least 1"),
        (["--bin", "7"], "lop: bin: 7 does not divide the 1000000 steps; choose one that does"),
        (["--rate", "-1"], "lop: rate: got -1.0; it has to be finite, 0 or more"),
    ],
)
def test_bad_input_ends_with_one_line(arguments, said):
    found = call(*arguments)
    assert found.returncode == 2
    assert found.stderr.strip() == said
