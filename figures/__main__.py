"""`python -m figures` draws the concepts; `python -m figures returns` records a training and draws its returns."""

from __future__ import annotations

import argparse
from pathlib import Path

from figures.concepts import DRAWINGS

IMAGES = Path(__file__).parents[1] / "docs" / "images"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m figures", description=__doc__)
    parser.add_argument("what", nargs="?", choices=["concepts", "returns"], default="concepts")
    what = parser.parse_args().what
    if what == "concepts":
        for name, draw in DRAWINGS.items():
            (IMAGES / f"{name}.svg").write_text(draw().svg(), encoding="utf-8")
    else:
        from figures.returns import returns

        (IMAGES / "returns.svg").write_text(returns().svg(), encoding="utf-8")


if __name__ == "__main__":
    main()
