"""The thread of the consumer, asked from another one at any time."""

from emis_streams.engine.consumer_thread import SliceConsumerThread


def test_nothing_is_assigned_before_the_thread_has_begun() -> None:
    """Probes and a service's registration ask from the start: an error there ended services (exit code 70)."""
    thread = SliceConsumerThread.__new__(SliceConsumerThread)  # Made whole, it starts a loop of its own.
    assert thread.assignment() == set()
