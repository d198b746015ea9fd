"""The documentation's own code runs as it stands."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def test_the_guide_to_the_kernel_runs() -> None:
    """Its first example is a whole program, and asserts what it says."""
    code = re.search(r"```python\n(.+?)```", (ROOT / "docs/kernel.md").read_text(), re.DOTALL)
    assert code is not None
    exec(compile(code[1], "docs/kernel.md", "exec"), {"__name__": "guide"})


@pytest.mark.parametrize("page", [*sorted(ROOT.glob("docs/*.md")), ROOT / "README.md"], ids=lambda page: page.name)
def test_no_link_leads_nowhere(page: Path) -> None:
    """Every relative link names something that is there."""
    links = re.findall(r"\]\((?!https?://|#)([^)#]+)", page.read_text())
    assert [link for link in links if not (page.parent / link).exists()] == []
