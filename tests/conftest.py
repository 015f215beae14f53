"""Settings for all tests: profiles and seeds of hypothesis, order, one thread, no display, GPU tests with a GPU."""

import gc
import os
import secrets
import signal
import sys
from importlib.util import find_spec
from typing import Any

import hypothesis
import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("SYMPY_GROUND_TYPES", "python")
os.environ["MPLBACKEND"] = "Agg"
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # so it is in the background of a shell; tests send it
    signal.signal(signal.SIGINT, signal.default_int_handler)

pytest_plugins = ["pytester"]
LONG = (  # files that take longest go first, so that parallel workers, which take whole files, end together
    "notebooks/test_notebooks.py",
    "torch_experiments/lab/campaign/test_grids.py",
    "test_mutations.py",
    "torch_experiments/lab/test_optimizer_table.py",
    "zoo/test_zoo.py",
    "paper_figures/test_figures.py",
    "theory/test_kernels.py",
    "torch_experiments/cloning/test_modulewise.py",
    "lop/test_bad_input.py",
    "torch_experiments/certificates/test_stochastic.py",
    "theory/test_strength.py",
    "theory/test_enclosures.py",
    "theory/test_exhaustive.py",
    "torch_experiments/cloning/test_exact.py",
    "test_wheel.py",
    "theory/test_closed_forms.py",
    "claims/test_plugin.py",
    "torch_experiments/lab/training/test_parallel.py",
    "torch_experiments/lab/experiments/test_runner.py",
    "simulate/test_published.py",
    "simulate/test_learners.py",
    "torch_experiments/lab/campaign/test_campaign.py",
    "torch_experiments/lab/experiments/test_submitted.py",
    "torch_experiments/remedies/test_steepest.py",
    "torch_experiments/diagnostics/test_monitor.py",
    "torch_experiments/lab/training/test_ensemble.py",
    "torch_experiments/lab/training/test_keeping.py",
    "torch_experiments/certificates/optimizer/test_cloned_weights.py",
    "torch_experiments/certificates/optimizer/test_held_weights.py",
    "fuzz/test_certificates.py",
    "theory/test_rank.py",
    "theory/test_depth.py",
    "theory/test_cloned.py",
    "theory/test_full_rank.py",
    "simulate/test_bit_flipping.py",
)

slow_machine = [hypothesis.HealthCheck.too_slow]
hypothesis.settings.register_profile(
    "dev", max_examples=25, deadline=None, suppress_health_check=slow_machine, derandomize=False
)
hypothesis.settings.register_profile(
    "ci", max_examples=100, deadline=None, suppress_health_check=slow_machine, derandomize=True
)
hypothesis.settings.register_profile(  # for runs that are meant to fail: no time spent on shrinking
    "mutated",
    max_examples=25,
    deadline=None,
    derandomize=True,
    suppress_health_check=slow_machine,
    phases=[hypothesis.Phase.explicit, hypothesis.Phase.generate],
)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "dev"))


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Draw the seed of hypothesis where none is given, so that the header can name it; workers get the same."""
    workerinput = getattr(config, "workerinput", {})
    if config.option.hypothesis_seed is None:
        config.option.hypothesis_seed = workerinput.get("hypothesis_seed", str(secrets.randbelow(2**32)))


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    node.workerinput["hypothesis_seed"] = node.config.option.hypothesis_seed


def pytest_report_header(config: pytest.Config) -> str:
    return f"hypothesis seed {config.option.hypothesis_seed}: `make test SEED=…` repeats the draws"


def place(file: str) -> int:
    """Return the place of a file, named from this folder, in the order of a run."""
    return LONG.index(file) if file in LONG else len(LONG)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: place(item.nodeid.partition("::")[0].removeprefix("tests/")))
    gpu = [item for item in items if item.get_closest_marker("gpu")]
    if gpu and not _has_gpu():
        for item in gpu:
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device, and torch sees none"))


def _has_gpu() -> bool:
    if find_spec("torch") is None:
        return False
    import torch

    return torch.cuda.is_available()


@pytest.hookimpl(tryfirst=True)
def pytest_collection() -> None:
    gc.disable()  # collecting makes thousands of objects, and all of them stay


def pytest_collection_finish() -> None:
    gc.freeze()  # no collection of garbage looks through them again
    gc.enable()
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Start every test from the same state of torch's own generator, whichever tests ran before."""
    if "torch" in sys.modules:
        sys.modules["torch"].default_generator.manual_seed(0)


@pytest.fixture
def command(capsys):
    """Run `lop` with words in this process; return its exit code, output and errors."""
    import lop

    def command(*words):
        code = 0
        try:
            lop.main(words)
        except SystemExit as stop:
            code = stop.code or 0
        return code, *capsys.readouterr()

    return command
