"""What a release names agrees everywhere, and its hooks and templates are whole."""

import json
import re

import pytest
import yaml

from lop.site import release
from tests.docs.pages import ROOT, read


def test_the_version_is_the_same_everywhere():
    name = release.named()
    version = name.rpartition("-")[2]
    assert re.fullmatch(r"\d+\.\d+\.\d+", version)
    assert yaml.safe_load(read("CITATION.cff"))["version"] == version
    assert json.loads(read(".zenodo.json"))["version"] == version
    assert f"## {version}" in read("CHANGELOG.md")


def test_a_release_needs_a_site(tmp_path):
    with pytest.raises(ValueError, match="run `make site` first"):
        release.main(tmp_path / "dist", tmp_path)


@pytest.mark.parametrize("name", ["certificate", "claim"])
def test_templates_ask_for_a_certificate(name):
    form = yaml.safe_load(read(f".github/ISSUE_TEMPLATE/{name}.yml"))
    asked = {part["id"]: part for part in form["body"]}
    assert "lop certify … --json" in asked["certificate"]["attributes"]["description"]
    assert asked["certificate"].get("validations", {}).get("required", False) == (name == "certificate")


def test_the_hooks_are_what_make_lint_runs():
    hooks = {
        hook["id"]: hook["entry"]
        for repo in yaml.safe_load(read(".pre-commit-config.yaml"))["repos"]
        for hook in repo["hooks"]
    }
    lint = re.search(r"^lint:.*\n\t(.*)$", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)[1]
    assert set(hooks) == {"ruff", "ruff-format", "mypy", "codespell"}
    for entry in hooks.values():
        words = entry.removeprefix(".venv/bin/").removesuffix(" --force-exclude")
        assert f"$(BIN)/{words}" in lint
