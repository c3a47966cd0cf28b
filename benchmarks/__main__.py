"""`python -m benchmarks` measures everything and prints the tables; `python -m benchmarks step` measures a part."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

# One thread: a second one helps only some contenders, and only while the other cores are idle.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from benchmarks.baseline import Baseline
from benchmarks.charts import FOLDER, draw, measured_on
from benchmarks.disk import disk_tables
from benchmarks.distributed import distributed_tables
from benchmarks.endings import ending_table
from benchmarks.growth import growth_table
from benchmarks.imports import import_table
from benchmarks.interop import interop_tables
from benchmarks.memory import memory_table
from benchmarks.opening import opening_table
from benchmarks.options import Options
from benchmarks.own_time import own_time_table
from benchmarks.reading import reading_tables
from benchmarks.recording import recording_tables
from benchmarks.report import Table, machine
from benchmarks.sampling import sampling_tables
from benchmarks.single import single_tables
from benchmarks.structures import structure_table
from benchmarks.timing import keep_memory
from benchmarks.vector import vector_table
from benchmarks.workloads import WORKLOADS
from benchmarks.writing import writing_tables

_README = Path(__file__).with_name("README.md")
_PAGE = FOLDER.parents[1] / "benchmarks.md"
_BEGIN, _END = "<!-- figures: python -m benchmarks --write -->", "<!-- end of figures -->"
_KEPT_BYTES = 6 << 30

_PARTS: dict[str, Callable[[Options], list[Table]]] = {
    "step": recording_tables,
    "ending": lambda options: [ending_table(options)],
    "own-time": lambda options: [own_time_table(options)],
    "vector": lambda options: [vector_table(options)],
    "growth": lambda options: [growth_table(options)],
    "memory": lambda options: [memory_table(options)],
    "writing": writing_tables,
    "reading": reading_tables,
    "opening": lambda options: [opening_table(options)],
    "disk": disk_tables,
    "interop": interop_tables,
    "sampling": sampling_tables,
    "distributed": distributed_tables,
    "single": single_tables,
    "structures": lambda options: [structure_table(options)],
    "imports": lambda options: [import_table(options)],
}


def main() -> None:
    parts, options, is_written, is_drawn = _command_line()
    if is_drawn:
        _draw()
        return
    print(machine(), flush=True)
    if not options.is_quick:
        keep_memory(_KEPT_BYTES)
    start = time.perf_counter()
    report = [f"Measured on {time.strftime('%Y-%m-%d')}, minimum of {options.runs} interleaved runs.\n\n{machine()}"]
    for part in parts:
        for table in _PARTS[part](options):
            report.append(table.markdown())
            print(f"\n{report[-1]}", flush=True)
    print(f"\n{time.perf_counter() - start:.0f} s", flush=True)
    if options.baseline:
        options.baseline.close()
    if is_written:
        _write("\n\n".join(report))


def _command_line() -> tuple[list[str], Options, bool, bool]:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("parts", nargs="*", help=f"any of {', '.join(_PARTS)}; all by default")
    parser.add_argument("--runs", type=int, help="interleaved runs that count; default: 5, or 1 in a quick run")
    parser.add_argument("--workloads", nargs="+", default=list(WORKLOADS), choices=list(WORKLOADS))
    parser.add_argument("--quick", action="store_true", help="run every part in seconds; the figures mean nothing")
    parser.add_argument("--baseline", type=Path, help="src folder of an earlier checkout to compare with")
    parser.add_argument("--write", action="store_true", help="put the tables into benchmarks/README.md, and draw")
    parser.add_argument("--draw", action="store_true", help="draw docs/images/benchmarks from benchmarks/README.md")
    given = parser.parse_args()
    if unknown := sorted(set(given.parts) - set(_PARTS)):
        parser.error(f"no such part: {', '.join(unknown)}")
    if given.write and (given.parts or given.quick):
        parser.error("--write takes neither parts nor --quick: the README holds the figures of one whole run")
    options = Options(
        runs=given.runs or (1 if given.quick else 5),
        workloads=tuple(given.workloads),
        is_quick=given.quick,
        baseline=Baseline(given.baseline) if given.baseline else None,
    )
    return given.parts or list(_PARTS), options, given.write, given.draw


def _write(figures: str) -> None:
    _replace(_README, figures)
    _draw()


def _draw() -> None:
    """Draw the charts of the README's tables, and say on their page when these were measured."""
    readme = _README.read_text(encoding="utf-8")
    for name, picture in draw(readme).items():
        (FOLDER / f"{name}.svg").write_text(picture, encoding="utf-8")
    _replace(_PAGE, measured_on(readme))


def _replace(page: Path, figures: str) -> None:
    before, begin, rest = page.read_text(encoding="utf-8").partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not begin or not end:
        sys.exit(f"{page.name}: no lines `{_BEGIN}` and `{_END}` to write between")
    page.write_text(f"{before}{begin}\n\n{figures}\n\n{end}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
