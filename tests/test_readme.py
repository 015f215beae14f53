"""The README keeps its word: its code runs and its tables are current."""

import re
from pathlib import Path

from torch_experiments.lab import optimizer_table, records, training
from torch_experiments.lab.campaign import items
from torch_experiments.lab.experiments import e02_symptoms
from torch_experiments.lab.report import findings, published, series

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def printed(code, capsys):
    exec(compile(code, "README.md", "exec"), {})
    return capsys.readouterr().out.splitlines()


def test_the_python_in_the_readme_prints_what_its_comments_say(capsys):
    own, kernels, rank, network, stability = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    for code, prints in ((own, 2), (kernels, 2), (rank, 3), (stability, 1)):
        comments = re.findall(r"print\(.*\)  # (.*)", code)
        assert len(comments) == prints
        assert printed(code, capsys)[-prints:] == comments
    dead, cloned = printed(network, capsys)
    assert "every h ≥ 0 and the largest in-weight is -1 ≤ 0" in dead
    assert cloned == "(('a', 'b'),)"


def test_the_optimizer_table_has_every_rule_and_the_verdicts_of_theory():
    table = README.split("<!-- optimizers:begin -->")[1].split("<!-- optimizers:end -->")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.strip().splitlines()[2:]]
    assert [row[0] for row in rows] == [rule.name for rule in optimizer_table.rules()]
    signs = {row[0]: [cell[0] for cell in row[1:]] for row in rows}
    assert signs["SGD"] == ["✓"] * 4
    assert signs["Adam"] == ["✓", "✓", "✗", "✓"]
    assert signs["Adam, coupled L2"] == ["✓", "✗", "✗", "✓"]
    assert signs["SGD, gradient noise"] == ["✗"] * 4


def told(text):
    assert text in " ".join(README.split())


def lengths_of_tasks():
    """Return the rows of the table of the plain MLP, by steps a task."""
    found = [
        "| steps a task | first task | accuracy while learning | silent units | effective rank |",
        "|---|---:|---:|---:|---:|",
    ]
    for name in ("mlp", "mlp-medium", "mlp-paper"):
        runs = series.runs(name)
        accuracy, silent, rank = (runs.over("none", m) for m in (series.ACCURACY, series.SILENT, series.RANK))
        about = f"{runs.item.configs('')['none'].steps:,}, {series.counted(len(accuracy))}"
        ends = f"{findings.ends(accuracy)} | {findings.ends(silent)} | {findings.ends(rank, 0)}"
        found.append(f"| {about} | {accuracy[:, 0].mean():.2f} | {ends} |")
    accuracy, dead, rank = (published.streams()["mlp", "none", what] for what in ("accuracy", "dead", "rank"))
    ends = f"{accuracy.start:.2f} → {accuracy.end:.2f} | {dead.start:.2f} → {dead.end:.2f}"
    found.append(f"| JL25, figure 3.1 | {accuracy.start:.2f} | {ends} | {rank.start:.0f} → {rank.end:.0f} |")
    return found


def test_the_numbers_of_the_runs_on_tiny_imagenet_are_those_of_their_records():
    assert "\n".join(lengths_of_tasks()) in README
    short, medium = series.runs("mlp"), series.runs("mlp-medium")
    behind = short.over("layer, affine", series.ACCURACY) - short.over("none", series.ACCURACY)
    lag = findings.change(behind)
    low, high = series.interval(lag)
    told(f"on the same tasks, by {lag.mean():.3f} [{low:.3f}, {high:.3f}]")
    accuracy, normed = (medium.over(cell, series.ACCURACY) for cell in ("none", "layer, affine"))
    highest = findings._highest(accuracy).split(",")[0].removeprefix(" (highest ")
    ends = f"{series.end(accuracy)[0]:.2f}", f"{series.end(normed)[0]:.2f}"
    told(f"rises to {highest} and falls to {ends[0]}, while with layer norm the same tasks end at {ends[1]}")


def test_the_first_task_tells_the_length_of_the_published_ones():
    names = ("mlp", "mlp-medium", "mlp-paper")
    firsts = {name: series.runs(name).over("none", series.ACCURACY)[:, 0].mean() for name in names}
    start = published.streams()["mlp", "none", "accuracy"].start
    assert min(firsts, key=lambda name: abs(firsts[name] - start)) == "mlp-paper"


def test_what_is_said_of_remedies_is_what_the_records_show():
    runs = series.runs("remedies")
    learnt = {cell: series.second_half(runs.over(cell, series.ACCURACY)) for cell in runs.cells}
    low, high = series.interval(learnt["parseval"] - learnt["fresh"])
    assert 0 < low < high < 0.05, "a little better"
    low, high = series.interval(learnt["spectral"] - learnt["fresh"])
    assert low < 0 < high, "as well"
    assert series.interval(learnt["batch-norm"] - learnt["none"])[0] > 0.1, "far above"
    lost = learnt["fresh, batch-norm"] - learnt["batch-norm"]
    low, high = series.interval(lost)
    told(f"still {lost.mean():.3f} [{low:.3f}, {high:.3f}] below a fresh network with batch norm")
    rank = {cell: series.second_half(runs.over(cell, series.RANK)) for cell in ("none", "cbp", "cbp-mean")}
    low, high = series.interval(rank["cbp"] - rank["none"])
    assert low < 0 < high, "cannot be told"
    low, high = series.interval(rank["cbp-mean"] - rank["none"])
    told(f"larger by {(rank['cbp-mean'] - rank['none']).mean():.1f} [{low:.1f}, {high:.1f}]")
    low, high = series.interval(learnt["noise"] - learnt["none"])
    assert low < -0.1 < 0.1 < high, "nothing can be told"


def test_the_command_in_the_readme_finds_a_committed_record():
    config = e02_symptoms.configs("text", "mlp", "tiny-imagenet-200.zip")["none"]
    about = training.run_identity(config, 0, items.TINY_IMAGENET)
    assert records.find(items.RESULTS / "mlp", about) is not None
    assert "--arch mlp --profile text --data FOLDER --seeds 0 --resume --out results/mlp" in README


def test_the_commands_in_the_readme_exist():
    targets = set(re.findall(r"\bmake ([a-z][a-z-]*)", README))
    makefile = (Path(__file__).parents[1] / "Makefile").read_text()
    assert {t for t in targets if not re.search(rf"^{t}:", makefile, flags=re.MULTILINE)} <= {"alone"}
