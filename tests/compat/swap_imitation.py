"""Puts `vecrollout.compat.imitation` in the place of `imitation.data` for the rest of the process.

Used by scripts that run imitation's algorithms on our modules, and as a pytest plugin (`-p swap_imitation`) to run
imitation's own tests against them.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import hypothesis
import numpy as np
import pytest

MODULES = ("types", "rollout", "wrappers", "buffer", "huggingface_utils", "serialize")


def swap() -> None:
    """Makes every later import of imitation's data modules give ours.

    Raises:
        RuntimeError: If one of imitation's modules was imported before: it would keep the original ones.
    """
    early = sorted(name for name in sys.modules if name.partition(".")[0] == "imitation")
    if early:
        raise RuntimeError(f"imported before the swap: {', '.join(early)}")
    # The two packages import nothing themselves.
    package = importlib.import_module("imitation.data")
    # Ours inherit from imitation's classes where they can import them. In their place, they stand on their own.
    sys.modules.update({f"imitation.data.{name}": None for name in MODULES})  # type: ignore[misc]
    for name in MODULES:
        ours = importlib.import_module(f"vecrollout.compat.imitation.{name}")
        sys.modules[f"imitation.data.{name}"] = ours
        # `from imitation.data import types` looks at the package first.
        setattr(package, name, ours)


def originals_loaded() -> list[str]:
    """Names of the loaded modules that are imitation's own data modules, or that hold one of them."""
    folder = Path(str(sys.modules["imitation.data"].__file__)).parent
    originals = {str(folder / f"{name}.py") for name in MODULES}

    def original(value: object) -> bool:
        # type and vars: isinstance and getattr would load what is loaded lazily, and set off warnings of deprecation.
        return issubclass(type(value), ModuleType) and vars(value).get("__file__") in originals

    return sorted(
        name
        for name, module in list(sys.modules.items())
        if isinstance(module, ModuleType) and (original(module) or any(map(original, list(vars(module).values()))))
    )


def in_use() -> list[str]:
    """One line a module: the name it is imported by, and the file it came from."""
    return [f"imitation.data.{name}: {sys.modules[f'imitation.data.{name}'].__file__}" for name in MODULES]


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests() -> None:
    # imitation's conftest imports its data modules, so this is the last moment before them.
    swap()


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """Imports imitation's tests without their time limits an example, which a busy machine does not keep."""
    original = hypothesis.settings

    def without_deadline(*args: Any, **kwargs: Any) -> hypothesis.settings:
        return original(*args, **{**kwargs, "deadline": None})

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hypothesis, "settings", without_deadline)
        return (yield)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Rewards may be vectors here, so imitation's test of wrong shapes does not try one of shape `(steps, 2)`."""
    for module in {item.module for item in items if isinstance(item, pytest.Function)}:
        if hasattr(module, "_check_1d_shape"):
            module._check_1d_shape = _check_shapes


def _check_shapes(fn: Callable[[np.ndarray], Any], length: int, expected_msg: str) -> None:
    wrong = [(), (length, 1), (length - 1,), (length + 1,), (length, 2, 2)]
    if not expected_msg.startswith("rewards"):
        wrong.append((length, 2))
    for shape in wrong:
        with pytest.raises(ValueError, match=expected_msg):
            fn(np.zeros(shape))


def pytest_report_header() -> list[str]:
    return in_use()


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish() -> None:
    loaded = originals_loaded()
    if loaded:
        pytest.exit(f"imitation's own data modules were used, not ours: {', '.join(loaded)}", returncode=1)
