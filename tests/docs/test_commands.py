"""The commands on the pages exist, with the options, figures and items that they name."""

import re
from importlib.util import find_spec

import pytest

from paper_figures.support import registry
from tests.docs.pages import GUIDES, PAGES, ROOT, code, read
from torch_experiments.lab.campaign import items

CAMPAIGN = "campaign"
LINES = [line for page in PAGES for line in code(read(page))]
MAKE = re.compile(r"^(?:\w+=\w+ )*make((?: [a-z][a-z-]*)+)")
CALLED = re.compile(r"(?:^|/|-m )lop ([a-z]+)(.*)")


def calls():
    """Return the command and the arguments of every call of `lop` on the pages."""
    return [
        (found[1], found[2].partition(" #")[0].split()) for line in LINES if (found := CALLED.search(line.strip()))
    ]


def options():
    """Return the options that the pages give to each command."""
    found = {}
    for name, arguments in calls():
        found.setdefault(name, set()).update(a for a in arguments if re.match(r"--[a-z]", a))
    return found


def test_pages_speak_of_every_command(command):
    listed = set(re.findall(r"• (\w+)", command("--help")[1]))
    assert {name for name, _ in calls()} == listed


@pytest.mark.parametrize("name", options())
def test_the_options_exist(name, command):
    code, out, _ = command(name, "--help")
    assert code == 0
    assert {option for option in options()[name] if option not in out} == set()


def named(command):
    """Return what a command is given before its options."""
    found = set()
    for name, arguments in calls():
        for argument in arguments if name == command else []:
            if not re.fullmatch(r"[a-z_0-9-]+", argument) or argument.startswith("-"):
                break
            found.add(argument)
    return found


def test_the_figures_exist():
    assert named("figures") <= set(registry.FIGURES)


def test_the_items_exist():
    assert named(CAMPAIGN) <= {*items.every(), *items.BEYOND, "cloning"}


def test_the_targets_of_make_exist():
    targets = {target for line in LINES if (found := MAKE.match(line.strip())) for target in found[1].split()}
    makefile = (ROOT / "Makefile").read_text()
    assert {t for t in targets if not re.search(rf"^{t}:", makefile, flags=re.MULTILINE)} == set()
    assert {"figures", "test", "verify", "results", "notebooks", "bench", "lint"} <= targets


def test_the_modules_that_are_run_exist():
    names = {name for line in LINES for name in re.findall(r"python -m ([\w.]+)", line)}
    assert names
    assert {name for name in names if find_spec(name) is None} == set()


def test_the_benchmarks_exist_and_are_all_named():
    text = " ".join(read(page) for page in GUIDES)
    known = {path.stem for path in (ROOT / "tests/bench").glob("[a-z]*.py")}
    assert set(re.findall(r"-m tests\.bench ([a-z]+)", text)) <= known
    assert all(f"`{name}`" in read("docs/speed.md") for name in known)
