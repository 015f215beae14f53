"""The picture of claims has every claim once, no box upon another, and every arrow points down."""

import re
from itertools import combinations

from claims.ledger import VERDICTS, load, verdicts
from lop.site import graph, places

LEDGER = load()


def test_every_claim_is_a_box_that_leads_to_its_page():
    picture = graph.svg(LEDGER, verdicts(LEDGER), "claims/")
    assert all(picture.count(f'href="claims/{name}.html"') == 1 for name in LEDGER)
    assert picture.count('class="rests"') == sum(len(claim.uses) for claim in LEDGER.values())


def test_every_verdict_looks_different_and_the_same_in_words_and_in_the_picture():
    css = (places.HERE / "static" / "site.css").read_text()
    rules = [(set(re.findall(r"\.v-([a-z-]+)", line)), line) for line in css.splitlines() if ".v-" in line]

    def look(name, start, kinds):
        mine = "".join(line for names, line in rules if name in names and line.startswith(start))
        return tuple(kind in mine for kind in kinds)

    colours = {name: next(line for names, line in rules if name in names and "fill:" in line) for name in VERDICTS}
    words = {name: look(name, ".verdict.", ("width: 3.5px", "dashed", "dotted")) for name in VERDICTS}
    boxes = {
        name: look(name, ".claims-graph", ("width: 3.5;", "array: 5 3", "array: 1.5 2.5")) for name in VERDICTS
    }
    assert len({(colours[name], words[name]) for name in VERDICTS}) == len(VERDICTS)
    assert words == boxes


def test_the_names_of_boxes_are_labels_and_no_titles():
    picture = graph.svg(LEDGER, verdicts(LEDGER))
    assert picture.count("<a href") == picture.count('html" aria-label=') == len(LEDGER)
    assert "<title>" not in picture


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
