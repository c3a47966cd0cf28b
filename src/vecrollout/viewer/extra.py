"""What the viewer needs besides the package, or an error that says how to get it."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path

from vecrollout.errors import MissingDependencyError

NEEDED = ("starlette", "uvicorn", "plotly")

_missing = [name for name in NEEDED if find_spec(name) is None]
if _missing:
    raise MissingDependencyError(
        f"the viewer needs {', '.join(_missing)}; install it with: pip install 'vecrollout[viewer]'"
    )


def plotly_script() -> Path:
    """The script in the installed plotly package, which itself is not imported, as that takes long."""
    spec = find_spec("plotly")
    places = [
        Path(each) / "package_data" / "plotly.min.js" for each in (spec and spec.submodule_search_locations) or ()
    ]
    found = [place for place in places if place.is_file()]
    if not found:
        raise MissingDependencyError(
            f"the viewer needs plotly's script, expected at {', '.join(map(str, places))}; install plotly anew: "
            "pip install --force-reinstall plotly"
        )
    return found[0]


def style_guards(script: Path) -> list[str]:
    """Ids of elements where plotly's script leaves out the style sheets of its maps, which a strict page refuses."""
    return sorted(set(re.findall(r'getElementById\("([0-9a-f]{64})"\)', script.read_text("utf-8"))))
