"""The pool of servers against a plain list of what happened."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agentrt.policy import PoolServer, ServerPool

NAMES = "abcdef"
servers = st.sampled_from(NAMES)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("troubled"), servers),
        st.tuples(st.just("served"), servers),
        st.tuples(st.just("told"), st.sets(servers, max_size=4)),
    )
)


def server(name: str) -> PoolServer:
    return PoolServer(f"nats://{name}:1")


@given(st.sets(servers, min_size=1), steps, st.floats(0, 1), st.one_of(st.none(), servers))
def test_the_order_has_everybody_once_and_trouble_last(configured, history, jitter, without):
    """Whatever happened: who is configured or was told last, those without trouble first, then by their trouble."""
    pool = ServerPool(tuple(server(name) for name in sorted(configured)))
    told: set[str] = set()
    trouble: dict[str, int] = {}
    for now, (event, what) in enumerate(history):
        if event == "told":
            told = set(what) - configured
            trouble = {name: at for name, at in trouble.items() if name in configured | told}
            pool.told(tuple(server(name) for name in sorted(what)))
        elif event == "served":
            trouble.pop(what, None)
            pool.served(server(what))
        else:
            if what in configured | told:
                trouble[what] = now
            pool.troubled(server(what), now)
    order = [str(one)[0] for one in pool.order(jitter, without=None if without is None else server(without))]
    assert sorted((configured | told) - {without}) == sorted(order)
    good = [name for name in order if name not in trouble]
    assert good == order[: len(good)]
    assert sorted(order[len(good) :], key=trouble.__getitem__) == order[len(good) :]


@given(st.integers(1, 6), st.floats(0, 1, exclude_max=True))
def test_chance_is_spread_evenly_over_servers_without_trouble(count, jitter):
    """Each of them is the first for an equal share of all jitters."""
    pool = ServerPool(tuple(server(name) for name in NAMES[:count]))
    assert f"{NAMES[int(jitter * count)]}:1" == str(pool.order(jitter)[0])
