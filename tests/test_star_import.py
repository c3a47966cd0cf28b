"""`from vecrollout import *` works whatever extras are installed."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize("prelude", ["", "import importlib.util as u; u.find_spec = lambda name: None"])
def test_star_import(prelude: str) -> None:
    code = f"{prelude}\nfrom vecrollout import *\nprint('TraceWriter' in globals(), 'BufferingWrapper' in globals())"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    has_traces = "False" if prelude else "True"
    assert result.stdout.split() == [has_traces, "True"]
