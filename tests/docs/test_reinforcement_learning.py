"""What the page on agents says is what their records show."""

import numpy as np

from tests.docs.pages import read
from torch_experiments.lab.experiments import e09_reinforcement as e09
from torch_experiments.lab.experiments import e09_values
from torch_experiments.lab.experiments.e09_reinforcement import fresh_of
from torch_experiments.lab.report import agents, ant, series
from torch_experiments.lab.report import values as deep_q_learning
from torch_experiments.lab.report.series import DEAD, RANK
from torch_experiments.lab.report.tables import with_interval
from torch_experiments.lab.rl.environments import ENVIRONMENTS
from torch_experiments.lab.rl.measures import ENTROPY, RETURN, SATURATED

PAGE = "docs/reinforcement-learning.md"


def told(text):
    assert text in " ".join(read(PAGE).split())


def test_the_table_is_that_of_the_records():
    rows = agents.rows()
    assert len(rows) > 5
    assert "\n".join(rows) in read(PAGE)


def test_the_setting_is_that_of_the_experiment():
    plain = e09.PLAIN
    assert dict(plain.arch_settings) == {"width": 16}
    assert plain.copies * plain.horizon * plain.steps == 51_200
    assert (plain.tasks, plain.lr, plain.episodes) == (10, 0.01, 64)
    told("two layers of 16 ReLU units, Adam at 0.01, ten tasks of 51,200 steps")
    assert list(ENVIRONMENTS) == ["cartpole", "acrobot", "mountaincar", "ant"]


def test_the_setting_of_the_robot_is_that_of_the_experiment():
    robot, published = e09.ANT, e09.PAPER
    assert robot.copies * robot.horizon * robot.steps == 16_384
    assert (robot.tasks, robot.lr, published.tasks) == (4, 0.01, 10)
    assert published.copies * published.horizon * published.steps == 2_000_896
    assert len(e09.SEEDS["paper"]) == 100
    told("16,384 steps, a hundred and twentieth of that, and a run four tasks")
    told("ten tasks of 2,000,896 steps")


def test_what_is_said_of_the_robot_is_what_its_records_show():
    found, page = ant.robots(), read(PAGE)
    assert "\n".join(ant.rows()) in page
    pairs = [(cell, e09.fresh_of(cell)) for cell in (ant.SLIPPERY, ant.STATIONARY)]
    lost, without = (found.difference(*pair, RETURN) for pair in pairs)
    for claim, values in (("Q20", lost), ("Q21", without), ("Q22", lost - without)):
        told(f"({with_interval(values, 0)}, [{claim}]")
    told(f"less entropy by {with_interval(found.difference(*pairs[0], ENTROPY), 2)}")
    told(f"means are cut: {with_interval(found.difference(*pairs[0], SATURATED), 2)}")
    dead, rank = ([series.second_half(found.over(cell, m)).mean() for cell in pairs[0]] for m in (DEAD, RANK))
    told("{:.2f} of the units are dead against {:.2f}".format(*dead))
    told("the rank is {:.1f} against {:.1f}".format(*rank))
    for claim in ant.FINDINGS:
        assert f"[{claim}](../claims/CLAIMS.md#{claim.lower()})" in page
    assert {claim for claim in ant.FINDINGS if ant.of(claim).shown} == {"Q23"}
    assert not any(ant.of(claim).contrary for claim in ant.FINDINGS)


def test_robots_whose_means_are_cut_return_less_with_fewer_dead_units():
    found = ant.robots()
    ends = (
        [found.over(cell, m)[:, -1] for cell in (ant.SLIPPERY, ant.STATIONARY)] for m in (RETURN, SATURATED, DEAD)
    )
    returns, cut, dead = map(np.concatenate, ends)
    many = cut > 1 / 3
    told(f"{many.sum()} of the {many.size} agents have more than a third of their means cut")
    told(f"return −{-returns[many].mean():.0f} on average with {dead[many].mean():.2f} of their units dead")
    told(f"the other {(~many).sum()} return {returns[~many].mean():.0f} with {dead[~many].mean():.2f} dead")


def test_lost_tasks_are_counted():
    found = agents.agents()
    lost = found.over("plain", RETURN) < agents.LOST
    told(f"In {int(lost.sum())} of its {lost.size} tasks")
    told(f"{series.counted(len(found.seeds('plain')))}")


def test_differences_in_the_text_are_those_of_the_records():
    found = agents.agents()
    pairs = [("plain", "fresh"), ("tanh", "fresh, tanh"), ("redo", "plain"), ("shrink-perturb", "plain")]
    pairs += [("optimizer-reset", "plain"), ("equal betas", "plain"), ("permuted", "fresh, permuted")]
    pairs += [(cell, fresh_of(cell)) for cell in ("rewards", "dynamics", "stationary", "acrobot", "rate 0.003")]
    pairs += [("entropy bonus", "plain")]
    for cell, other in pairs:
        told(with_interval(found.difference(cell, other, RETURN), 0).removeprefix("+"))
    found = agents.agents(among=agents.UNSEEN)
    told(with_interval(found.difference("permuted", fresh_of("permuted"), RETURN), 0))


def test_verdicts_named_on_the_page_are_those_of_the_records():
    """What the page calls shown is shown, and what it calls contradicted is."""
    page = read(PAGE)
    for claim in agents.FINDINGS:
        assert f"[{claim}](../claims/CLAIMS.md#{claim.lower()})" in page
    assert {claim for claim in agents.FINDINGS if agents.of(claim).contrary} == {"Q19"}


def test_the_setting_of_deep_q_learning_is_that_of_the_experiment():
    plain = e09_values.PLAIN
    assert (dict(plain.arch_settings), dict(plain.stream_settings)) == ({"width": 32}, {"sd": 1.0})
    steps = plain.steps * plain.horizon
    assert plain.copies * steps == 51_200
    assert sum(map(plain.due, range(steps))) == 3_138
    assert (plain.tasks, plain.lr, plain.target_every, e09_values.HEAVY["heavy"]) == (8, 0.003, 50, 3_000)
    told("two layers of 32 ReLU units, Adam at 0.003, eight tasks of 51,200 steps with 3,138 gradient steps each")
    told("takes 3,000 gradient steps on its first 1,024 transitions")


def test_the_table_of_deep_q_learning_is_that_of_the_records():
    rows = deep_q_learning.rows()
    assert len(rows) > 4
    assert "\n".join(rows) in read(PAGE)


def test_what_the_page_says_of_deep_q_learning_is_what_its_records_show():
    found, page = deep_q_learning.values(), read(PAGE)
    beyond = {
        cell: series.second_half(found.over(cell, deep_q_learning.VALUE) > deep_q_learning.MOST).mean()
        for cell in ("plain", "fresh")
    }
    told(f"in {100 * beyond['plain']:.0f} % of its later tasks they are above what there can be")
    assert beyond["fresh"] == 0
    for metric in (deep_q_learning.DORMANT, deep_q_learning.FEATURES):
        told(with_interval(found.difference("plain", "fresh", metric), 2).removeprefix("+"))
    pairs = [("shrink-perturb", "plain"), ("optimizer-reset", "plain"), ("stationary", "fresh, stationary")]
    for cell, other in (*pairs, ("heavy start, all layers anew", "heavy start")):
        told(with_interval(found.difference(cell, other, RETURN), 0).removeprefix("+"))
    words = deep_q_learning.of("Q28").words
    told(words[words.index("moving minus fixed +") :].split("fixed +")[1].split(" (")[0])
    for claim in deep_q_learning.FINDINGS:
        assert f"[{claim}](../claims/CLAIMS.md#{claim.lower()})" in page
    shown = {claim for claim in deep_q_learning.FINDINGS if deep_q_learning.of(claim).shown}
    assert shown == {"Q25", "Q26", "Q27", "Q28"}
    assert not any(deep_q_learning.of(claim).contrary for claim in deep_q_learning.FINDINGS)
