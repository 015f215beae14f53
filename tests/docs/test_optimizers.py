"""The table of optimizers has every rule, and the verdicts of theory."""

from tests.docs.pages import read
from torch_experiments.lab.rules import rules


def test_the_optimizer_table_has_every_rule_and_the_verdicts_of_theory():
    table = read("docs/optimizers.md").split("<!-- optimizers:begin -->")[1].split("<!-- optimizers:end -->")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.strip().splitlines()[2:]]
    assert [row[0] for row in rows] == [rule.name for rule in rules()]
    signs = {row[0]: [cell[0] for cell in row[1:]] for row in rows}
    assert signs["SGD"] == ["✓"] * 4
    assert signs["Adam"] == ["✓", "✓", "✗", "✓"]
    assert signs["Adam, coupled L2"] == ["✓", "✗", "✗", "✓"]
    assert signs["SGD, gradient noise"] == ["✗"] * 4
