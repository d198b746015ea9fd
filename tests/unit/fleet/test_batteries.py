"""Batteries: found by name, and an error that says what to do where one is not."""

from __future__ import annotations

import importlib.metadata
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from actors.inbox import Inbox
from agentrt.fleet import Batteries
from agentrt.fleet import batteries as module
from agentrt.ports import BatteryMissing


def point(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    """Have one entry point, as if installed."""
    points = importlib.metadata.EntryPoints([importlib.metadata.EntryPoint("nats", value, module.GROUP)])
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: points.select(group=group))


def test_a_battery_is_found_through_its_entry_point():
    """The installed one, where no other is handed over."""
    assert Inbox is Batteries()["inbox"]


def test_one_that_is_handed_over_takes_its_place():
    """A test puts its fakes there."""
    fake: Any = object()
    assert fake is Batteries({"inbox": fake})["inbox"]


def test_one_that_is_not_installed_is_named_with_those_that_are(monkeypatch: pytest.MonkeyPatch):
    """And what to install."""
    point(monkeypatch, "actors.nats:NatsConnection")
    with pytest.raises(BatteryMissing, match=r"no battery 'kafka' is installed \(there are: nats\); install"):
        Batteries()["kafka"]


@pytest.mark.parametrize("value", ["shadowed.nowhere:Connection", "shadowed:Connection", "shadowed.empty:Connection"])
def test_one_that_is_hidden_by_a_folder_says_which(value: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """A user's project may have a package of the same name: without the module, or without the class."""
    (tmp_path / "shadowed").mkdir()
    (tmp_path / "shadowed" / "empty.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    point(monkeypatch, value)
    with pytest.raises(BatteryMissing, match=f"{tmp_path}/shadowed, which may hide the installed one: rename"):
        Batteries()["nats"]


def test_one_whose_package_is_gone_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    """The entry point stayed, the code did not."""
    point(monkeypatch, "no_such_package_at_all.nats:Connection")
    with pytest.raises(BatteryMissing, match="install the package that has it again"):
        Batteries()["nats"]


def test_what_a_battery_needs_around_the_run_is_given():
    """Nothing, where it says nothing."""
    entered: list[str] = []

    class Battery:
        @staticmethod
        @contextmanager
        def around() -> Any:
            entered.append("in")
            yield
            entered.append("out")

    batteries = Batteries({"nats": Battery, "plain": object()})
    assert batteries.around("nats") is not None
    with batteries.around("nats"):  # type: ignore[attr-defined]
        assert ["in"] == entered
    assert ["in", "out"] == entered
