"""The classes and functions that a configuration names: importing them, and what may go wrong with that."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

from agentrt.config.fields import WEBSOCKET
from agentrt.config.problems import Fault, Invalid, did_you_mean, shown
from agentrt.config.structure import Draft
from agentrt.ports import ClientAdapter


def check_classes(draft: Draft, folder: Path, base: type) -> Iterator[Fault]:
    """Import the class of every agent and connection and find those that cannot be used. This runs the users' code.

    Args:
        draft: The configuration.
        folder: Put at the end of the import path, where it stays: what is installed goes first.
        base: What every agent's class must be a subclass of.
    """
    for name, agent in draft.config.agents.items():
        path = ("agents", name, "class")
        if draft.is_damaged(path):
            continue
        try:
            load_class(agent.class_, folder, base)
        except Invalid as error:
            yield Fault(path, str(error), error.hint)
    for name, connection in draft.config.connections.items():
        kind, resume = ("connections", name, "kind"), ("connections", name, "resume")
        if connection.kind != WEBSOCKET and not draft.is_damaged(kind):
            try:
                load_class(connection.kind, folder, ClientAdapter)
            except Invalid as error:
                yield Fault(kind, str(error), error.hint)
        if connection.resume is not None and not draft.is_damaged(resume):
            try:
                load_function(connection.resume, folder)
            except Invalid as error:
                yield Fault(resume, str(error), error.hint)


def load_class(spec: str, folder: Path, base: type) -> type:
    """Import ``module:Class``.

    Raises:
        Invalid: The module is not there or fails, it has no such class, the class is not a subclass of *base*, or what
            it overrides cannot take the place of what *base* has.
    """
    module, found = _load(spec, folder)
    if found is None:
        raise _missing(spec, module, "class", inspect.isclass)
    if not isinstance(found, type) or not issubclass(found, base):
        raise Invalid(f"{shown(spec)} is not a subclass of {base.__name__}", f"derive it from {base.__name__}")
    _check_overrides(spec, found, base)
    return found


def _check_overrides(spec: str, cls: type, base: type) -> None:
    for name, declared in vars(base).items():
        if not inspect.iscoroutinefunction(declared):
            continue
        own = getattr(cls, name)
        if getattr(own, "__isabstractmethod__", False):
            raise Invalid(f"{shown(spec)} has no {name}", f"define it by async def {name}({_names(declared)})")
        if inspect.isfunction(own) and not inspect.iscoroutinefunction(inspect.unwrap(own)):
            raise Invalid(
                f"{shown(spec)} has {name}, which is not async", f"define it by async def {name}({_names(declared)})"
            )
    try:
        inspect.signature(getattr(cls, "__init__")).bind(None, None)  # noqa: B009 - of the class, not of an instance.
    except TypeError as error:
        hint = "write def __init__(self, setup), and begin with super().__init__(setup)"
        raise Invalid(f"{shown(spec)} has an __init__ that cannot be called with the setup alone", hint) from error


def _names(function: Callable[..., Any]) -> str:
    return ", ".join(inspect.signature(function).parameters)


def load_function(spec: str, folder: Path) -> Callable[..., Awaitable[Any]]:
    """Import ``module:function``, an async function.

    Raises:
        Invalid: The module is not there or fails, it has no such function, or the function is not async.
    """
    module, found = _load(spec, folder)
    if found is None:
        raise _missing(spec, module, "function", inspect.isfunction)
    if not inspect.iscoroutinefunction(found):
        raise Invalid(f"{shown(spec)} is not an async function", f"define it by async def {spec.partition(':')[2]}")
    function: Callable[..., Awaitable[Any]] = found
    return function


def _load(spec: str, folder: Path) -> tuple[object, Any]:
    """Return the module that *spec* names, and what of it; None where it has no such thing."""
    if str(folder) not in sys.path:
        sys.path.append(str(folder))
    # A module that was written a moment ago is else overlooked.
    importlib.invalidate_caches()
    module_name, _, name = spec.partition(":")
    module = _import(module_name, folder)
    return module, getattr(module, name, None)


def _missing(spec: str, module: object, what: str, is_one: Callable[[object], bool]) -> Invalid:
    module_name, _, name = spec.partition(":")
    near = did_you_mean(name, [other for other, one in vars(module).items() if is_one(one)])
    hint = near or f"define it in {getattr(module, '__file__', module_name)}"
    return Invalid(f"the module {shown(module_name)} has no {what} {shown(name)}", hint)


def _import(name: str, folder: Path) -> object:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            hint = f"looked in what is installed and in {folder}"
            raise Invalid(f"there is no module {shown(error.name)}", hint) from error
        raise _failed(name, error) from error
    except (Exception, SystemExit) as error:  # A user's module may raise anything while it is imported.
        raise _failed(name, error) from error


def _failed(name: str, error: BaseException) -> Invalid:
    said = f"{type(error).__name__}: {error}".partition("\n")[0]
    return Invalid(f"importing {shown(name)} failed with {said}", f'try python -c "import {name}" in its folder')
