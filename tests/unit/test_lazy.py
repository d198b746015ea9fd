"""Packages that import what they offer when it is asked for."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

PACKAGES = ("agentrt", "agentrt.config", "agentrt.policy")


@pytest.mark.parametrize("package", PACKAGES)
def test_every_name_is_there(package: str) -> None:
    """What is said to type checkers, to ``import *`` and at run time is the same."""
    module = importlib.import_module(package)
    assert set(module.__all__) <= set(dir(module))
    assert [name for name in module.__all__ if getattr(module, name) is None] == []
    with pytest.raises(AttributeError, match=f"module '{package}' has no attribute 'nothing'"):
        _ = module.nothing


def test_a_package_imports_nothing_by_itself() -> None:
    """A name costs the modules that it needs."""
    program = f"import sys, {', '.join(PACKAGES)}; agentrt.policy.Latch; print(*sys.modules, sep='\\n')"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    ours = {name for name in loaded if name.partition(".")[0] == "agentrt"}
    assert ours == {*PACKAGES, "agentrt._lazy", "agentrt.policy.latch"}
