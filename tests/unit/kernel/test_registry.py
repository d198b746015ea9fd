"""The registry: who has a key, and nobody who is gone."""

from __future__ import annotations

import pytest
import trio
from kernel_kit import ONE_SECOND, Plan, Probe, crash, hello, open_runtime, probe, quiet, stubborn, tree

from agentrt.kernel import (
    Actor,
    ActorDied,
    AlreadyRegistered,
    Budget,
    ChildSpec,
    Registry,
    RegistryStatistics,
    Runtime,
    TerminateChild,
)


def actor(runtime: Runtime, name: str) -> Actor:
    """Find a living actor."""
    found = runtime.ref(f"top/{name}").actor
    assert found is not None
    return found


def entries(registry: Registry, key: object) -> list[tuple[str, object]]:
    """Say who has *key*, with which value."""
    return [(entry.ref.path, entry.value) for entry in registry.lookup(key)]


async def test_a_key_leads_to_who_registered_it(autojump_clock) -> None:
    """And to nobody where nobody did."""
    registry = Registry()
    async with open_runtime(tree(probe("a"), probe("b"))) as runtime:
        registry.register(actor(runtime, "a"), ("user", 1), "value")
        registry.register(actor(runtime, "b"), "name")
        assert registry.whereis(("user", 1)) is runtime.ref("top/a")
        assert entries(registry, ("user", 1)) == [("top/a", "value")]
        assert entries(registry, "name") == [("top/b", None)]
        assert registry.whereis("nobody") is None
        assert registry.lookup("nobody") == ()
        assert await registry.whereis("name").call(hello) == "b 1"


async def test_a_unique_key_that_is_taken_is_refused_with_who_has_it(autojump_clock) -> None:
    """Also to the actor that has it, as in Elixir: whoever wants another value unregisters first."""
    registry = Registry()
    async with open_runtime(tree(probe("a"), probe("b"))) as runtime:
        registry.register(actor(runtime, "a"), "name", 1)
        for name in "ab":
            with pytest.raises(AlreadyRegistered, match=r"^'name' is taken by top/a$") as caught:
                registry.register(actor(runtime, name), "name", 2)
            assert (caught.value.key, caught.value.ref) == ("name", runtime.ref("top/a"))
        assert entries(registry, "name") == [("top/a", 1)]
        assert registry.statistics() == RegistryStatistics(keys=1, entries=1, owners=1)


async def test_a_duplicate_key_has_any_number_of_entries_in_order(autojump_clock) -> None:
    """The same actor may have several, with the same value or another."""
    registry = Registry(unique=False)
    async with open_runtime(tree(probe("a"), probe("b"))) as runtime:
        for name, value in [("b", 1), ("a", 1), ("b", 1), ("b", 2)]:
            registry.register(actor(runtime, name), "workers", value)
        assert entries(registry, "workers") == [("top/b", 1), ("top/a", 1), ("top/b", 1), ("top/b", 2)]
        assert registry.whereis("workers") is runtime.ref("top/b")
        assert registry.statistics() == RegistryStatistics(keys=1, entries=4, owners=2)
        registry.unregister(actor(runtime, "b"), "workers")
        assert entries(registry, "workers") == [("top/a", 1)]


async def test_who_unregisters_gives_up_only_its_own(autojump_clock) -> None:
    """What it does not have is not missed."""
    registry = Registry()
    async with open_runtime(tree(probe("a"), probe("b"))) as runtime:
        registry.register(actor(runtime, "a"), "one")
        registry.register(actor(runtime, "a"), "two")
        registry.unregister(actor(runtime, "b"), "one")
        registry.unregister(actor(runtime, "a"), "three")
        assert registry.keys(runtime.ref("top/a")) == ("one", "two")
        registry.unregister(actor(runtime, "a"), "one")
        assert registry.keys(runtime.ref("top/a")) == ("two",)
        registry.register(actor(runtime, "b"), "one")
        assert registry.whereis("one") is runtime.ref("top/b")


async def test_the_keys_of_an_actor_are_listed_once_each_in_order(autojump_clock) -> None:
    registry = Registry(unique=False)
    async with open_runtime(tree(probe("a"), probe("b"))) as runtime:
        for key in ["z", "a", "z", 3]:
            registry.register(actor(runtime, "a"), key)
        assert registry.keys(runtime.ref("top/a")) == ("z", "a", 3)
        assert registry.keys(runtime.ref("top/b")) == ()


async def test_what_an_actor_registered_goes_when_it_ends(autojump_clock) -> None:
    """However it ends. Between two incarnations its keys are free."""
    registry = Registry()
    async with open_runtime(tree(probe("a", backoff=ONE_SECOND), probe("b"), probe("c"))) as runtime:
        for name in "abc":
            registry.register(actor(runtime, name), name)
        await crash(runtime.ref("top/a"))
        await runtime.ref("top").call(TerminateChild("b"))
        assert [registry.whereis(name) for name in "abc"] == [None, None, runtime.ref("top/c")]
        assert registry.keys(runtime.ref("top/a")) == ()
        registry.register(actor(runtime, "c"), "a")
        assert registry.whereis("a") is runtime.ref("top/c")
    assert registry.statistics() == RegistryStatistics(keys=0, entries=0, owners=0)


async def test_a_zombie_has_no_keys(autojump_clock) -> None:
    """Nobody would get an answer there."""
    registry = Registry()
    release = trio.Event()

    async def stay(_: Actor) -> None:
        await stubborn(release)

    async with open_runtime(tree(probe("a", shutdown=0))) as runtime:
        registry.register(actor(runtime, "a"), "name")
        await runtime.ref("top/a").cast(stay)
        await quiet()
        await runtime.ref("top").call(TerminateChild("a"))
        assert registry.whereis("name") is None
        release.set()


class Named(Probe):
    """Has the same name in each incarnation."""

    def __init__(self, registry: Registry) -> None:
        super().__init__(Plan())
        self.registry = registry

    async def on_start(self) -> None:
        self.registry.register(self, "name", self.generation)


async def test_the_next_incarnation_can_take_the_same_key_at_its_start(autojump_clock) -> None:
    """The entry of the last one is gone before its supervisor hears of the end, so it is never in the way."""
    registry = Registry()
    named = ChildSpec(id="a", factory=lambda: Named(registry), backoff=probe("x").backoff, budget=Budget(100, 1.0))
    async with open_runtime(tree(named, budget=Budget(100, 1.0))) as runtime:
        for generation in range(1, 21):
            assert entries(registry, "name") == [("top/a", generation)]
            await crash(runtime.ref("top/a"))
        assert len(runtime.ref("top/a").incarnation._endings) == 1


async def test_who_ended_cannot_register(autojump_clock) -> None:
    """Its entry would stay for ever; to unregister does no harm."""
    registry = Registry()
    async with open_runtime(tree(probe("a"))) as runtime:
        old = actor(runtime, "a")
        await crash(runtime.ref("top/a"))
        with pytest.raises(ActorDied, match=r"top/a \(generation 1\)"):
            registry.register(old, "name")
        registry.unregister(old, "name")
        assert registry.statistics() == RegistryStatistics(keys=0, entries=0, owners=0)


async def test_an_actor_can_be_in_several_registries(autojump_clock) -> None:
    names, groups = Registry(), Registry(unique=False)
    async with open_runtime(tree(probe("a"))) as runtime:
        names.register(actor(runtime, "a"), "name")
        groups.register(actor(runtime, "a"), "workers")
        names.unregister(actor(runtime, "a"), "name")
        assert groups.whereis("workers") is runtime.ref("top/a")
        await crash(runtime.ref("top/a"))
        assert groups.whereis("workers") is None


async def test_what_was_looked_up_stays_while_entries_go(autojump_clock) -> None:
    """Whoever asks each of them in turn meets those that ended meanwhile as such."""
    registry = Registry(unique=False)
    async with open_runtime(tree(*(probe(name, backoff=ONE_SECOND) for name in "abc"))) as runtime:
        for name in "abc":
            registry.register(actor(runtime, name), "workers")
        met = []
        for entry in registry.lookup("workers"):
            met.append(entry.ref.path)
            await crash(runtime.ref("top/b"))
        assert met == ["top/a", "top/b", "top/c"]
        assert entries(registry, "workers") == [("top/a", None), ("top/c", None)]


async def test_nothing_is_left_of_what_came_and_went(autojump_clock) -> None:
    registry = Registry()
    async with open_runtime(tree(probe("a"))) as runtime:
        one = actor(runtime, "a")
        for key in range(1000):
            registry.register(one, key)
            registry.unregister(one, key)
        assert runtime.ref("top/a").incarnation._endings == {}
        assert registry.statistics() == RegistryStatistics(keys=0, entries=0, owners=0)


async def test_a_key_has_to_be_hashable() -> None:
    """As any key of a dictionary."""
    async with open_runtime(tree(probe("a"))) as runtime:
        with pytest.raises(TypeError, match="unhashable"):
            Registry().register(actor(runtime, "a"), [])


async def test_a_registry_says_what_it_is(autojump_clock) -> None:
    registry = Registry(unique=False)
    async with open_runtime(tree(probe("a"))) as runtime:
        registry.register(actor(runtime, "a"), "workers")
        registry.register(actor(runtime, "a"), "workers")
        assert repr(registry) == "<Registry of duplicate keys, 1 taken>"
    assert repr(Registry()) == "<Registry of unique keys, 0 taken>"
