"""The README keeps its word: its code runs and its tables are current."""

import dataclasses
import re
from pathlib import Path

from torch_experiments import campaign, e02_symptoms, optimizer_table, records, training
from torch_experiments.report import published

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


def record_of_the_readme():
    """Return the plain MLP of seed 0: of item mlp, else the older one, with the same numbers and fewer metrics."""
    config = campaign.item("mlp").configs("")["none"]
    older = dataclasses.replace(config, trapped=False)
    places = ((c, campaign.RESULTS / folder) for c, folder in ((config, "mlp"), (older, "e02")))
    found = (records.find(folder, training.identity(c, 0, campaign.TINY_IMAGENET)) for c, folder in places)
    record = next((record for record in found if record is not None), None)
    assert record is not None, "the run that the README tells of is gone"
    return record


def test_the_numbers_of_the_run_on_tiny_imagenet_are_those_of_its_record():
    rows = record_of_the_readme().table.to_pylist()
    last = [r for r in rows if r["layer"] == 0 and r["step"] == 500]

    def ends(metric):
        found = [r["value"] for r in last if r["metric"] == metric]
        assert len(found) == 40
        return found[0], found[-1]

    told = "accuracy while learning goes from {:.2f} to {:.2f}, ".format(*ends("online_accuracy"))
    told += "effective rank from {:.0f} to {:.0f}, ".format(*ends("roy_vetterli_rank_raw"))
    told += "dead units from {:.0f} to {:.0f} %. ".format(*(100 * value for value in ends("dead_fraction")))
    told += f"JL25's figure 3.1 starts at {published.streams()['mlp', 'none', 'accuracy'].start:.2f}"
    assert told in " ".join(README.split())


def test_the_command_in_the_readme_would_find_that_record():
    config = e02_symptoms.configs("text", "mlp", "tiny-imagenet-200.zip")["none"]
    found = training.identity(config, 0, campaign.TINY_IMAGENET)
    assert found == found | record_of_the_readme().config
    assert found == training.identity(campaign.item("mlp").configs("")["none"], 0, campaign.TINY_IMAGENET)
    assert "--arch mlp --profile text --data FOLDER --seeds 0 --resume --out results/mlp" in README


def test_the_commands_in_the_readme_exist():
    targets = set(re.findall(r"\bmake ([a-z][a-z-]*)", README))
    makefile = (Path(__file__).parents[1] / "Makefile").read_text()
    assert {t for t in targets if not re.search(rf"^{t}:", makefile, flags=re.MULTILINE)} <= {"alone"}
