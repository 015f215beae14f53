"""Experiments 10 and 11: every cell has fresh networks beside it that differ in nothing else."""

import dataclasses

import pytest

from torch_experiments.lab import experiments
from torch_experiments.lab.experiments import e10_amplifiers, e11_transients
from torch_experiments.lab.experiments.e10_amplifiers import fresh_of

SAME = {"remedy": "none", "first": 0, "tasks": 1}


@pytest.mark.parametrize("profile", ["quick", "text"])
@pytest.mark.parametrize("name", ["e10", "e11"])
def test_a_cell_and_the_networks_beside_it_differ_in_the_remedy_and_their_tasks_alone(name, profile):
    configs = experiments.load(name).configs(profile, "mlp", "folder")
    cells = [label for label in configs if not label.startswith("fresh")]
    assert set(configs) == {*cells, *map(fresh_of, cells)}
    for label in cells:
        own, fresh = configs[label], configs[fresh_of(label)]
        assert dataclasses.replace(own, **SAME) == dataclasses.replace(fresh, **SAME)
        assert fresh.first + fresh.tasks == own.tasks
        assert fresh.first > 0


def test_every_arm_changes_one_thing():
    configs = e10_amplifiers.configs("quick")
    plain = dataclasses.asdict(configs["plain"])
    for label, changes in e10_amplifiers.ARMS.items():
        own = dataclasses.asdict(configs[label])
        assert {field for field in own if own[field] != plain[field]} - {"lr"} == set(changes)


def test_after_a_critical_period_the_network_beside_goes_on_and_is_not_drawn_again():
    configs = e11_transients.configs("quick")
    for blurred in e11_transients.BLURRED:
        fresh = configs[fresh_of(f"critical period: blurred {blurred}")]
        assert (fresh.remedy, fresh.first, fresh.tasks) == ("none", blurred, e11_transients.SHARP)
    assert configs[fresh_of("warm start: right labels")].remedy == "fresh"
