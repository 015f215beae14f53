"""Settings for all tests: hypothesis profiles, one thread, no display, GPU tests skipped without a GPU."""

import os
import signal
import sys
from importlib.util import find_spec

import hypothesis
import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("SYMPY_GROUND_TYPES", "python")
os.environ["MPLBACKEND"] = "Agg"
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # so it is in the background of a shell; tests send it
    signal.signal(signal.SIGINT, signal.default_int_handler)

pytest_plugins = ["pytester"]

slow_machine = [hypothesis.HealthCheck.too_slow]
hypothesis.settings.register_profile("dev", max_examples=25, deadline=None, suppress_health_check=slow_machine)
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


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    gpu = [item for item in items if item.get_closest_marker("gpu")]
    if gpu and not _has_gpu():
        for item in gpu:
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device, and torch sees none"))


def _has_gpu() -> bool:
    if find_spec("torch") is None:
        return False
    import torch

    return torch.cuda.is_available()


def pytest_collection_finish() -> None:
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)


@pytest.fixture
def command(monkeypatch, capsys):
    """Run `lop` with arguments in this process; return its exit code, output and errors."""
    import lop

    def command(*arguments):
        monkeypatch.setattr(sys, "argv", ["lop", *map(str, arguments)])
        code = 0
        try:
            lop.main()
        except SystemExit as stop:
            code = stop.code
        return code, *capsys.readouterr()

    return command
