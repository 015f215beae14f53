"""The picture of claims has every claim once, no box upon another, and every arrow points down."""

from itertools import combinations

from claims.ledger import load, verdicts
from lop.site import graph

LEDGER = load()


def test_every_claim_is_a_box_that_leads_to_its_page():
    picture = graph.svg(LEDGER, verdicts(LEDGER), "claims/")
    assert all(picture.count(f'href="claims/{name}.html"') == 1 for name in LEDGER)
    assert picture.count('class="rests"') == sum(len(claim.uses) for claim in LEDGER.values())


def test_boxes_lie_apart_and_within_the_picture():
    where, width, height = graph.places(graph.arrows(LEDGER))
    assert set(where) == set(LEDGER)
    for (x, y), (u, v) in combinations(where.values(), 2):
        assert abs(x - u) >= graph.WIDE or abs(y - v) >= graph.HIGH
    for x, y in where.values():
        assert graph.WIDE / 2 <= x <= width - graph.WIDE / 2
        assert graph.HIGH / 2 <= y <= height - graph.HIGH / 2


def test_a_claim_stands_below_those_that_it_rests_on():
    where, _, _ = graph.places(graph.arrows(LEDGER))
    for claim in LEDGER.values():
        assert all(where[used][1] < where[claim.id][1] for used in claim.uses)


def test_who_rests_on_a_claim():
    assert "F2" in graph.bearing(LEDGER, "F2a")
    assert "F2a" not in graph.bearing(LEDGER, "F2")
