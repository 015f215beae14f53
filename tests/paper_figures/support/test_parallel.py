import contextlib
import os
import signal
import subprocess
import sys
import time

SCRIPT = """
import sys, time, warnings
from pathlib import Path
from types import SimpleNamespace
from matplotlib.figure import Figure
from paper_figures.support import captions, parallel, registry

parallel.SLOW = ("paper_figures.support.registry",)  # all that these figures need

def register(name, untrue=False, seconds=0.0):
    def compute(profile, folder):
        print(f"computing {name}", file=sys.stderr)
        (folder / name).touch()
        time.sleep(seconds)
        print(f"computed {name}")

    sys.modules[f"paper_figures.{name}"] = SimpleNamespace(
        NAME=name, TITLE=f"the title of {name}", compute=compute, introduction=lambda data: "Two are shown.",
        checks=lambda data: [captions.Check("One is 1.", not untrue)],
        draw=lambda data: Figure(),
    )

register("false", untrue=True), register("one"), register("two"), register("slow", seconds=600.0)
registry.FIGURES = ("false", "one", "two", "slow")
if __name__ == "__main__":
    folder, *names = sys.argv[1:]
    registry.main(names, out=Path(folder), results=Path(folder), jobs=2)
"""


def in_two_processes(folder, *names):
    """Start the registry of `SCRIPT` with two jobs."""
    (folder / "script.py").write_text(SCRIPT)
    command = [sys.executable, folder / "script.py", folder, *names]
    environment = {**os.environ, "PYTHONPATH": os.getcwd()}
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, start_new_session=True
    )


def all_ended(group, seconds=10.0):
    """Return whether all processes of a group end in time."""
    limit = time.monotonic() + seconds
    with contextlib.suppress(ProcessLookupError):
        while time.monotonic() < limit:
            os.killpg(group, 0)
            time.sleep(0.1)
        return False
    return True


def test_several_at_once_draw_the_others_fail_and_keep_their_lines_together(tmp_path):
    process = in_two_processes(tmp_path, "false", "one", "two")
    printed, errors = process.communicate(timeout=120)
    assert (process.returncode, errors) == (1, "")
    assert sorted(path.name for path in tmp_path.glob("*.pdf")) == ["one.pdf", "two.pdf"]
    lines = printed.splitlines()
    for name, mark in (("false", "✗"), ("one", "✓"), ("two", "✓")):
        first = lines.index(f"{name}  the title of {name}")
        assert lines[first + 1 : first + 3] == [f"computing {name}", f"computed {name}"]
        assert lines[first + 3].strip().startswith(mark)


def test_an_interruption_stops_all_that_are_made_at_once(tmp_path):
    process = in_two_processes(tmp_path, "slow", "one")
    while not (tmp_path / "slow").exists():
        assert process.poll() is None
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    assert "KeyboardInterrupt" in process.communicate(timeout=60)[1]
    assert not (tmp_path / "slow.pdf").exists()
    assert all_ended(process.pid)
