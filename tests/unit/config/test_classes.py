"""Importing the agents' classes."""

from __future__ import annotations

import sys
from abc import abstractmethod
from pathlib import Path

import pytest

from agentrt.config import load_class, load_function


class Base:
    """What an agent's class is derived from."""

    def __init__(self, setup):
        self.setup = setup

    @abstractmethod
    async def handle(self, task): ...

    async def on_start(self): ...


@pytest.fixture(autouse=True)
def _clean_imports(monkeypatch):
    """Forget the modules of one test and its folder."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        del sys.modules[name]


@pytest.fixture
def write_module(tmp_path, monkeypatch):
    """Write a module beside ``config.toml``; its ``Base`` is that of this test."""
    base = type(sys)("base_for_tests")
    base.Base = Base
    monkeypatch.setitem(sys.modules, "base_for_tests", base)

    def write_module(name: str, text: str) -> None:
        (tmp_path / f"{name}.py").write_text(f"from base_for_tests import Base\n{text}\n")

    return write_module


def test_a_class_is_found_in_the_folder_of_the_configuration(load_more, write_module, tmp_path):
    """The folder comes last, so that it hides nothing that is installed."""
    write_module("newsroom", "class Editor(Base):\n    async def handle(self, task): ...")
    load_more(check_classes=True, base=Base)
    assert sys.path[-1] == str(tmp_path)
    load_more(check_classes=True, base=Base)
    assert sys.path.count(str(tmp_path)) == 1


def test_classes_are_not_imported_unasked(load_more):
    """Checking a file runs nobody's code."""
    assert load_more().config.agents["editor"].class_ == "newsroom:Editor"
    assert "newsroom" not in sys.modules


@pytest.mark.parametrize(
    ("module", "said"),
    [
        (
            "class Editr(Base): pass",
            'the module "newsroom" has no class "Editor"; did you mean "Editr"?',
        ),
        ("", 'the module "newsroom" has no class "Editor"; define it in {folder}/newsroom.py'),
        (
            "class Editor: pass",
            '"newsroom:Editor" is not a subclass of Base; derive it from Base',
        ),
        ("Editor = 5", '"newsroom:Editor" is not a subclass of Base; derive it from Base'),
        (
            "class Editor(Base): pass",
            '"newsroom:Editor" has no handle; define it by async def handle(self, task)',
        ),
        (
            "class Editor(Base):\n    def handle(self, task): ...",
            '"newsroom:Editor" has handle, which is not async; define it by async def handle(self, task)',
        ),
        (
            "class Editor(Base):\n    async def handle(self, task): ...\n    def on_start(self): ...",
            '"newsroom:Editor" has on_start, which is not async; define it by async def on_start(self)',
        ),
        (
            "class Editor(Base):\n    async def handle(self, task): ...\n    def __init__(self): ...",
            (
                '"newsroom:Editor" has an __init__ that cannot be called with the setup alone; '
                "write def __init__(self, setup), and begin with super().__init__(setup)"
            ),
        ),
        (
            "import not_installed_anywhere",
            (
                "importing \"newsroom\" failed with ModuleNotFoundError: No module named 'not_installed_anywhere'; "
                'try python -c "import newsroom" in its folder'
            ),
        ),
        (
            "1 / 0",
            (
                'importing "newsroom" failed with ZeroDivisionError: division by zero; '
                'try python -c "import newsroom" in its folder'
            ),
        ),
        (
            "raise SystemExit(3)",
            'importing "newsroom" failed with SystemExit: 3; try python -c "import newsroom" in its folder',
        ),
        (
            "class",
            (
                'importing "newsroom" failed with SyntaxError: invalid syntax (newsroom.py, line 2); '
                'try python -c "import newsroom" in its folder'
            ),
        ),
    ],
)
def test_a_class_that_cannot_be_used_is_a_mistake(mistakes_in, write_module, tmp_path, module, said):
    """On the line of the class, with all other mistakes."""
    write_module("newsroom", module)
    assert mistakes_in("zzzzz = 1", check_classes=True, base=Base)[0] == (
        f"config.toml:5: agents.editor.class: {said.format(folder=tmp_path)}"
    )


def test_a_decorated_method_is_as_async_as_what_it_wraps(load_more, write_module):
    """The wrapper itself may be a plain function, as long as it says what it wraps."""
    write_module(
        "newsroom",
        """
import functools
def logged(function):
    @functools.wraps(function)
    def call(*args): return function(*args)
    return call
class Editor(Base):
    @logged
    async def handle(self, task): ...
""",
    )
    assert load_more(check_classes=True, base=Base).config.agents["editor"].class_ == "newsroom:Editor"


def test_a_module_that_is_not_there_is_looked_for_in_two_places(mistakes_in, tmp_path):
    """Which are named."""
    assert mistakes_in("", check_classes=True, base=Base) == [
        (
            'config.toml:5: agents.editor.class: there is no module "newsroom"; '
            f"looked in what is installed and in {tmp_path}"
        )
    ]


def test_a_class_that_is_no_path_is_reported_once(mistakes_in, write_module):
    """What cannot be imported is not tried."""
    write_module("newsroom", "class Editor(Base):\n    async def handle(self, task): ...")
    said = mistakes_in("[agents.writer]\nclass = 'Writer'", check_classes=True, base=Base)
    assert said == [
        'config.toml:7: agents.writer.class: must look like "module:Class", got "Writer"; for example "newsroom:Editor"'
    ]


def test_a_class_can_be_loaded_by_itself(write_module, tmp_path):
    """As the fleet does it when it starts an agent."""
    write_module("solo", "class Agent(Base):\n    async def handle(self, task): ...")
    assert issubclass(load_class("solo:Agent", Path(tmp_path), Base), Base)


@pytest.mark.parametrize(
    ("module", "said"),
    [
        ("async def resumes(session): pass", 'the module "trading" has no function "resume"; did you mean "resumes"?'),
        ("def resume(session): pass", '"trading:resume" is not an async function; define it by async def resume'),
        ("resume = 5", '"trading:resume" is not an async function; define it by async def resume'),
        ("class resume: pass", '"trading:resume" is not an async function; define it by async def resume'),
    ],
)
def test_a_resume_hook_that_cannot_be_used_is_a_mistake(mistakes_in, write_module, module, said):
    """On its own line; a plain function would block the loop, or fail only when the first connection is made."""
    write_module("newsroom", "class Editor(Base):\n    async def handle(self, task): ...")
    write_module("trading", module)
    lines = "[connections.feed]\nkind = 'websocket'\nurl = 'ws://x'\nresume = 'trading:resume'"
    (found,) = mistakes_in(lines, check_classes=True, base=Base)
    assert f"config.toml:9: connections.feed.resume: {said}" == found


async def test_a_function_can_be_loaded_by_itself(write_module, tmp_path):
    """As the connection does it when it is opened."""
    write_module("trading", "async def resume(session): return session")
    assert "one" == await load_function("trading:resume", Path(tmp_path))("one")
