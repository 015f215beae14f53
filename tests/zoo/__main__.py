"""`make zoo`: all architectures before all tools, into docs/zoo.md; `python -m tests.zoo WORD …` takes some."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context

from tests.zoo.page import PAGE, page
from tests.zoo.workers import Row, quiet, timed
from tests.zoo.zoo import ZOO


def main() -> int:
    """Judge the architectures; return 1 if an answer was wrong, or an error not the library's."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "words", nargs="*", help="judge those with one of these in name, kind or package; all if none"
    )
    parser.add_argument("--write", action="store_true", help="write docs/zoo.md")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    given = parser.parse_args()
    start = time.perf_counter()
    chosen = [k for k, a in enumerate(ZOO) if not given.words or any(w in str(a) for w in given.words)]
    missing = sorted({ZOO[k].package for k in chosen if not ZOO[k].installed})
    if missing:
        print(f"not installed, so left out: {', '.join(missing)}", flush=True)
    found = dict(answers([k for k in chosen if ZOO[k].installed], given.jobs))
    if given.write:
        PAGE.write_text(page({ZOO[k]: found[k] for k in sorted(found)}), encoding="utf-8")
    everything = [answer for row in found.values() for answer in row.values()]
    good = sum(answer.standing in ("works", "note") for answer in everything)
    seconds = time.perf_counter() - start
    print(f"{len(found)} architectures, {good} of {len(everything)} answers work, {seconds:.0f} s")
    return int(any(answer.standing in ("WRONG", "raised") for answer in everything))


def answers(chosen: Sequence[int], jobs: int) -> Iterator[tuple[int, Row]]:
    """Yield the places of architectures and their answers, as they come."""
    with ProcessPoolExecutor(max(jobs, 1), mp_context=get_context("spawn"), initializer=quiet) as pool:
        running = {pool.submit(timed, k): k for k in chosen}
        for count, done in enumerate(as_completed(running), start=1):
            k, (row, seconds) = running[done], done.result()
            said = ", ".join(f"{tool} {answer.standing}" for tool, answer in row.items())
            print(f"{count}/{len(chosen)} {ZOO[k].name} ({seconds:.0f} s): {said}", flush=True)
            for tool, answer in row.items():
                if answer.said:
                    print(f"    {tool}: {answer.standing}: {answer.said}", flush=True)
            yield k, row


if __name__ == "__main__":
    raise SystemExit(main())
