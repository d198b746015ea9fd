"""Packages whose names are imported when they are first used, so that a small program costs only itself."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any


def lazily(package: str, names: Mapping[str, Iterable[str]]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return ``__getattr__`` and ``__dir__`` of a package; type checkers are told by imports that only they see.

    Args:
        package: Its name.
        names: What it offers, by the module below it that has it.
    """
    known = vars(sys.modules[package])
    where = {name: module for module, offered in names.items() for name in offered}

    def find(name: str) -> Any:
        if name not in where:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        known[name] = getattr(importlib.import_module(f"{package}.{where[name]}"), name)
        return known[name]

    return find, lambda: sorted({*known, *where})
