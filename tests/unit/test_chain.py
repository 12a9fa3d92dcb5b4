"""The chain of a partition: "done" never moves over what is not done, and nothing is dropped unseen."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emis_streams.engine.chain import Broken, Chain, Link

lengths = st.lists(st.integers(1, 50), min_size=1, max_size=12)


def links_of(chain: Chain, sizes: list[int]) -> list[Link]:
    return [chain.enter(chain.tail, chain.tail + size) for size in sizes]


@given(st.integers(0, 10**12), lengths, st.randoms(use_true_random=False))
def test_done_is_the_end_of_the_done_links_without_a_gap_in_any_order_of_finishing(
    start: int, sizes: list[int], dice: random.Random
) -> None:
    chain = Chain(start)
    links = links_of(chain, sizes)
    in_any_order = list(links)
    dice.shuffle(in_any_order)
    for link in in_any_order:
        chain.finish(link)
        undone = [other for other in links if not other.done]
        assert chain.done_offset == (undone[0].base if undone else chain.tail)
        assert len(chain) == (len(links) - links.index(undone[0]) if undone else 0)


@given(lengths, st.data())
def test_links_that_enter_between_finishes_wait_for_those_before_them(sizes: list[int], data: st.DataObject) -> None:
    chain = Chain(100)
    open_links: list[Link] = []
    for size in sizes:
        open_links.append(chain.enter(chain.tail, chain.tail + size))
        if data.draw(st.booleans()):
            chain.finish(open_links.pop(data.draw(st.integers(0, len(open_links) - 1))))
        expected = min((link.base for link in open_links), default=chain.tail)
        assert chain.done_offset == expected


def test_a_new_chain_is_done_up_to_its_start() -> None:
    chain = Chain(42)
    assert (chain.done_offset, chain.tail, len(chain)) == (42, 42, 0)


@pytest.mark.parametrize("base", [9, 11, 0, 1000])
def test_a_link_that_does_not_begin_where_the_last_one_ended_breaks_the_chain_and_changes_nothing(base: int) -> None:
    chain = Chain(0)
    first = chain.enter(0, 10)
    with pytest.raises(Broken) as broken:
        chain.enter(base, base + 5)
    assert (broken.value.expected, broken.value.got) == (10, base)
    assert (chain.tail, len(chain)) == (10, 1)
    chain.finish(first)
    assert chain.done_offset == 10


def test_after_a_break_the_chain_goes_on_at_the_expected_position() -> None:
    chain = Chain(0)
    with pytest.raises(Broken) as broken:
        chain.enter(7, 9)
    chain.finish(chain.enter(broken.value.expected, 9))
    assert chain.done_offset == 9


def test_finishing_twice_is_finishing_once() -> None:
    chain = Chain(0)
    first, second = links_of(chain, [3, 4])
    chain.finish(first)
    chain.finish(first)
    assert (chain.done_offset, len(chain)) == (3, 1)
    chain.finish(second)
    assert chain.done_offset == 7


def test_a_link_without_records_moves_the_done_offset_too() -> None:
    """Compaction and control records leave positions without records."""
    chain = Chain(5)
    chain.finish(chain.enter(5, 6))
    assert chain.done_offset == 6
