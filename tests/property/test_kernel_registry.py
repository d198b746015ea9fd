"""The registry against a list: whatever actors register, unregister and die of, both say the same."""

from __future__ import annotations

import attrs
import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_kit import open_runtime, probe, quiet, tree
from trio.testing import MockClock

from agentrt.kernel import Actor, AlreadyRegistered, Budget, Registry, RegistryStatistics, Runtime

NAMES = ("a", "b", "c")
KEYS = (0, 1, "x")
ENOUGH = Budget(10_000, 1.0)

steps = st.lists(
    st.one_of(
        st.tuples(st.just("register"), st.sampled_from(NAMES), st.sampled_from(KEYS), st.integers(0, 3)),
        st.tuples(st.just("unregister"), st.sampled_from(NAMES), st.sampled_from(KEYS), st.none()),
        st.tuples(st.just("die"), st.sampled_from(NAMES), st.none(), st.none()),
    ),
    max_size=40,
)


@attrs.define
class Model:
    """A registry as one would write it without a thought for speed: one list."""

    unique: bool
    entries: list[tuple[str, object, object]] = attrs.field(factory=list)

    def register(self, name: str, key: object, value: object) -> str | None:
        """Return who has the key already, where that is in the way."""
        taken = [owner for owner, other, _ in self.entries if other == key]
        if self.unique and taken:
            return taken[0]
        self.entries.append((name, key, value))
        return None

    def remove(self, name: str, *keys: object) -> None:
        self.entries = [one for one in self.entries if one[0] != name or one[1] not in keys]

    def statistics(self) -> RegistryStatistics:
        return RegistryStatistics(
            len({key for _, key, _ in self.entries}), len(self.entries), len({name for name, _, _ in self.entries})
        )


def compare(registry: Registry, model: Model, runtime: Runtime) -> None:
    """Ask both all that can be asked."""
    for key in KEYS:
        expected = [(name, value) for name, other, value in model.entries if other == key]
        assert [(entry.ref.path[-1], entry.value) for entry in registry.lookup(key)] == expected
        first = registry.whereis(key)
        assert (first.path[-1] if first is not None else None) == (expected[0][0] if expected else None)
    for name in NAMES:
        expected_keys = list(dict.fromkeys(key for owner, key, _ in model.entries if owner == name))
        assert list(registry.keys(runtime.ref(f"top/{name}"))) == expected_keys
    assert registry.statistics() == model.statistics()


def register(registry: Registry, actor: Actor, key: object, value: object, taken_by: str | None) -> None:
    """Register, which is refused where the model says that somebody has the key already."""
    if taken_by is None:
        registry.register(actor, key, value)
        return
    with pytest.raises(AlreadyRegistered) as caught:
        registry.register(actor, key, value)
    assert (caught.value.key, caught.value.ref.path) == (key, f"top/{taken_by}")


async def follow(script: list[tuple], *, unique: bool) -> None:
    registry, model = Registry(unique=unique), Model(unique)
    specs = tree(*(probe(name, budget=ENOUGH) for name in NAMES), budget=ENOUGH)
    async with open_runtime(specs) as runtime:
        for what, name, key, value in script:
            ref = runtime.ref(f"top/{name}")
            actor = ref.actor
            assert actor is not None
            if what == "register":
                register(registry, actor, key, value, taken_by=model.register(name, key, value))
            elif what == "unregister":
                model.remove(name, key)
                registry.unregister(actor, key)
            else:
                model.remove(name, *KEYS)
                ref.incarnation.fail(RuntimeError("told to"))
                await quiet()
            compare(registry, model, runtime)
        owners = {name for name, _, _ in model.entries}
        assert [name for name in NAMES if runtime.ref(f"top/{name}").incarnation._endings] == sorted(owners)
    assert registry.statistics() == RegistryStatistics(0, 0, 0)


@pytest.mark.parametrize("unique", [True, False])
@settings(max_examples=150, deadline=None)
@given(script=steps, schedule=st.random_module())
def test_a_registry_is_a_list_that_forgets_the_dead(unique, script, schedule) -> None:
    async def main() -> None:
        await follow(script, unique=unique)

    trio.run(main, clock=MockClock(autojump_threshold=0))
