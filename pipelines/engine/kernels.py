"""What the fused path and the paged memory do on a CPU beside matrix products, compiled by numba.

Every number depends on its own row alone: sums run in one fixed order, over blocks of 16 positions counted from the first
token, whoever shares the memory, however a prompt was cut into chunks, and whatever else is in the batch.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import float32, njit

from pipelines.engine.lanes import (
    WIDTH,
    add,
    div,
    exp,
    first,
    fma,
    gathered,
    larger,
    largest,
    load,
    mul,
    splat,
    store,
    sub,
    total,
)

PAGE = 8  # positions of a page, as in pages.py; stands here since numba's cache of compiled code looks at this file alone
TILE = 8  # queries that read a page while it is in the first cache
_NEVER = -1e30

kernel = njit(nogil=True, cache=True, error_model="numpy")  # dividing by 0 gives what numpy gives: a row of no numbers


@kernel
def norm(x: Any, out: Any, eps: Any) -> None:
    """out = x / rms(x) by row; x and out [rows, width], width a multiple of 16. Gains stand in the next matrix."""
    width = x.shape[1]
    a, b = x.reshape(-1), out.reshape(-1)
    for row in range(x.shape[0]):
        at = row * width
        squares = splat(float32(0))
        for i in range(0, width, WIDTH):
            value = load(a, at + i)
            squares = fma(value, value, squares)
        scale = splat(float32(1.0) / np.sqrt(total(squares) / float32(width) + float32(eps)))
        for i in range(0, width, WIDTH):
            store(b, at + i, mul(load(a, at + i), scale))


@kernel
def swiglu(gated: Any, out: Any) -> None:
    """out = silu(gate) * up; gated [rows, 2 * width] holds gate and up side by side, out [rows, width]."""
    width = out.shape[1]
    a, b = gated.reshape(-1), out.reshape(-1)
    one, zero = splat(float32(1)), splat(float32(0))
    for row in range(out.shape[0]):
        at = 2 * row * width
        for i in range(0, width, WIDTH):
            gate = load(a, at + i)
            store(b, row * width + i, mul(div(gate, add(one, exp(sub(zero, gate)))), load(a, at + width + i)))


@kernel
def _headed(x: Any, at: Any, size: Any, gain: Any, eps: Any) -> None:
    """One head's vector normalised in place, as Qwen3 does with queries and keys."""
    squares = splat(float32(0))
    for i in range(0, size, WIDTH):
        value = load(x, at + i)
        squares = fma(value, value, squares)
    scale = splat(float32(1.0) / np.sqrt(total(squares) / float32(size) + float32(eps)))
    for i in range(0, size, WIDTH):
        store(x, at + i, mul(mul(load(x, at + i), scale), load(gain, i)))


@kernel
def _turned(x: Any, at: Any, size: Any, cosine: Any, sine: Any, angle: Any) -> None:
    """Rotary position embedding of one head's vector in place: element i turns with element i + size / 2, a multiple of 16."""
    half = size // 2
    for i in range(0, half, WIDTH):
        a, b, c, s = load(x, at + i), load(x, at + half + i), load(cosine, angle + i), load(sine, angle + i)
        store(x, at + i, sub(mul(a, c), mul(b, s)))
        store(x, at + half + i, add(mul(b, c), mul(a, s)))


@kernel
def turn(qkv: Any, heads: Any, shared: Any, size: Any, positions: Any, cosine: Any, sine: Any, gains: Any, eps: Any) -> None:
    """Normalises (where gains [2, size] are given) and turns queries and keys in place.

    qkv [tokens, (heads + 2 * shared) * size] with size a multiple of 32; cosine and sine [context, size / 2]; positions
    [tokens]."""
    flat, width = qkv.reshape(-1), qkv.shape[1]
    cosines, sines, half = cosine.reshape(-1), sine.reshape(-1), size // 2
    for token in range(qkv.shape[0]):
        angle = positions[token] * half
        for head in range(heads + shared):
            at = token * width + head * size
            if gains.shape[0]:
                _headed(flat, at, size, gains[0 if head < heads else 1], eps)
            _turned(flat, at, size, cosines, sines, angle)


@kernel
def write(kv: Any, begin: Any, keys: Any, values: Any, pages: Any, places: Any) -> None:
    """Writes the new tokens' keys and values to their pages.

    kv [tokens, width] holds a token's keys from column `begin` on and its values after them; keys [pages, shared heads, size,
    PAGE], values [pages, shared heads, PAGE, size]; token i belongs at places[i] of pages[i]."""
    shared, size, width = keys.shape[1], keys.shape[2], kv.shape[1]
    new, flat_keys, flat_values = kv.reshape(-1), keys.reshape(-1), values.reshape(-1)
    for token in range(kv.shape[0]):
        for head in range(shared):
            at, base = token * width + begin + head * size, (pages[token] * shared + head) * size * PAGE
            for i in range(size):
                flat_keys[base + i * PAGE + places[token]] = new[at + i]
            for i in range(0, size, WIDTH):
                store(flat_values, base + places[token] * size + i, load(new, at + shared * size + i))


@njit(inline="always")
def _spread(q: Any, at: Any, size: Any, scale: Any, out: Any, to: Any) -> None:
    """A query as the keys of a page lie: each element PAGE times, scaled."""
    for i in range(size):
        value = q[at + i] * scale
        for j in range(PAGE):
            out[to + i * PAGE + j] = value


@njit(inline="always")
def _score(q: Any, at: Any, keys: Any, base: Any, length: Any, out: Any, to: Any) -> None:
    """A spread query times the keys of a page, whose scores stand in the first PAGE of the 16 lanes that are written."""
    a, b = splat(float32(0)), splat(float32(0))
    for i in range(0, length, 2 * WIDTH):
        a = fma(load(q, at + i), load(keys, base + i), a)
        b = fma(load(q, at + i + WIDTH), load(keys, base + i + WIDTH), b)
    store(out, to, gathered(add(a, b), PAGE))


@njit(inline="always")
def _score2(q: Any, at: Any, keys: Any, base: Any, length: Any, out: Any, to: Any, step: Any) -> None:
    """The same for two queries side by side, which share the keys; bit for bit what _score gives for each."""
    a, b, c, d = splat(float32(0)), splat(float32(0)), splat(float32(0)), splat(float32(0))
    for i in range(0, length, 2 * WIDTH):
        even, odd = load(keys, base + i), load(keys, base + i + WIDTH)
        a = fma(load(q, at + i), even, a)
        b = fma(load(q, at + i + WIDTH), odd, b)
        c = fma(load(q, at + length + i), even, c)
        d = fma(load(q, at + length + i + WIDTH), odd, d)
    store(out, to, gathered(add(a, b), PAGE))
    store(out, to + step, gathered(add(c, d), PAGE))


@njit(inline="always")
def _softmax(x: Any, at: Any, count: Any) -> None:
    """Scores to weights in place, over the first `count`."""
    last = (count - 1) // WIDTH * WIDTH
    peaks = first(load(x, at + last), count - last, float32(_NEVER))
    for i in range(0, last, WIDTH):
        peaks = larger(peaks, load(x, at + i))
    peak = splat(largest(peaks))
    weight = exp(sub(load(x, at + last), peak))
    store(x, at + last, weight)
    mass = first(weight, count - last, float32(0))
    for i in range(0, last, WIDTH):
        weight = exp(sub(load(x, at + i), peak))
        store(x, at + i, weight)
        mass = add(mass, weight)
    inverse = splat(float32(1) / total(mass))
    for i in range(0, count, WIDTH):
        store(x, at + i, mul(load(x, at + i), inverse))


@njit(inline="always")
def _sum(weights: Any, w: Any, count: Any, values: Any, base: Any, size: Any, sums: Any, to: Any) -> None:
    """Adds a page's values, weighed, one position after the other: how positions lie on pages changes no bit."""
    for d in range(0, size, WIDTH):
        a = load(sums, to + d)
        for j in range(count):
            a = fma(splat(weights[w + j]), load(values, base + j * size + d), a)
        store(sums, to + d, a)


@njit(inline="always")
def _sum2(weights: Any, w: Any, step: Any, count: Any, values: Any, base: Any, size: Any, sums: Any, to: Any) -> None:
    """The same for two queries side by side."""
    for d in range(0, size, WIDTH):
        a, b = load(sums, to + d), load(sums, to + size + d)
        if count == PAGE:
            for j in range(PAGE):
                value = load(values, base + j * size + d)
                a, b = fma(splat(weights[w + j]), value, a), fma(splat(weights[w + step + j]), value, b)
        else:
            for j in range(count):
                value = load(values, base + j * size + d)
                a, b = fma(splat(weights[w + j]), value, a), fma(splat(weights[w + step + j]), value, b)
        store(sums, to + d, a)
        store(sums, to + size + d, b)


@kernel
def attend(
    q: Any, heads: Any, keys: Any, values: Any, tables: Any, starts: Any, rows: Any, positions: Any, scale: Any, out: Any
) -> None:
    """Each token over all positions of its sequence up to its own.

    q [tokens, width >= heads * size], out [tokens, heads * size]; keys and values as in `write`; tables [rows, blocks] are the
    pages of each row's sequence, starts [rows, blocks + 1] the position at which each begins; token i stands at positions[i] of
    rows[i]. Tokens that share pages and stand side by side read them together, once for TILE tokens: what Hydragen (arXiv
    2402.05099) gets by attending a shared prefix once a group, at every level of the tree, and without parts to merge."""
    tokens, width, shared, size = q.shape[0], q.shape[1], keys.shape[1], keys.shape[2]
    group, page_size, length = heads // shared, shared * size * PAGE, size * PAGE
    queries, outs, flat_keys, flat_values = q.reshape(-1), out.reshape(-1), keys.reshape(-1), values.reshape(-1)
    zero = splat(float32(0))
    longest = 0
    for token in range(tokens):
        longest = max(longest, positions[token])
    reach = (longest // WIDTH + 2) * WIDTH
    weights, spread = np.empty(TILE * group * reach, np.float32), np.empty(TILE * group * length, np.float32)
    for begin in range(0, tokens, TILE):
        end = min(tokens, begin + TILE)
        for head in range(shared):
            for token in range(begin, end):
                for g in range(group):
                    at, to = token * width + (head * group + g) * size, ((token - begin) * group + g) * length
                    _spread(queries, at, size, float32(scale), spread, to)
            blocks, busy = 0, True
            while busy:
                busy = False
                for token in range(begin, end):
                    row, position = rows[token], positions[token]
                    start = starts[row, blocks]
                    if start > position or (blocks > 0 and start == 0):
                        continue
                    busy = True
                    base = tables[row, blocks] * page_size + head * length
                    i = (token - begin) * group
                    for g in range(0, group - 1, 2):
                        _score2(spread, (i + g) * length, flat_keys, base, length, weights, (i + g) * reach + start, reach)
                    if group % 2:
                        g = group - 1
                        _score(spread, (i + g) * length, flat_keys, base, length, weights, (i + g) * reach + start)
                blocks += 1
            for token in range(begin, end):
                for g in range(group):
                    _softmax(weights, ((token - begin) * group + g) * reach, positions[token] + 1)
                    for d in range(0, size, WIDTH):
                        store(outs, (token * heads + head * group + g) * size + d, zero)
            for block in range(blocks - 1):
                for token in range(begin, end):
                    row, position = rows[token], positions[token]
                    start = starts[row, block]
                    if start > position or (block > 0 and start == 0):
                        continue
                    after = starts[row, block + 1]
                    count = min(after if after > start else start + PAGE, position + 1) - start
                    base = tables[row, block] * page_size + head * length
                    i, to = (token - begin) * group, (token * heads + head * group) * size
                    for g in range(0, group - 1, 2):
                        w = (i + g) * reach + start
                        _sum2(weights, w, reach, count, flat_values, base, size, outs, to + g * size)
                    if group % 2:
                        g = group - 1
                        _sum(weights, (i + g) * reach + start, count, flat_values, base, size, outs, to + g * size)


SPAN = 128  # tokens whose weights are summed in float32; spans are summed in float64


@njit(inline="always")
def _piece(x: Any, at: Any, left: Any, best: Any) -> Any:
    """Sixteen scores relative to the best one; beyond the first `left`, _NEVER."""
    value = sub(load(x, at), best)
    return value if left >= WIDTH else first(value, left, float32(_NEVER))


@kernel
def choose(x: Any, stride: Any, size: Any, temperatures: Any, noise: Any, tokens: Any, statistics: Any) -> None:
    """One token a row by inverse CDF, and its statistics, in one look at the row for each distribution that it needs.

    x holds a row's `size` logits from row * stride on, and is long enough to be read in sixteens; temperatures [rows], 0 =
    greedy; noise float64 [rows] in (0, 1); tokens int64 [rows]; statistics float32 [4, rows]: ln p, KL(uniform || p) and
    entropy of the untempered distribution, and ln of the probability with which the token was drawn."""
    spans = (size + SPAN - 1) // SPAN
    masses, weights = np.empty(spans, np.float64), np.empty(SPAN, np.float32)
    for row in range(tokens.shape[0]):
        at, temperature = row * stride, temperatures[row]
        peaks = splat(float32(_NEVER))
        for i in range(0, size, WIDTH):
            value = load(x, at + i)
            peaks = larger(peaks, value if size - i >= WIDTH else first(value, size - i, float32(_NEVER)))
        best = splat(largest(peaks))
        mass, scores, dots = 0.0, 0.0, 0.0
        for span in range(spans):
            a, b, c = splat(float32(0)), splat(float32(0)), splat(float32(0))
            for i in range(span * SPAN, min(span * SPAN + SPAN, size), WIDTH):
                score = _piece(x, at + i, size - i, best)
                weight = exp(score)
                if size - i < WIDTH:
                    score, weight = first(score, size - i, float32(0)), first(weight, size - i, float32(0))
                a, b, c = add(a, weight), add(b, score), fma(score, weight, c)
            masses[span] = total(a)
            mass, scores, dots = mass + masses[span], scores + total(b), dots + total(c)
        normal = np.log(mass)
        tempered, whole = temperature != 0 and temperature != 1, mass
        inverse = splat(float32(1) / temperature) if tempered else splat(float32(1))
        if tempered:
            whole = 0.0
            for span in range(spans):
                a = splat(float32(0))
                for i in range(span * SPAN, min(span * SPAN + SPAN, size), WIDTH):
                    weight = exp(mul(_piece(x, at + i, size - i, best), inverse))
                    a = add(a, weight if size - i >= WIDTH else first(weight, size - i, float32(0)))
                masses[span] = total(a)
                whole += masses[span]
        token = 0
        if temperature == 0:
            while token < size - 1 and x[at + token] < largest(best):
                token += 1
        else:
            # the span in which the target lies, then the token: the last of weight above 0 that begins at or before it
            target, span = noise[row] * whole, 0
            while span < spans - 1 and target >= masses[span]:
                target -= masses[span]
                span += 1
            while span > 0 and masses[span] == 0:
                span -= 1
            begin, end = span * SPAN, min(span * SPAN + SPAN, size)
            for i in range(begin, end, WIDTH):
                store(weights, i - begin, exp(mul(_piece(x, at + i, size - i, best), inverse)))
            reached, token = 0.0, -1  # where no logit is a number, the first of the span
            for i in range(end - begin):
                if weights[i] > 0 and (reached <= target or token < 0):
                    token = begin + i
                reached += weights[i]
            token = max(token, begin)
        tokens[row] = token
        relative = float(x[at + token] - largest(best))
        statistics[0, row] = min(relative - normal, 0.0)
        statistics[1, row] = max(normal - scores / size - np.log(size), 0.0)
        statistics[2, row] = max(normal - dots / mass, 0.0)
        statistics[3, row] = 0.0
        if temperature != 0:
            statistics[3, row] = min((relative / temperature if tempered else relative) - np.log(whole), 0.0)
