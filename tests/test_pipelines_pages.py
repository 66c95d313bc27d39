"""The pool of pages against a plain model: lists of numbers, and an array of cells; and what stays in it beyond the rows."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from pipelines.engine.kept import Kept
from pipelines.engine.pages import PAGE, NoRoom, Pool, Segment, pages_of

NEVER = -1  # what a cell holds that nobody has written


class Trees(RuleBasedStateMachine):
    """Segments fork, grow, shrink and go in any order; each reads back its own sequence, and shares no page that it writes."""

    @initialize(capacity=st.integers(1, 14))
    def start(self, capacity: int) -> None:
        self.cells = [[NEVER] * PAGE for _ in range(capacity)]
        self.pool = Pool(capacity)
        self.sequences: dict[Segment, list[int]] = {}  # of the segments with a reference of their own
        self.written = 0

    def some(self, data: st.DataObject, found: list[Segment]) -> Segment:
        return found[data.draw(st.integers(0, len(found) - 1))]

    def forked(self, segment: Segment, sequence: list[int], free: int) -> None:
        """A new segment is empty, and took nothing."""
        assert segment.begin == segment.end == len(sequence)
        assert segment.pages == []
        assert self.pool.free_pages == free
        self.sequences[segment] = sequence

    @staticmethod
    def edges(segment: Segment) -> list[int]:
        return list(range(segment.begin, segment.end, PAGE))

    @rule()
    def alloc(self) -> None:
        free = self.pool.free_pages
        self.forked(self.pool.alloc(), [], free)

    @precondition(lambda self: self.sequences)
    @rule(data=st.data())
    def fork_at_the_end(self, data: st.DataObject) -> None:
        parent, free = self.some(data, list(self.sequences)), self.pool.free_pages
        self.forked(self.pool.fork(parent), list(self.sequences[parent]), free)

    @precondition(lambda self: any(self.edges(s) for s in self.sequences))
    @rule(data=st.data())
    def fork_at_a_pages_edge(self, data: st.DataObject) -> None:
        parent, free = self.some(data, [s for s in self.sequences if self.edges(s)]), self.pool.free_pages
        at = data.draw(st.sampled_from(self.edges(parent)))
        self.forked(self.pool.fork(parent, at), self.sequences[parent][:at], free)

    @precondition(lambda self: self.sequences)
    @rule(data=st.data(), count=st.integers(0, 3 * PAGE))
    def append(self, data: st.DataObject, count: int) -> None:
        """Writes numbers that nobody wrote before, through the segment's view."""
        segment = self.some(data, list(self.sequences))
        free, before, need = self.pool.free_pages, (segment.end, list(segment.pages)), self.pool.need(segment, count)
        try:
            fresh = self.pool.append(segment, count)
        except NoRoom:
            assert need > free == self.pool.free_pages
            assert before == (segment.end, segment.pages)
            return
        assert len(fresh) == need == free - self.pool.free_pages
        assert segment.pages == before[1] + fresh
        sequence = self.sequences[segment]
        assert segment.end == len(sequence) + count
        for position in range(len(sequence), segment.end):
            self.written += 1
            page, offset = self.place(segment, position)
            assert page in segment.pages
            self.cells[page][offset] = self.written
            sequence.append(self.written)

    @precondition(lambda self: any(s.refs == 1 for s in self.sequences))
    @rule(data=st.data(), share=st.floats(0, 1))
    def shorten(self, data: st.DataObject, share: float) -> None:
        segment = self.some(data, [s for s in self.sequences if s.refs == 1])
        end = segment.begin + round(share * (segment.end - segment.begin))
        self.pool.shorten(segment, end)
        del self.sequences[segment][end:]

    @precondition(lambda self: self.sequences)
    @rule(data=st.data())
    def free(self, data: st.DataObject) -> None:
        """Children may outlive the reference that their parent had of its own."""
        segment = self.some(data, list(self.sequences))
        self.pool.free(segment)
        del self.sequences[segment]

    def place(self, segment: Segment, position: int) -> tuple[int, int]:
        """Where the view says that a position is."""
        pages, starts = self.pool.view(segment)
        index = max(i for i, start in enumerate(starts) if start <= position)
        return pages[index], position - starts[index]

    def needed(self) -> list[Segment]:
        """All segments that somebody needs, ancestors too."""
        found: dict[Segment, None] = {}
        for segment in self.sequences:
            node: Segment | None = segment
            while node is not None:
                found[node] = None
                node = node.parent
        return list(found)

    @invariant()
    def every_segment_reads_back_its_sequence(self) -> None:
        for segment, sequence in self.sequences.items():
            pages, starts = self.pool.view(segment)
            assert segment.end == len(sequence)
            assert len(set(pages)) == len(pages) == len(starts)
            ends = [*starts, segment.end][1:]
            read = [x for page, begin, end in zip(pages, starts, ends, strict=True) for x in self.cells[page][: end - begin]]
            assert read == sequence

    @invariant()
    def no_page_has_two_owners_and_none_is_lost(self) -> None:
        owned = [page for segment in self.needed() for page in segment.pages]
        assert len(set(owned)) == len(owned) == self.pool.used_pages
        assert self.pool.free_pages + self.pool.used_pages == len(self.cells)
        assert all(0 <= page < len(self.cells) for page in owned)

    @invariant()
    def references_are_those_of_children_and_holders_and_pages_are_as_many_as_positions_take(self) -> None:
        needed = self.needed()
        for segment in needed:
            assert segment.refs == sum(other.parent is segment for other in needed) + (segment in self.sequences)
            assert len(segment.pages) == pages_of(segment.end - segment.begin)

    def teardown(self) -> None:
        for segment in list(self.sequences):
            self.pool.free(segment)
        assert self.pool.used_pages == 0


Trees.TestCase.settings = settings(
    max_examples=120, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True
)
TestTrees = Trees.TestCase


def test_a_child_writes_on_pages_of_its_own_and_reads_its_ancestors_without_a_copy() -> None:
    pool = Pool(8)
    parent = pool.alloc()
    pages = pool.append(parent, PAGE + 3)
    first, second = pool.fork(parent), pool.fork(parent)
    (one,), (two,) = pool.append(first, 1), pool.append(second, PAGE)
    assert pool.append(first, PAGE - 1) == []
    assert pool.view(first) == ([*pages, one], [0, PAGE, PAGE + 3])
    assert pool.view(second) == ([*pages, two], [0, PAGE, PAGE + 3])
    early = pool.fork(parent, PAGE)
    assert pool.view(early) == (pages[:1], [0])


def test_low_pages_are_taken_first() -> None:
    """So that memory which was never needed is never touched."""
    pool = Pool(4)
    kept, gone = pool.alloc(), pool.alloc()
    assert pool.append(kept, 1) + pool.append(gone, PAGE + 1) == [0, 1, 2]
    pool.free(gone)
    assert pool.append(kept, PAGE) == [1]


def test_no_room_changes_nothing() -> None:
    pool = Pool(2)
    parent = pool.alloc()
    pool.append(parent, PAGE + 1)
    child = pool.fork(parent)
    with pytest.raises(NoRoom):
        pool.append(child, 1)
    assert (child.begin, child.end, child.pages) == (PAGE + 1, PAGE + 1, [])
    assert pool.append(child, 0) == []
    pool.free(child)
    pool.free(parent)
    assert pool.free_pages == 2


def test_a_page_goes_back_only_with_its_last_reader() -> None:
    pool = Pool(8)
    parent = pool.alloc()
    pool.append(parent, 2 * PAGE)
    children = [pool.fork(parent), pool.fork(parent, PAGE)]
    pool.free(parent)
    assert pool.used_pages == 2
    pool.free(children[0])
    assert pool.used_pages == 2
    pool.free(children[1])
    assert pool.used_pages == 0


# ------------------------------------------------------------------------------------------------------------- what is kept


def kept_chain(capacity: int) -> tuple[Pool, Kept, list[Segment]]:
    """A prompt and two steps of search 0, each upon the one before, then a prompt of search 1; one page each."""
    pool = Pool(capacity)
    kept, chain = Kept(pool), [pool.alloc()]
    for _ in range(2):
        pool.append(chain[-1], 3)
        chain.append(pool.fork(chain[-1]))
    pool.append(chain[-1], 3)
    other = pool.alloc()
    pool.append(other, 3)
    for path, segment in zip(("", "0", "0.0"), chain, strict=True):
        kept.put(0, path, segment)
    kept.put(1, "", other)
    return pool, kept, [*chain, other]


def test_leaves_go_before_what_others_need_and_the_least_recently_used_first() -> None:
    pool, kept, chain = kept_chain(4)
    assert kept.get(0, "0.0") is chain[2]
    assert kept.evict(1)  # "" and "0" are older, and in use; the other search's is older than "0.0"
    assert [kept.get(*key) for key in ((1, ""), (0, "0"), (0, "0.0"), (0, ""))] == [None, chain[1], chain[2], chain[0]]
    assert kept.evict(2)
    assert [kept.get(0, path) for path in ("0.0", "0", "")] == [None, chain[1], chain[0]]
    assert kept.evict(3)
    assert [kept.get(0, path) for path in ("0", "")] == [None, chain[0]]
    assert pool.free_pages == 3


def test_what_rows_run_upon_is_not_evicted() -> None:
    pool, kept, chain = kept_chain(5)
    row = pool.fork(chain[2])
    pool.append(row, 1)
    assert not kept.evict(2)
    assert [kept.get(0, path) for path in ("", "0", "0.0")] == chain[:3]
    assert kept.get(1, "") is None
    pool.free(row)
    assert kept.evict(5)
    assert pool.used_pages == 0


def test_what_is_forgotten_dropped_or_put_again_goes_back() -> None:
    pool, kept, chain = kept_chain(8)
    kept.drop(0, ("0", "7.7"))
    assert kept.get(0, "0") is None
    assert pool.used_pages == 4  # "0.0" needs it
    assert kept.known(0, "0")
    kept.put(0, "0.0", chain[3])  # in the place of another
    assert pool.used_pages == 2
    chain[3].refs += 1
    kept.forget(0)
    assert not kept.known(0, "0")
    assert pool.used_pages == 1
    kept.forget(1)
    assert pool.used_pages == 0


def test_a_sequence_begins_upon_its_nearest_ancestor_or_upon_a_prompt_that_begins_alike() -> None:
    pool, kept, chain = kept_chain(20)
    nothing = np.zeros(0, dtype=np.int64)
    for path, at in (("0.0.1", 2), ("0.1", 1), ("0", 0), ("5.6.7", 0)):
        assert kept.begun(0, path, nothing).parent is chain[at]
    prompt = pool.alloc()
    pool.append(prompt, 3 * PAGE + 2)
    tokens = np.arange(3 * PAGE + 2)
    kept.publish(tokens, prompt)
    for length, shared in ((PAGE - 1, 0), (PAGE, 1), (2 * PAGE + 3, 2), (3 * PAGE + 2, 3)):
        begun = kept.begun(9, "", tokens[:length])
        assert begun.begin == shared * PAGE
        assert (begun.parent is prompt) == (shared > 0)
        pool.free(begun)
    assert kept.begun(9, "", np.append(tokens[:PAGE], tokens[:PAGE])).begin == PAGE
    longer = pool.fork(prompt, PAGE)
    pool.append(longer, 2 * PAGE)
    kept.publish(np.append(tokens[:PAGE], 100 + np.arange(2 * PAGE)), longer)
    assert kept.begun(9, "", tokens[:PAGE]).parent is prompt
    assert kept.begun(9, "", np.append(tokens[:PAGE], 100 + np.arange(PAGE))).parent is longer


def test_a_prompt_that_is_gone_is_not_shared() -> None:
    pool, kept, _ = kept_chain(20)
    prompt, tokens = pool.alloc(), np.arange(2 * PAGE)
    pool.append(prompt, 2 * PAGE)
    kept.publish(tokens, prompt)
    pool.free(prompt)
    assert kept.begun(9, "", tokens).parent is None
