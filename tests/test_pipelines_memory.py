"""Paged attention against torch's own in float64, bit for bit where bits are promised, and the CPU kernels beside it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from numba import njit
from torch.nn.functional import rms_norm, scaled_dot_product_attention, silu

from pipelines.engine import kernels, lanes
from pipelines.engine.memory import SHARED_PAGES, SHARED_ROWS, DeviceMemory, HostMemory, Places, Shape, _pieces
from pipelines.engine.pages import PAGE, Pool, Segment
from pipelines.engine.quick import quick_draw
from pipelines.engine.sampler import Settings, draw, uniforms

CPU = torch.device("cpu")
LAYERS, SHARED = 2, 2  # layers, and key/value heads


def places_of(views: Sequence[tuple[Sequence[int], Sequence[int]]], rows: Sequence[int], positions: Sequence[int]) -> Places:
    """Token i at positions[i] of rows[i], of whose sequences the pages and their beginnings are given."""
    width = max(len(pages) for pages, _ in views) + 2
    tables, begins = np.full((len(views), width), 3, dtype=np.int32), np.zeros((len(views), width), dtype=np.int32)
    for row, (pages, starts) in enumerate(views):
        tables[row, : len(pages)], begins[row, : len(pages)] = pages, starts  # what follows may be any page
    blocks = [
        int(np.searchsorted(views[row][1], position, side="right")) - 1 for row, position in zip(rows, positions, strict=True)
    ]
    return Places(np.array(positions), np.array(rows), np.array(blocks), tables, begins)


class World:
    """A pool and its memories, fed with random keys and values; knows each sequence's by itself, without pages."""

    def __init__(self, group: int, size: int, capacity: int = 200, seed: int = 0) -> None:
        self.group, self.size, self.scale = group, size, size**-0.5
        self.generator = torch.Generator().manual_seed(seed)
        shape = Shape(LAYERS, SHARED, size)
        self.host = HostMemory(shape, capacity)
        self.device = DeviceMemory(shape, capacity, torch.float32, CPU)
        garbage = np.random.default_rng(seed)
        for array in (self.host.keys, self.host.values):
            array[:] = garbage.normal(0, 50, array.shape)  # what earlier sequences left
        for tensor in (self.device.keys, self.device.values):
            tensor.fill_(torch.nan)  # what nobody wrote
        self.pool = Pool(capacity)
        self.known: dict[Segment, torch.Tensor] = {}  # [layers, keys and values, positions, heads, size] of the whole sequence
        self.pieces: list[tuple[int, int, int, int]] = []  # (tokens, rows, first page, last + 1) of the latest pass

    def root(self, count: int) -> Segment:
        segment = self.pool.alloc()
        self.known[segment] = torch.zeros(LAYERS, 2, 0, SHARED, self.size)
        self.step([(segment, count)])
        return segment

    def child(self, parent: Segment, at: int | None = None) -> Segment:
        segment = self.pool.fork(parent, at)
        self.known[segment] = self.known[parent][:, :, : segment.begin]
        return segment

    def step(self, rows: Sequence[tuple[Segment, int]]) -> None:
        """One pass: so many new tokens of each segment; both memories are held to the oracle in every layer."""
        positions: list[int] = []
        for segment, count in rows:
            positions += range(segment.end, segment.end + count)
            self.pool.append(segment, count)
            fresh = torch.randn(LAYERS, 2, count, SHARED, self.size, generator=self.generator)
            self.known[segment] = torch.cat((self.known[segment], fresh), dim=2)
        owners = [row for row, (_, count) in enumerate(rows) for _ in range(count)]
        places = places_of([self.pool.view(segment) for segment, _ in rows], owners, positions)
        self.pieces = [(len(tokens), len(row), begin, end) for tokens, row, begin, end in _pieces(places)]
        queries = torch.randn(LAYERS, len(positions), SHARED * self.group, self.size, generator=self.generator)
        plans = [(memory, memory.plan(places)) for memory in (self.host, self.device)]
        new = torch.cat([self.known[segment][:, :, segment.end - count :] for segment, count in rows], dim=2)
        for layer in range(LAYERS):
            wanted = torch.cat(list(self.expected(layer, rows, queries[layer])))
            for memory, plan in plans:
                got = memory.attend(layer, queries[layer], new[layer, 0], new[layer, 1], plan, self.scale)
                assert (got.double() - wanted).abs().max() < 1e-5, type(memory).__name__

    def expected(self, layer: int, rows: Sequence[tuple[Segment, int]], queries: torch.Tensor) -> Iterable[torch.Tensor]:
        """torch's attention of each row's new tokens, in float64 over the gathered sequence: [tokens, heads, size]."""
        begin = 0
        for segment, count in rows:
            query = queries[begin : begin + count].double().transpose(0, 1)
            key, value = (self.known[segment][layer, i].double().transpose(0, 1) for i in range(2))
            mask = torch.ones(count, segment.end, dtype=torch.bool).tril(segment.end - count)
            yield scaled_dot_product_attention(
                query[None], key[None], value[None], attn_mask=mask, scale=self.scale, enable_gqa=True
            )[0].transpose(0, 1)
            begin += count


@pytest.mark.parametrize("size", [16, 32, 64, 80])
@pytest.mark.parametrize("group", [1, 2, 3, 7])
def test_a_tree_of_rows_attends_as_torch_does(group: int, size: int) -> None:
    """A prompt of 165 positions, two steps of 150 upon it, five rows upon each of them, and two that begin elsewhere."""
    world = World(group, size)
    root = world.root(165)
    steps = [world.child(root) for _ in range(2)]
    world.step([(step, 150) for step in steps])
    rows = [world.child(step) for step in steps for _ in range(5)] + [world.child(root, 32), world.root(5)]
    for _ in range(3):
        world.step([(row, 1) for row in rows])
    # the prompt once for ten rows, each step once for its five, and the rest
    assert world.pieces[:3] == [(10, 1, 0, 21), (5, 1, 21, 40), (5, 1, 21, 40)]
    assert {piece[:3] for piece in world.pieces[3:]} == {(10, 10, 40), (2, 2, 0)}
    # tokens of a prompt and of a row that takes several go together with all of these
    world.step([(world.child(root), 40), *((row, 1) for row in rows[1:]), (rows[0], 3)])
    assert world.pieces[0][:2] == (40, 1)
    assert world.pieces[1][:2] == (3, 1)
    assert world.pieces[2] == (9, 1, 0, 21)


@pytest.mark.parametrize("seed", range(12))
def test_random_trees_attend_as_torch_does(seed: int) -> None:
    """Segments fork at ends and at pages' edges, grow by one token or by many, and go, with their pages used again."""
    random = np.random.default_rng(seed)
    world = World(int(random.choice([1, 2, 3])), int(random.choice([16, 32])), capacity=90, seed=seed)
    live = [world.root(int(random.integers(1, 150)))]
    for _ in range(25):
        if random.random() < 0.7:
            parent = live[random.integers(len(live))]
            edges = range(parent.begin, parent.end, PAGE)
            at = int(random.choice(edges)) if edges and random.random() < 0.4 else None
            live += [world.child(parent, at) for _ in range(random.integers(1, 6))]
        while len(live) > 8:
            gone = live.pop(int(random.integers(len(live))))
            world.pool.free(gone)
            del world.known[gone]
        leaves = [segment for segment in live if segment.refs == 1]
        chosen = [leaves[i] for i in random.permutation(len(leaves))[: random.integers(1, 9)]]
        counts = [1 if random.random() < 0.8 else int(random.integers(2, 30)) for _ in chosen]
        if sum(world.pool.need(segment, count) for segment, count in zip(chosen, counts, strict=True)) <= world.pool.free_pages:
            world.step(list(zip(chosen, counts, strict=True)))


def test_each_token_gets_its_whole_sequence_once() -> None:
    """The pieces of a pass, whatever the tree, cover pages 0 to the token's own, and none of them twice."""
    random = np.random.default_rng(0)
    shared = set()
    for _ in range(200):
        rows = int(random.integers(1, 16))
        levels = np.cumsum(random.integers(1, 30, size=3))  # pages up to which rows of one kind share them
        kind, tables = np.zeros(rows, dtype=np.int64), np.zeros((rows, 120), dtype=np.int64)
        for level, (begin, end) in enumerate(zip([0, *levels[:-1]], levels, strict=True)):
            kind = 2 * kind + random.integers(0, 2, size=rows)
            tables[:, begin:end] = ((16 * level + kind) * 120)[:, None] + np.arange(begin, end)
        starts = [PAGE * i for i in range(levels[-1])]
        counts = random.choice([1, 1, 1, 1, 1, 1, 5], size=rows)
        last = levels[-1] * PAGE - 5
        positions = [int(last * random.random() ** 0.2) + i for count in counts for i in range(count)]
        owners = np.repeat(np.arange(rows), counts)
        places = places_of([(table[: levels[-1]].tolist(), starts) for table in tables], owners.tolist(), positions)
        seen: dict[int, list[int]] = {token: [] for token in range(len(positions))}
        for tokens, row, begin, end in _pieces(places):
            assert len(row) in (1, len(tokens))
            for i, token in enumerate(tokens):
                own = tables[row[i % len(row)], begin:end].tolist()
                last = positions[token] // PAGE
                assert own[: last + 1 - begin] == tables[owners[token], begin : min(end, last + 1)].tolist()
                seen[int(token)] += [page for page in range(begin, end) if page <= last]
            if len(row) == 1 < len(tokens) and len(set(owners[tokens])) > 1:
                assert len(tokens) >= SHARED_ROWS
                assert end - begin >= SHARED_PAGES
                shared.add(begin > 0)
        assert all(sorted(covered) == list(range(positions[token] // PAGE + 1)) for token, covered in seen.items())
    assert shared == {True, False}  # at the tree's root and further up


@pytest.mark.parametrize(("dtype", "near"), [(torch.float32, 1e-5), (torch.bfloat16, 0.03), (torch.float16, 4e-3)])
def test_memory_of_any_dtype_is_near_torchs_attention(dtype: torch.dtype, near: float) -> None:
    torch.manual_seed(0)
    memory = DeviceMemory(Shape(1, 2, 24), 40, dtype, CPU)
    count = 300
    query, key, value = torch.randn(count, 6, 24), torch.randn(count, 2, 24), torch.randn(count, 2, 24)
    places = places_of([(range(39, -1, -1), range(0, 320, PAGE))], [0] * count, range(count))
    got = memory.attend(0, query.to(dtype), key.to(dtype), value.to(dtype), memory.plan(places), 0.2)
    assert got.dtype == dtype
    whole = (x.double().transpose(0, 1)[None] for x in (query, key, value))
    wanted = scaled_dot_product_attention(*whole, is_causal=True, scale=0.2, enable_gqa=True)[0].transpose(0, 1)
    assert (got.double() - wanted).abs().max() < near


# ------------------------------------------------------------------------------------------------------------ bit for bit

LENGTHS = (70, 33, 16, 1, 90, 47, 64, 5, 18, 2)  # of sequences; those of more than 32 have the first 32 positions in common
COMMON = 32
Pass = Sequence[tuple[int, int, int]]  # what it computes of which sequences: (sequence, begin, end)


class Bits:
    """Fixed queries, keys and values of some sequences, and what each token gets from a memory, pass by pass."""

    def __init__(self, group: int, size: int) -> None:
        torch.manual_seed(1)
        shape = (len(LENGTHS), max(LENGTHS), SHARED, size)
        self.keys, self.values = torch.randn(shape), torch.randn(shape)
        self.keys[:, :COMMON], self.values[:, :COMMON] = self.keys[:1, :COMMON], self.values[:1, :COMMON]
        self.queries = torch.randn(len(LENGTHS), max(LENGTHS), SHARED * group, size)
        self.shape = Shape(1, SHARED, size)

    def views(self, random: np.random.Generator | None) -> list[tuple[list[int], list[int]]]:
        """Pages of each sequence in order; or any pages, with sequences that are cut into segments at random."""
        free = list(range(400) if random is None else random.permutation(400))

        def cut(begin: int, end: int) -> list[int]:
            cuts = [] if random is None else random.integers(begin, end, size=random.integers(0, 6)).tolist()
            edges = sorted({begin, end, *cuts})
            return [start for a, b in pairwise(edges) for start in range(a, b, PAGE)]

        begun = cut(0, COMMON)
        common = [free.pop() for _ in begun]
        views = []
        for length in LENGTHS:
            starts = [*begun, *cut(COMMON, length)] if length > COMMON else cut(0, length)
            pages = common if length > COMMON else []
            views.append(([*pages, *(free.pop() for _ in starts[len(pages) :])], starts))
        return views

    def run(self, passes: Sequence[Pass], seed: int | None = None) -> dict[tuple[int, int], bytes]:
        """(sequence, position) -> its result. With a seed, pages lie anywhere and held something before."""
        random = None if seed is None else np.random.default_rng(seed)
        memory, views = HostMemory(self.shape, 400), self.views(random)
        if random is not None:
            memory.keys[:], memory.values[:] = (random.normal(0, 9, x.shape) for x in (memory.keys, memory.values))
        found = {}
        for parts in passes:
            owners = [row for row, begin, end in parts for _ in range(begin, end)]
            positions = [at for _, begin, end in parts for at in range(begin, end)]
            inputs = (x[owners, positions] for x in (self.queries, self.keys, self.values))
            out = memory.attend(0, *inputs, memory.plan(places_of(views, owners, positions)), 0.2).numpy()
            found |= {key: out[i].tobytes() for i, key in enumerate(zip(owners, positions, strict=True))}
        return found


@pytest.mark.parametrize(("group", "size"), [(1, 32), (2, 32), (3, 16), (7, 64), (4, 80)])
def test_a_tokens_bits_depend_on_its_sequence_alone(group: int, size: int) -> None:
    """Not on company, order, chunks, on how the sequence is cut into segments, nor on what its pages held before."""
    bits, random = Bits(group, size), np.random.default_rng(5)
    alone: dict[tuple[int, int], bytes] = {}
    for row, length in enumerate(LENGTHS):
        alone |= bits.run([[(row, 0, length)]])
    together = [(row, 0, length) for row, length in enumerate(LENGTHS)]
    assert bits.run([together]) == alone
    assert bits.run([together[::-1]]) == alone
    assert bits.run([together], seed=3) == alone
    one_by_one = [[(row, at, at + 1) for row in random.permutation(len(LENGTHS)) if at < LENGTHS[row]] for at in range(90)]
    assert bits.run(one_by_one) == alone
    for seed in range(6):
        passes, at = [], [0] * len(LENGTHS)
        while any(begin < length for begin, length in zip(at, LENGTHS, strict=True)):
            parts = []
            for row in random.permutation(len(LENGTHS)).tolist():
                end = min(LENGTHS[row], at[row] + int(random.integers(0, 25)))
                if end > at[row]:
                    parts.append((row, at[row], end))
                    at[row] = end
            if parts:
                passes.append(parts)
        assert bits.run(passes, seed=seed) == alone


# ---------------------------------------------------------------------------------------------------------------- kernels


def normal(*shape: int, scale: float = 1.0) -> np.ndarray:
    return np.random.default_rng(len(shape)).normal(0, scale, shape).astype(np.float32)


@njit
def exponentials(x: Any, out: Any) -> None:
    for i in range(0, x.shape[0], lanes.WIDTH):
        lanes.store(out, i, lanes.exp(lanes.load(x, i)))


def test_exp_is_within_two_units_in_the_last_place() -> None:
    x = np.concatenate((np.linspace(-87, 88, 1 << 18), [0.0, -0.0, 1e-30, -1e-30, *np.log([0.5, 2.0, 3.0]), -87, 88] + [0] * 7))
    x = x.astype(np.float32)[: len(x) // 16 * 16]
    out = np.empty_like(x)
    exponentials(x, out)
    wanted = np.exp(x.astype(np.float64))
    ulps = np.abs(out - wanted) / np.spacing(wanted.astype(np.float32))
    assert ulps.max() < 2
    assert out[x == 0].tolist() == [1.0] * int((x == 0).sum())


def test_exp_of_very_little_is_as_good_as_nothing() -> None:
    x = np.array([-87, -88, -104, -1e3, -1e30, -np.inf] * 8, dtype=np.float32)
    out = np.empty_like(x)
    exponentials(x, out)
    assert ((out >= 0) & (out < 2e-38)).all()


@pytest.mark.parametrize(("rows", "width", "eps"), [(1, 16, 1e-6), (7, 128, 1e-6), (3, 896, 1e-5)])
def test_norm_is_that_of_torch(rows: int, width: int, eps: float) -> None:
    x = normal(rows, width, scale=3)
    out = np.empty_like(x)
    kernels.norm(x, out, eps)
    wanted = rms_norm(torch.from_numpy(x).double(), (width,), eps=eps)
    assert np.abs(out - wanted.numpy()).max() < 2e-6
    tiny = np.full((1, width), 1e-5, dtype=np.float32)
    kernels.norm(tiny, out[:1], eps)
    assert out[0] == pytest.approx(np.full(width, 1e-5 / np.sqrt(1e-10 + eps)), rel=1e-5)


@pytest.mark.parametrize("scale", [1, 10, 20])
def test_swiglu_is_that_of_torch(scale: float) -> None:
    gated = normal(50, 2 * 96, scale=scale)
    out = np.empty((50, 96), dtype=np.float32)
    kernels.swiglu(gated, out)
    gate, up = torch.from_numpy(gated).double().chunk(2, dim=1)
    wanted = (silu(gate) * up).numpy()
    assert np.abs(out - wanted).max() < 1e-6 * np.abs(wanted).max()


def test_swiglu_of_a_gate_far_below_zero_is_nothing() -> None:
    """exp(-gate) is beyond float32 there, and must not come round to the other end of it."""
    gated = np.ones((1, 32), dtype=np.float32)
    gated[0, :16] = [-80, -87, -88, -88.5, -89, -90, -95, -100, -130, -175, -178, -200, -400, -1e3, -1e4, -1e6]
    out = np.empty((1, 16), dtype=np.float32)
    kernels.swiglu(gated, out)
    assert np.abs(out).max() < 1e-30


@pytest.mark.parametrize("normed", [False, True])
@pytest.mark.parametrize(("heads", "shared", "size"), [(4, 2, 32), (3, 3, 64), (7, 1, 96)])
def test_turn_is_head_norm_and_rotary_embedding_as_transformers_has_them(
    heads: int, shared: int, size: int, normed: bool
) -> None:
    positions = np.array([0, 1, 17, 63, 5, 5])
    qkv = normal(len(positions), (heads + 2 * shared) * size)
    angles = np.arange(64)[:, None] * 100.0 ** -(np.arange(size // 2) / (size // 2))
    gains = 1 + normal(2, size, scale=0.3) if normed else np.zeros((0, size), dtype=np.float32)
    whole = torch.from_numpy(qkv).double().view(len(positions), heads + 2 * shared, size)
    q, k, v = whole.split((heads, shared, shared), dim=1)
    if normed:
        q, k = (rms_norm(x, (size,), torch.from_numpy(g).double(), 1e-6) for x, g in zip((q, k), gains, strict=True))
    cosine, sine = (torch.from_numpy(np.tile(f(angles), 2))[positions][:, None] for f in (np.cos, np.sin))
    q, k = (x * cosine + torch.cat((-x[..., size // 2 :], x[..., : size // 2]), dim=-1) * sine for x in (q, k))
    cosines, sines = np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)
    kernels.turn(qkv, heads, shared, size, positions, cosines, sines, gains, 1e-6)
    assert np.abs(qkv - torch.cat((q, k, v), dim=1).flatten(1).numpy()).max() < 3e-6


def test_write_puts_each_head_in_its_place_and_touches_nothing_else() -> None:
    memory = HostMemory(Shape(1, 2, 16), 5)
    kv = normal(3, 7 + 2 * 2 * 16)
    where = [(0, 2), (1, 0), (3, PAGE - 1)]  # pages and places
    pages, places = (np.array(column) for column in zip(*where, strict=True))
    kernels.write(kv, 7, memory.keys[0], memory.values[0], pages, places)
    for token, (page, place) in enumerate(where):
        assert memory.keys[0, page, :, :, place].ravel().tolist() == kv[token, 7 : 7 + 32].tolist()
        assert memory.values[0, page, :, place].ravel().tolist() == kv[token, 7 + 32 :].tolist()
    assert np.count_nonzero(memory.keys) == np.count_nonzero(memory.values) == 3 * 32


# ------------------------------------------------------------------------------------------------------- draws in one kernel


@pytest.mark.parametrize("size", [1, 2, 15, 16, 17, 127, 128, 129, 561, 1000, 4097])
@pytest.mark.parametrize("scale", [0.0, 3.0, 40.0])
def test_the_quick_draw_is_that_of_the_sampler(size: int, scale: float) -> None:
    """The same noise, so the same tokens but where it falls between two by a rounding; the same statistics."""
    rows = 300
    logits = torch.from_numpy(normal(rows, size, scale=scale))
    temperatures = np.tile(np.array([1.0, 0.5, 2.0, 0.0, 1.0, 0.01], dtype=np.float32), 50)
    seeds, counts = torch.arange(rows), torch.arange(rows) % 7
    off = torch.zeros(rows)
    settings = Settings(torch.from_numpy(temperatures), off.long(), off + 1, off)
    wanted = draw(logits, settings, seeds, counts)
    got = quick_draw(logits, temperatures, uniforms(seeds, counts).numpy())
    same = got.tokens == wanted.tokens
    assert same.float().mean() >= 0.99
    assert same[temperatures == 0].all()
    for name in ("logprobs", "certainties", "entropies", "drawn"):
        ours, theirs = getattr(got, name), getattr(wanted, name)
        assert (ours - theirs)[same].abs().max() < 1e-4 * (1 + scale)
        assert (ours <= 0).all() if name in ("logprobs", "drawn") else (ours >= 0).all()
    assert (got.drawn[temperatures == 0] == 0).all()


def test_the_quick_draw_reads_logits_that_lie_in_wider_rows_and_a_rows_bits_are_its_own() -> None:
    wide = torch.from_numpy(normal(40, 600, scale=4))
    wide[:, 561:] = 1e9  # beyond the vocabulary
    temperatures, noise = np.full(40, 1.5, dtype=np.float32), np.random.default_rng(0).random(40)
    columns = [quick_draw(x, temperatures, noise) for x in (wide[:, :561], wide[:, :561].clone())]
    columns.append(quick_draw(torch.stack([wide[:, :561], wide[:, :561]])[1], temperatures, noise))
    parts = [quick_draw(wide[i : i + 1, :561], temperatures[i : i + 1], noise[i : i + 1]) for i in range(40)]
    for name in ("tokens", "logprobs", "certainties", "entropies", "drawn"):
        wanted = torch.cat([getattr(part, name) for part in parts])
        assert all(torch.equal(getattr(column, name), wanted) for column in columns)


def test_the_quick_draw_draws_with_the_models_probabilities() -> None:
    from scipy import stats

    p = np.array([0.5, 0.3, 0.15, 0.05])
    logits = torch.from_numpy(np.log(p)).float().expand(20_000, -1)
    noise = uniforms(torch.full((20_000,), 99), torch.arange(20_000)).numpy()
    for temperature in (1.0, 0.5):
        tokens = quick_draw(logits, np.full(20_000, temperature, dtype=np.float32), noise).tokens
        expected = p ** (1 / temperature) / (p ** (1 / temperature)).sum()
        assert stats.chisquare(np.bincount(tokens, minlength=4), expected * 20_000).pvalue > 1e-3


def test_the_quick_draw_never_takes_what_has_no_probability() -> None:
    logits = torch.full((3, 300), -torch.inf)
    logits[0, 7] = logits[1, 200] = logits[2, 299] = 0
    for noise in (1e-17, 0.5, 1 - 1e-16):
        assert quick_draw(logits, np.ones(3, dtype=np.float32), np.full(3, noise)).tokens.tolist() == [7, 200, 299]


def test_the_quick_draw_never_takes_it_for_the_sake_of_a_rounding_either() -> None:
    """A span's float32 sum may be above that of its weights one by one: what lies between belongs to its last likely token."""
    logits = torch.from_numpy(normal(500, 300))
    logits[:, 200:] = -torch.inf
    drawn = quick_draw(logits, np.ones(500, dtype=np.float32), np.full(500, 1 - 2.0**-53))
    assert torch.isfinite(drawn.logprobs).all()
    assert (drawn.tokens < 200).all()


def test_the_quick_draw_of_a_row_that_is_no_number_is_a_token_and_harms_no_other() -> None:
    logits = torch.from_numpy(normal(5, 300))
    logits[1], logits[2, 9], logits[3] = torch.nan, torch.inf, -torch.inf
    for temperature in (1.0, 0.5, 0.0):
        drawn = quick_draw(logits, np.full(5, temperature, dtype=np.float32), np.full(5, 0.7))
        assert ((drawn.tokens >= 0) & (drawn.tokens < 300)).all()
        for i in (0, 4):
            alone = quick_draw(logits[i : i + 1], np.full(1, temperature, dtype=np.float32), np.full(1, 0.7))
            assert drawn.tokens[i] == alone.tokens[0]
            assert drawn.logprobs[i] == alone.logprobs[0]
