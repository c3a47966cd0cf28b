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

from benchmarks.cartpole import cartpole_table
from benchmarks.copies import copy_table
from benchmarks.growth import growth_table
from benchmarks.imports import import_table
from benchmarks.memory import memory_table
from benchmarks.recording import recording_tables, step_table
from benchmarks.report import Table, machine
from benchmarks.serialize import serialize_table
from benchmarks.single import single_tables
from benchmarks.timing import keep_memory
from benchmarks.traces import trace_tables
from benchmarks.vector import vector_table
from benchmarks.workloads import WORKLOADS

_README = Path(__file__).with_name("README.md")
_BEGIN, _END = "<!-- figures: python -m benchmarks --write -->", "<!-- end of figures -->"
_KEPT_BYTES = 6 << 30

_PARTS: dict[str, Callable[[argparse.Namespace], list[Table]]] = {
    "recording": lambda options: recording_tables(options.workloads, options.runs),
    "step": lambda options: [step_table(options.workloads, options.runs)],
    "copies": lambda options: [copy_table(options.runs)],
    "vector": lambda options: [vector_table(options.runs)],
    "cartpole": lambda options: [cartpole_table(4 * options.runs)],
    "growth": lambda options: [growth_table(max(1, options.runs // 2))],
    "memory": lambda options: [memory_table()],
    "traces": lambda options: trace_tables(options.runs),
    "single": lambda options: single_tables(options.runs),
    "serialize": lambda options: [serialize_table(max(1, options.runs // 2))],
    "imports": lambda options: [import_table(options.runs)],
}
_WITHIN_ANOTHER = {"step"}
"""Parts that a whole run leaves out, since another part measures the same and more."""


def main() -> None:
    options = _options()
    print(machine(), flush=True)
    keep_memory(_KEPT_BYTES)
    start = time.perf_counter()
    report = [f"Measured on {time.strftime('%Y-%m-%d')}, minimum of {options.runs} interleaved runs.\n\n{machine()}"]
    for part in options.parts or [part for part in _PARTS if part not in _WITHIN_ANOTHER]:
        for table in _PARTS[part](options):
            report.append(table.markdown())
            print(f"\n{report[-1]}", flush=True)
    print(f"\n{time.perf_counter() - start:.0f} s", flush=True)
    if options.write:
        _write("\n\n".join(report))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("parts", nargs="*", help=f"any of {', '.join(_PARTS)}; all by default")
    parser.add_argument("--runs", type=int, default=5, help="interleaved runs that count; default: 5")
    parser.add_argument("--workloads", nargs="+", default=list(WORKLOADS), choices=list(WORKLOADS))
    parser.add_argument("--write", action="store_true", help="put the tables into benchmarks/README.md")
    options = parser.parse_args()
    unknown = set(options.parts) - set(_PARTS)
    if unknown:
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    if options.write and options.parts:
        parser.error("--write takes no parts: the README holds the figures of one whole run")
    return options


def _write(figures: str) -> None:
    before, begin, rest = _README.read_text().partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not begin or not end:
        sys.exit(f"{_README.name}: no lines `{_BEGIN}` and `{_END}` to write between")
    _README.write_text(f"{before}{begin}\n\n{figures}\n\n{end}{after}")


if __name__ == "__main__":
    main()
