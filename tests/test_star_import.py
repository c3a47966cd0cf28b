"""`from vecrollout import *` works whatever extras are installed."""

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize("prelude", ["", "import importlib.util as u; u.find_spec = lambda name: None"])
def test_star_import(prelude: str) -> None:
    code = f"{prelude}\nfrom vecrollout import *\nprint('TraceWriter' in globals(), 'BufferingWrapper' in globals())"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    has_traces = "False" if prelude else "True"
    assert result.stdout.split() == [has_traces, "True"]


FIRST = """
import contextlib, importlib, sys
import vecrollout

for name in vecrollout.__all__:
    with contextlib.suppress(ImportError):
        getattr(vecrollout, name)
# Each module is imported many times from now on, and compiled once. Other packages' modules are all there.
sys.dont_write_bytecode = False
sys.pycache_prefix = sys.argv[1]
for name in vecrollout.__all__:
    for module in [each for each in sys.modules if each.partition(".")[0] == "vecrollout"]:
        del sys.modules[module]
    try:
        getattr(importlib.import_module("vecrollout"), name)
    except ImportError as error:
        print(name, error)
"""


def test_each_name_can_be_the_first(tmp_path: Path) -> None:
    """Modules that import one another would fail for some names, and for others not."""
    command = [sys.executable, "-W", "ignore", "-c", FIRST, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == ""
