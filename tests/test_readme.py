"""The README keeps its word: its code runs and its tables are current."""

import re
from pathlib import Path

from torch_experiments import e02_symptoms, optimizer_table, records, training

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


def test_the_numbers_of_the_run_on_tiny_imagenet_are_those_of_its_record():
    (path,) = (Path(__file__).parents[1] / "results/e02").glob("*.parquet")
    rows = records.load(path).table.to_pylist()
    last = [r for r in rows if r["layer"] == 0 and r["step"] == 500]

    def ends(metric):
        found = [r["value"] for r in last if r["metric"] == metric]
        assert len(found) == 40
        return found[0], found[-1]

    first, last_accuracy = ends("online_accuracy")
    assert f"accuracy while learning goes from {first:.2f} to {last_accuracy:.2f}" in README
    assert "effective rank from {:.0f} to {:.0f}".format(*ends("roy_vetterli_rank_raw")) in README
    dead, at_the_end = (100 * value for value in ends("dead_fraction"))
    assert f"dead units from {dead:.0f} to {at_the_end:.0f} %" in README


def test_the_command_in_the_readme_would_find_that_record():
    (path,) = (Path(__file__).parents[1] / "results/e02").glob("*.parquet")
    record = records.load(path)
    config = e02_symptoms.configs("text", "mlp", "tiny-imagenet-200.zip")["none"]
    assert training.identity(config, 0, record.config["data"]) == record.config
    assert records.path(path.parent, record.config) == path


def test_the_commands_in_the_readme_exist():
    targets = set(re.findall(r"\bmake ([a-z][a-z-]*)", README))
    makefile = (Path(__file__).parents[1] / "Makefile").read_text()
    assert {t for t in targets if not re.search(rf"^{t}:", makefile, flags=re.MULTILINE)} <= {"alone"}
