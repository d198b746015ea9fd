"""Batteries: the actors behind the ports, found by name through entry points, or handed over in Python."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Any, Protocol, cast

from agentrt.kernel import Actor
from agentrt.ports import BatteryMissing

#: The entry point group, for batteries of ours and of others.
GROUP = "agentrt.actors"


class Battery(Protocol):
    """An actor class that comes with a handle.

    The handle is what others hold and what stays when the actor is restarted; calling the battery with it makes the
    actor of one incarnation. A battery that needs something around the whole run has ``around``.
    """

    def open_handle(self, *args: Any, **settings: Any) -> Any:
        """Make the handle."""
        ...

    def __call__(self, handle: Any, /) -> Actor:
        """Make the actor that drives *handle*."""
        ...


class Batteries:
    """Finds batteries by name.

    Args:
        replaced: What to use instead of what is installed, by name; a test puts its fakes here.
    """

    def __init__(self, replaced: Mapping[str, Any] | None = None) -> None:
        self._found: dict[str, Any] = dict(replaced or {})

    def __getitem__(self, name: str) -> Battery:
        """Find a battery.

        Raises:
            BatteryMissing: There is none of that name, or it cannot be imported.
        """
        if name not in self._found:
            self._found[name] = _load(name)
        return cast("Battery", self._found[name])

    def around(self, name: str) -> AbstractAsyncContextManager[None]:
        """Give what the battery needs around the whole run."""
        around = getattr(self[name], "around", None)
        return around() if around is not None else nullcontext()


def _load(name: str) -> Any:
    points = importlib.metadata.entry_points(group=GROUP)
    if name not in points.names:
        known = ", ".join(sorted(points.names)) or "none"
        raise BatteryMissing(
            f"no battery {name!r} is installed (there are: {known}); install the package that has it, or install "
            "agentrt again"
        )
    point = points[name]
    try:
        return point.load()
    except (ImportError, AttributeError) as error:
        raise BatteryMissing(_import_advice(name, point.value, error)) from error


def _import_advice(name: str, value: str, error: Exception) -> str:
    package = value.partition(":")[0].partition(".")[0]
    problem = f"the battery {name!r} ({value}) cannot be imported: {error}"
    spec = importlib.util.find_spec(package)
    if spec is None:
        return f"{problem}; install the package that has it again"
    places = ", ".join(spec.submodule_search_locations or [spec.origin or "built in"])
    return f"{problem}; {package!r} is {places}, which may hide the installed one: rename that folder"
