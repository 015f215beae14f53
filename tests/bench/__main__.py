"""Run every benchmark of this folder, or those named on the command line."""

import sys
from importlib import import_module
from pathlib import Path


def main(names: list[str]) -> None:
    """Run `tests.bench.NAME` for each name; all of them if there is none.

    Raises:
        SystemExit: A name is unknown; the message lists the known ones.
    """
    known = sorted(p.stem for p in Path(__file__).parent.glob("[a-z]*.py"))
    unknown = [name for name in names if name not in known]
    if unknown:
        raise SystemExit(f"benchmark {unknown[0]!r} is unknown; choose from {', '.join(known)}")
    for name in names or known:
        print(f"\n== {name} ==", flush=True)
        import_module(f"tests.bench.{name}").main()


if __name__ == "__main__":
    main(sys.argv[1:])
