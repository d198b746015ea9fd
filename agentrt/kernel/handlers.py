"""Handlers by the class of the message: declared with :func:`handles`, found by a table."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, overload

from agentrt.kernel.messages import Asks, R

if TYPE_CHECKING:
    from agentrt.kernel.actor import Actor

Receive = Callable[[Any], Awaitable[object]]

Kind = TypeVar("Kind")
Message = TypeVar("Message")
Reply = TypeVar("Reply")
Kind_contra = TypeVar("Kind_contra", contravariant=True)
R_co = TypeVar("R_co", covariant=True)
Message_contra = TypeVar("Message_contra", contravariant=True)
Reply_co = TypeVar("Reply_co", covariant=True)

_MARK = "__agentrt_handles__"


class HandlerOf(Protocol[Kind_contra, R_co, Message_contra, Reply_co]):
    """For type checkers: a method that answers a ``Kind`` with an ``R``, and whose own types are the other two.

    What fits both overloads is what is demanded and is known by what it is: so a decorated method keeps its own types,
    and decorators can be stacked.
    """

    @overload
    def __call__(self, actor: Any, message: Kind_contra, /) -> Awaitable[R_co]: ...

    @overload
    def __call__(self, actor: Any, message: Message_contra, /) -> Awaitable[Reply_co]: ...


@overload
def handles(
    kind: type[Asks[Kind, R]],
) -> Callable[[HandlerOf[Kind, R, Message, Reply]], Callable[[Any, Message], Awaitable[Reply]]]: ...


@overload
def handles(
    kind: type[Kind],
) -> Callable[[HandlerOf[Kind, Any, Message, Reply]], Callable[[Any, Message], Awaitable[Reply]]]: ...


def handles(kind: type[Any]) -> Callable[[Any], Any]:
    """Declare that the decorated method of an :class:`Actor` handles messages of class *kind*, and of its subclasses.

    The most specific class wins. A method may handle several: stack the decorator. What no method handles goes to
    ``handle``. A subclass that overrides the method goes on handling *kind* with it, decorated or not.

    Raises:
        TypeError: *kind* is not a class.
    """
    if not isinstance(kind, type):
        raise TypeError(f"@handles takes the class of a message, not {kind!r}; write @handles(Deposit)")

    def mark(method: Any) -> Any:
        setattr(method, _MARK, (*getattr(method, _MARK, ()), kind))
        return method

    return mark


def handlers_of(actor_class: type[Actor[Any]]) -> dict[type, str]:
    """Collect which method of *actor_class* handles which class, those that it inherits included.

    Raises:
        TypeError: Two methods of one class handle the same messages.
    """
    table: dict[type, str] = {}
    for base in reversed(actor_class.__mro__):
        own: dict[type, str] = {}
        for name, method in vars(base).items():
            for kind in getattr(method, _MARK, ()):
                if kind in own:
                    raise TypeError(f"{base.__qualname__} handles {kind.__name__} twice: {own[kind]} and {name}")
                own[kind] = name
        table.update(own)
    return table


class Receivers(dict[type, Receive]):
    """Which method of an actor handles the messages of a class; a class is looked for once, when it is first met.

    Args:
        actor: The actor.
        table: What :func:`handlers_of` collected of its class.
    """

    def __init__(self, actor: Actor[Any], table: dict[type, str]) -> None:
        self._actor = actor
        self._table = table

    def __missing__(self, kind: type) -> Receive:
        """Look for it: the most specific class wins."""
        name = next((self._table[base] for base in kind.__mro__ if base in self._table), "handle")
        handler: Receive = getattr(self._actor, name)
        self[kind] = handler
        return handler
