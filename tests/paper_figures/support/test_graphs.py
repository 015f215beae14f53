import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch

from paper_figures import partitions
from paper_figures.support import graphs, style
from paper_figures.support.graphs import Layout, layered
from theory.network import Network
from theory.partitions import Partition, coarsest_equitable_partition

EXAMPLES = pytest.mark.parametrize("example", partitions.EXAMPLES, ids=lambda example: example.title)


@EXAMPLES
def test_no_edge_touches_a_unit_that_is_not_its_end(example):
    assert graphs.clearance(example.network(), example.layout) > 1.25


@EXAMPLES
def test_units_stand_apart(example):
    places = np.array(list(example.layout.places.values()))
    distances = np.linalg.norm(places[:, None] - places[None], axis=-1) + 10 * np.eye(len(places))
    assert distances.min() > 2.5 * graphs.RADIUS


def test_an_edge_through_a_unit_is_noticed():
    network = Network.from_edges({("x", "a"): 1.0, ("a", "y"): 1.0, ("x", "y"): 1.0}, "relu", ["x"], ["y"])
    assert graphs.clearance(network, Layout(layered("x", "a", "y"))) == 0
    bent = Layout(layered("x", "a", "y"), {("x", "y"): 0.8})
    assert graphs.clearance(network, bent) > 3


def test_a_curve_is_the_one_that_matplotlib_draws():
    layout = Layout({"a": (0.0, 0.0), "b": (2.0, 1.0)}, {("a", "b"): 0.5})
    arrow = FancyArrowPatch((0, 0), (2, 1), connectionstyle="arc3,rad=0.5", shrinkA=0, shrinkB=0)
    path = arrow.get_connectionstyle()((0, 0), (2, 1), shrinkA=0, shrinkB=0)
    start, control, end = path.vertices
    np.testing.assert_allclose(graphs.curve(("a", "b"), layout)[50], start / 4 + control / 2 + end / 4)


def test_blocks_are_told_apart_by_colour_and_single_units_are_white():
    colours = graphs.block_colours(Partition(np.array([0, 1, 1, 2, 3, 3])))
    assert colours[0] == colours[2] == "white"
    assert len({colours[1], colours[3], "white"}) == 3


@EXAMPLES
def test_every_unit_is_labelled_once_and_every_edge_drawn(example):
    network = example.network()
    with style.context():
        axis = Figure().subplots()
        graphs.draw(axis, network, coarsest_equitable_partition(network), example.layout)
    assert sorted(text.get_text() for text in axis.texts) == sorted(f"${unit}$" for unit in network.units)
    assert sum(isinstance(patch, FancyArrowPatch) for patch in axis.patches) == len(network.edges)


def test_the_gallery_shows_what_it_promises():
    findings = partitions.compute("quick")
    depths = [finding.network.depth for finding in findings]
    sizes = [sorted(finding.partition.sizes[finding.partition.sizes > 1].tolist()) for finding in findings]
    spans = [
        any(len(set(depth[block])) > 1 for block in finding.partition.blocks())
        for finding, depth in zip(findings, depths, strict=True)
    ]
    assert [2, 3] in sizes
    assert sum(spans) == 1
    assert not findings[spans.index(True)].stays
