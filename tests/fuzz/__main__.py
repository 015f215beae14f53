"""`make fuzz N=… SEED=…`: many networks, each certified and then trained for 60 real steps, with counts by kind."""

from __future__ import annotations

import argparse
import time
import traceback
import warnings
from collections import Counter
from dataclasses import dataclass, field

import torch
from hypothesis import HealthCheck, Phase, given, seed, settings

from tests.fuzz.networks import Draw, draws
from tests.fuzz.test_certificates import STEPS, judged


def main() -> int:
    """Draw networks; print every contradiction with its draw, and the counts; return 1 if there was one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    given_ = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    counts: Counter[str] = Counter()
    tally = Tally()
    start = time.perf_counter()

    @seed(given_.seed)
    @settings(
        max_examples=given_.n,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(draws)
    def run(draw: Draw) -> None:
        outcome = _outcome(draw, tally)
        counts[outcome] += 1
        done = sum(counts.values())
        if done % 100 == 0:
            print(f"{done:,} networks, {time.perf_counter() - start:.0f} s: {dict(counts)}", flush=True)

    run()
    print(f"seed {given_.seed}, {STEPS} steps each, {time.perf_counter() - start:.0f} s")
    for name, count in [*counts.most_common(), *sorted(tally.sentences.items()), *sorted(tally.traps.items())]:
        print(f"{count:7,} {name}")
    print("  drawn    held  kind")
    for name, count in sorted(tally.drawn.items()):
        print(f"{count:7,} {tally.held[name]:7,}  {name}")
    return int(bool(counts["contradicted"] or counts["raised"]))


@dataclass
class Tally:
    """What became of sentences, of planted traps that silence a unit, and of the kinds of networks."""

    sentences: Counter[str] = field(default_factory=Counter)
    traps: Counter[str] = field(default_factory=Counter)
    drawn: Counter[str] = field(default_factory=Counter)
    held: Counter[str] = field(default_factory=Counter)


def _outcome(draw: Draw, tally: Tally) -> str:
    tally.drawn.update(draw.kinds)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(draw.seed)
            both = judged(draw)
    except Exception:
        print(f"RAISED {draw}\n{traceback.format_exc()}", flush=True)
        return "raised"
    if both is None:
        return "refused by name, or diverged before"
    for finding in both.audit.findings:
        held = {True: "held", False: "did not hold", None: "not promised, or not seen yet"}[finding.held]
        tally.sentences[f"{finding.about}, promised {finding.promised}: {held}"] += 1
    for kind, told in both.traps:
        tally.traps[f"planted units without gradient, {kind}: {'told' if told else 'missed'}"] += 1
    if both.audit.held and all(told for _, told in both.traps):
        tally.held.update(draw.kinds)
        return "held"
    print(f"CONTRADICTED {draw}\n{both.audit}\n{both.traps}", flush=True)
    return "contradicted"


if __name__ == "__main__":
    raise SystemExit(main())
