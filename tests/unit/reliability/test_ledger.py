"""The account of the failure matrix: what it calls lost, and when it calls a client back."""

from __future__ import annotations

from rig.ledger import Ledger


def entered(*lines: tuple[str, int, float]) -> Ledger:
    ledger = Ledger()
    for kind, number, at in lines:
        ledger.take({"kind": kind, "number": number, "at": at})
    return ledger


def test_what_was_stored_and_never_done_is_lost():
    """A message is lost when it was acknowledged to its producer and its consumer never got it."""
    ledger = entered(("stored", 1, 1.0), ("stored", 2, 2.0), ("done", 1, 3.0))
    assert {2} == ledger.lost()


def test_what_the_fault_destroyed_is_not_lost():
    """No client can save what lay in a store that was removed, or was on its way there; what comes after is its own."""
    ledger = entered(("stored", 1, 1.0))
    ledger.destroy()
    ledger.take({"kind": "stored", "number": 1 + 64, "at": 2.0})
    ledger.take({"kind": "stored", "number": 2 + 64, "at": 3.0})
    assert ({2 + 64}, {1, 1 + 64}) == (ledger.lost(), ledger.destroyed())


def test_a_second_delivery_counts_as_again_and_not_as_news():
    """The first delivery is when it was done."""
    ledger = entered(("stored", 1, 1.0), ("done", 1, 2.0), ("done", 1, 9.0))
    assert (1, 2.0) == (ledger.again, ledger.done[1])


def test_a_message_proves_recovery_only_where_all_its_way_lies_after():
    """Stored before and delivered after shows half of it; the later of the two moments counts."""
    ledger = entered(("stored", 1, 9.0), ("done", 1, 11.0), ("done", 2, 12.0), ("stored", 2, 12.5), ("core", 7, 10.5))
    assert {"tasks": 2.5, "core": 0.5} == ledger.back(10.0)


def test_a_sign_of_what_was_under_way_does_not_count():
    """Until the fault is felt a client lives on what lies in the sockets."""
    ledger = entered(("core", 1, 10.05), ("core", 2, 11.0))
    assert {"core": 1.0} == ledger.back(10.0, felt=10.1)
