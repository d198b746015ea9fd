"""The documentation's own code runs as it stands."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from agentrt.config import load, load_class
from agentrt.ports import ClientAdapter

ROOT = Path(__file__).resolve().parents[2]


def blocks(page: str, language: str) -> list[str]:
    """Give the code of one language on a page, in its order."""
    return re.findall(rf"```{language}\n(.+?)```", (ROOT / page).read_text(), re.DOTALL)


def write(folder: Path, *codes: str) -> None:
    """Write each piece of code into the file that its first line names."""
    for code in codes:
        name = re.match(r"# (\S+)\n", code)
        assert name is not None, code
        (folder / name[1]).write_text(code)


def run_tests(folder: Path) -> None:
    """Run what is in *folder* as a reader would."""
    (folder / "pytest.ini").write_text("[pytest]\ntrio_mode = true\n")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=300)
    assert "1 passed" in done.stdout, done.stdout + done.stderr


def test_the_fleet_of_the_readme_passes_the_test_of_the_readme(tmp_path: Path) -> None:
    """Word for word: its agents, its configuration, its test."""
    agents, _call, test = blocks("README.md", "python")
    write(tmp_path, agents, test, *blocks("README.md", "toml"))
    run_tests(tmp_path)


def test_the_guide_to_connections_passes_its_own_test(tmp_path: Path) -> None:
    """The agent, its configuration with what every configuration has, and its test."""
    trader, _client, test = blocks("docs/connections.md", "python")
    write(tmp_path, trader, test)
    feed, _quotes = blocks("docs/connections.md", "toml")
    (tmp_path / "config.toml").write_text(f'schema = 1\n[fleet]\nname = "trading"\n{feed}')
    run_tests(tmp_path)


def test_the_client_of_the_guide_to_connections_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its library is whatever the reader's is."""
    _trader, client, _test = blocks("docs/connections.md", "python")
    write(tmp_path, client)
    (tmp_path / "quotes.py").touch()
    monkeypatch.setattr(sys, "path", list(sys.path))
    assert issubclass(load_class("quotes_client:Quotes", tmp_path, ClientAdapter), ClientAdapter)


EXAMPLES = [
    pytest.param(code, id=f"{page.stem}-{index}")
    for page in sorted(ROOT.glob("docs/*.md"))
    if page.stem != "mcp-proxy"  # A file of another kind.
    for index, code in enumerate(blocks(f"docs/{page.name}", "toml"))
]


@pytest.mark.parametrize("code", EXAMPLES)
def test_a_piece_of_configuration_is_one(tmp_path: Path, code: str) -> None:
    """With what every configuration has, and one agent."""
    fleet = "" if "[fleet]" in code else '[fleet]\nname = "newsroom"\n'
    agent = "" if "[agents.trader]" in code else '[agents.editor]\nclass = "newsroom:Editor"\n'
    (tmp_path / "config.toml").write_text(f"schema = 1\n{code}\n{fleet}{agent}")
    assert load(tmp_path / "config.toml", {}).config.agents


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
