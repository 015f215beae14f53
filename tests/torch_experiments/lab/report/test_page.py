"""The page of results: what the records give, complete, and refused where it would lie."""

import re

import pytest

from paper_figures.support import registry
from tests.torch_experiments.lab.report.curves import KEPT, LOST
from torch_experiments.lab.campaign import items
from torch_experiments.lab.report import findings, language, page
from torch_experiments.lab.report.series import UNMASKED


def test_the_pictures_of_the_page_are_there():
    for figure, _ in page.PICTURES.values():
        assert (page.DOCS / f"{figure}.png").is_file()


def test_make_draws_the_pictures_of_the_page():
    makefile = (page.PAGE.parent / "Makefile").read_text()
    drawn = re.search(r"^PICTURES := (.*)$", makefile, flags=re.MULTILINE)[1].split()
    shown = {figure for figure, _ in page.PICTURES.values()}
    assert shown <= set(drawn)
    others = "".join(path.read_text(encoding="utf-8") for path in page.DOCS.glob("*.md"))
    assert all(f"]({figure}.png)" in others for figure in set(drawn) - shown)


def test_captions_on_the_page_are_those_of_the_figures(tmp_path):
    for name, _ in page.PICTURES.values():
        figure = registry.load(name)
        data = figure.compute("quick", tmp_path)
        assert (page.DOCS / f"{name}.txt").read_text(encoding="utf-8") == str(registry.caption(figure, data))


def test_the_committed_page_is_what_the_records_give():
    assert page.current(), "RESULTS.md: run `lop results --write`"


def test_an_old_page_is_found(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(page, "PAGE", tmp_path / "RESULTS.md")
    monkeypatch.setattr(page.current, "__defaults__", (tmp_path / "RESULTS.md", items.RESULTS))
    monkeypatch.setattr(page.write, "__defaults__", (tmp_path / "RESULTS.md", items.RESULTS))
    empty = tmp_path / "none"
    assert page.main(empty, check=True) == 1
    assert page.main(empty, save=True) == 0
    assert page.main(empty, check=True) == 0
    assert page.main(check=True) == 1
    assert "lop results --write" in capsys.readouterr().out


def test_without_records_every_item_is_said_to_be_missing(tmp_path):
    text = page.text(tmp_path)
    for name in items.ITEMS:
        section = text.split(f"## Item `{name}`")[1].split("\n## ")[0]
        assert "**Not run yet**" in section
        assert f"`lop campaign {name}" in section
    every = (findings, language, page.deck, *page.AGENTS)
    assert text.count("| open |") == sum(len(module.FINDINGS) for module in every)
    assert "## Agents" in text
    assert "No record." in text
    assert "→ 0.389 | not run |" in text


def test_a_missing_cell_and_seed_are_named(made):
    folder = made("mlp", {"none": LOST | {UNMASKED: (0.8, 0.1)}})
    next((folder / "mlp").glob("*.parquet")).unlink()
    text = page.text(folder)
    assert "2 of 27 runs (cells × seeds) are finished" in text
    assert re.search(r"Missing: none \(seed [012]\); none, as published \(seed 0, 1, 2\);", text)
    assert "| mlp: none | accuracy | 0.884 → 0.389 | 0.764 (0.764–0.764) → 0.136 (0.136–0.136) | yes |" in text
    assert "2 core-hours by the clock" in text


@pytest.mark.parametrize("code", [0, 1])
def test_the_command_ends_with_the_answer(command, monkeypatch, code):
    monkeypatch.setattr(page, "main", lambda folder, *, save, check: code if check else 3)
    assert command("results", "--check")[0] == code


def test_a_folder_that_is_not_there_is_no_empty_one(command, tmp_path):
    code, _, err = command("results", "--write", "--folder", tmp_path / "typo")
    assert code == 2
    assert "there is no folder" in err


@pytest.mark.parametrize("option", ["--write", "--check"])
def test_the_page_is_not_written_from_other_records(command, made, option):
    before = page.PAGE.read_text()
    code, _, err = command("results", option, "--folder", made("mlp", {"none": KEPT}))
    assert code == 2
    assert "of the committed records" in err
    assert page.PAGE.read_text() == before


def test_a_folder_without_records_is_refused(command, tmp_path):
    code, out, err = command("results", "--folder", tmp_path)
    assert (code, out) == (2, "")
    assert "there are no records below" in err
