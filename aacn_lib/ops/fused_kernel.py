"""The inner loops of fused attention for CPUs: Numba turns these functions into vector instructions on first use.

Four queries at a time meet every key of their map. Their logits, BLOCK · HW numbers, stay in the processor's nearest
cache from the first product to the last; nothing of size (HW)² exists. Three habits make the loops fast:

* The innermost loop runs along keys, next to each other in memory, so that one instruction handles 16 of them (8, 4).
* A key read once serves four queries, two channels at a time: eight multiply-adds for two reads.
* Scratch arrays have constant sizes. The compiler then sees that two rows of one array never overlap, which it must
  know before it may rearrange reads and writes.

Keys are cut into chunks of whole picture rows, at most CHUNK keys each. Arrays hold float32 throughout.
"""

import numpy as np
from numba import njit

BLOCK = 4  # queries at a time: the loops below are written out for exactly four
CHUNK = 1024  # keys at a time: four rows of logits are 16 KiB
LANES = 64  # chunks are padded to a multiple of this, so that no loop has a slow remainder
NEVER = np.float32(-1e30)  # a logit for padding: its weight is far below any rounding

LN2 = np.float32(np.log(2))
zero = np.float32(0)

# fastmath lets sums be regrouped; it also assumes that no infinity or NaN occurs: the caller sees to that.
compiled = njit(nogil=True, fastmath=True, error_model="numpy", cache=True)


@compiled
def even(count):
    """Channels are taken in pairs: an odd number gets one more, of zeros."""
    return count + count % 2


@compiled
def padded(count):
    return (count + LANES - 1) // LANES * LANES


@compiled
def packed_like(depth, chunks):
    return np.zeros((chunks, even(depth), CHUNK), np.float32)


@compiled
def pack(image, chunks, size):
    """Copy (channels, HW) into `chunks` (chunks, channels, CHUNK), `size` keys to a chunk."""
    channels, N = image.shape
    for c in range(chunks.shape[0]):
        start = c * size
        stop = min(N, start + size)
        for channel in range(channels):
            for j in range(stop - start):
                chunks[c, channel, j] = image[channel, start + j]


@compiled
def unpack(chunks, image, size):
    """The way back from `pack`."""
    channels, N = image.shape
    for c in range(chunks.shape[0]):
        start = c * size
        stop = min(N, start + size)
        for channel in range(channels):
            for j in range(stop - start):
                image[channel, start + j] = chunks[c, channel, j]


@compiled
def take(image, first, count, block):
    """Copy `count` queries of `image` (channels, HW) into `block` (channels, BLOCK), zeros for the rest."""
    block[:] = zero
    for channel in range(image.shape[0]):
        for r in range(count):
            block[channel, r] = image[channel, first + r]


@compiled
def place(first, N, H, W, above, left):
    """Where each query's windows begin among the distances: H rows of keys, and W columns of keys.

    The window of a query in row y covers the distances -y … H - 1 - y: entries H - 1 - y and on, of 2H - 1. The
    horizontal distances follow the vertical ones.
    """
    for r in range(BLOCK):
        i = min(first + r, N - 1)
        above[r] = H - 1 - i // W
        left[r] = 2 * H - 1 + W - 1 - i % W


@compiled
def take_windows(far, first, size, windows):
    """windows[r, j] = far[r, first[r] + j]: of what query r gives to every distance, the part that its map has."""
    for r in range(BLOCK):
        start = first[r]
        for j in range(size):
            windows[r, j] = far[r, start + j]


@compiled
def put_windows(windows, first, size, far):
    """The way back from `take_windows`, added."""
    for r in range(BLOCK):
        start = first[r]
        for j in range(size):
            far[r, start + j] += windows[r, j]


@compiled
def start_with_positions(logits, over_rows, over_columns, y, rows, W):
    """logits[r, (row, x)] = what query r gives to the row + what it gives to the column; NEVER where no key is."""
    for row in range(rows):
        start = row * W
        a, b, c, d = over_rows[0, y + row], over_rows[1, y + row], over_rows[2, y + row], over_rows[3, y + row]
        for x in range(W):
            logits[0, start + x] = a + over_columns[0, x]
            logits[1, start + x] = b + over_columns[1, x]
            logits[2, start + x] = c + over_columns[2, x]
            logits[3, start + x] = d + over_columns[3, x]
    for r in range(BLOCK):
        for j in range(rows * W, padded(rows * W)):
            logits[r, j] = NEVER


@compiled
def add_products(logits, queries, keys, n):
    """logits[r, j] += Σ_c queries[c, r] · keys[c, j]"""
    for c in range(0, queries.shape[0], 2):
        a0, a1, a2, a3 = queries[c, 0], queries[c, 1], queries[c, 2], queries[c, 3]
        b0, b1, b2, b3 = queries[c + 1, 0], queries[c + 1, 1], queries[c + 1, 2], queries[c + 1, 3]
        for j in range(n):
            a, b = keys[c, j], keys[c + 1, j]
            logits[0, j] += a0 * a + b0 * b
            logits[1, j] += a1 * a + b1 * b
            logits[2, j] += a2 * a + b2 * b
            logits[3, j] += a3 * a + b3 * b


@compiled
def add_weighted_sums(sums, weights, values, n):
    """sums[c, r] += Σ_j weights[r, j] · values[c, j]"""
    for c in range(0, sums.shape[0], 2):
        a0 = a1 = a2 = a3 = b0 = b1 = b2 = b3 = zero
        for j in range(n):
            a, b = values[c, j], values[c + 1, j]
            w0, w1, w2, w3 = weights[0, j], weights[1, j], weights[2, j], weights[3, j]
            a0 += w0 * a
            a1 += w1 * a
            a2 += w2 * a
            a3 += w3 * a
            b0 += w0 * b
            b1 += w1 * b
            b2 += w2 * b
            b3 += w3 * b
        sums[c, 0] += a0
        sums[c, 1] += a1
        sums[c, 2] += a2
        sums[c, 3] += a3
        sums[c + 1, 0] += b0
        sums[c + 1, 1] += b1
        sums[c + 1, 2] += b2
        sums[c + 1, 3] += b3


@compiled
def add_outer_products(totals, block, weights, n):
    """totals[c, j] += Σ_r block[c, r] · weights[r, j]"""
    for c in range(0, block.shape[0], 2):
        a0, a1, a2, a3 = block[c, 0], block[c, 1], block[c, 2], block[c, 3]
        b0, b1, b2, b3 = block[c + 1, 0], block[c + 1, 1], block[c + 1, 2], block[c + 1, 3]
        for j in range(n):
            w0, w1, w2, w3 = weights[0, j], weights[1, j], weights[2, j], weights[3, j]
            totals[c, j] += a0 * w0 + a1 * w1 + a2 * w2 + a3 * w3
            totals[c + 1, j] += b0 * w0 + b1 * w1 + b2 * w2 + b3 * w3


@compiled
def raise_to_maximum(tops, logits, n):
    """tops[r] = max(tops[r], logits[r, :n]) for logits (BLOCK + 1, CHUNK); the last row is scratch, NEVER beyond n.

    A running maximum would be one long chain. Halving instead, elementwise maxima of the two halves of a row, lets one
    instruction take 16 of them, and the compiler sees that with halves of constant length no two places overlap.
    """
    for r in range(BLOCK):
        for j in range(n):
            logits[BLOCK, j] = logits[r, j]
        if n > CHUNK // 2:
            for j in range(CHUNK // 2):
                logits[BLOCK, j] = max(logits[BLOCK, j], logits[BLOCK, j + CHUNK // 2])
        if n > CHUNK // 4:
            for j in range(CHUNK // 4):
                logits[BLOCK, j] = max(logits[BLOCK, j], logits[BLOCK, j + CHUNK // 4])
        if n > CHUNK // 8:
            for j in range(CHUNK // 8):
                logits[BLOCK, j] = max(logits[BLOCK, j], logits[BLOCK, j + CHUNK // 8])
        for j in range(CHUNK // 16):
            logits[BLOCK, j] = max(logits[BLOCK, j], logits[BLOCK, j + CHUNK // 16])
        for j in range(CHUNK // 32):
            logits[BLOCK, j] = max(logits[BLOCK, j], logits[BLOCK, j + CHUNK // 32])
        for j in range(CHUNK // 64):
            logits[BLOCK, j] = max(logits[BLOCK, j], logits[BLOCK, j + CHUNK // 64])
        for j in range(CHUNK // 64):
            tops[r] = max(tops[r], logits[BLOCK, j])


@njit(inline="always")
def power_of_two(x):
    """2^x for x ≤ 0, off by about one unit in the last place; 2^-126 below that, where float32's normal numbers end.

    x = n + rest with a whole number n and a rest within ±1/2: 2^x = 2^n · 2^rest. The second is a polynomial (the
    series of e^(rest · ln 2), coefficients adjusted to the interval), the first is written as the bits of a float:
    exponent n + 127, shifted past the 23 digits of the fraction.
    """
    x = max(x, np.float32(-126))
    n = np.floor(x + np.float32(0.5))
    rest = x - n
    series = np.float32(1.535336188319500e-4)
    series = series * rest + np.float32(1.339887440266574e-3)
    series = series * rest + np.float32(9.618437357674640e-3)
    series = series * rest + np.float32(5.550332471162809e-2)
    series = series * rest + np.float32(2.402264791363012e-1)
    series = series * rest + np.float32(6.931472028550421e-1)
    series = series * rest + np.float32(1)
    return series * np.int32((n + np.float32(127)) * np.float32(1 << 23)).view(np.float32)


@compiled
def exponentials(logits, lows, n, totals):
    """logits[r] = 2^(logits[r] - lows[r]); totals[r] += their sum."""
    for r in range(BLOCK):
        low, total = lows[r], zero
        for j in range(n):
            weight = power_of_two(logits[r, j] - low)
            logits[r, j] = weight
            total += weight
        totals[r] += total


@compiled
def multiply(slopes, weights, n):
    """slopes *= weights · ln 2, the derivative of 2^x."""
    for r in range(BLOCK):
        for j in range(n):
            slopes[r, j] *= weights[r, j] * LN2


@compiled
def sum_by_axis(slopes, row_slopes, column_slopes, y, rows, W):
    """Sums of the slopes over columns of keys, into `row_slopes`, and over rows of keys, onto `column_slopes`."""
    for r in range(BLOCK):
        for row in range(rows):
            total = zero
            for x in range(W):
                slope = slopes[r, row * W + x]
                total += slope
                column_slopes[r, x] += slope
            row_slopes[r, y + row] = total


@compiled
def forward(q, k, v, table, size, out, log_sums):
    """Attention of some maps of `size` (H, W): fills `out` (maps, d_v, HW) and `log_sums` (maps, HW).

    q, k: (maps, d, HW), q scaled by log2(e) / √d. v: (maps, d_v, HW). table: (d, 2H - 1 + 2W - 1), the vectors of the
    vertical distances, then of the horizontal ones. log_sums: log2 of each query's sum of powers, from which the
    backward pass finds its weights again.
    """
    H, W = size
    maps, depth, N = q.shape
    depth_v = v.shape[1]
    chunk_rows = min(H, CHUNK // W)
    chunks = (H + chunk_rows - 1) // chunk_rows
    keys, values, distances = packed_like(depth, chunks), packed_like(depth_v, chunks), packed_like(depth, 1)[0]
    queries, sums = np.empty((even(depth), BLOCK), np.float32), np.empty((even(depth_v), BLOCK), np.float32)
    logits, far = np.full((chunks, BLOCK + 1, CHUNK), NEVER), np.empty((BLOCK, CHUNK), np.float32)
    over_rows, over_columns = np.empty((BLOCK, CHUNK), np.float32), np.empty((BLOCK, CHUNK), np.float32)
    tops, totals = np.empty(BLOCK, np.float32), np.empty(BLOCK, np.float32)
    above, left = np.empty(BLOCK, np.int64), np.empty(BLOCK, np.int64)
    distances[:depth, : table.shape[1]] = table
    reach = padded(table.shape[1])
    for m in range(maps):
        pack(k[m], keys, chunk_rows * W)
        pack(v[m], values, chunk_rows * W)
        for i in range(0, N, BLOCK):
            count = min(BLOCK, N - i)
            take(q[m], i, count, queries)
            place(i, N, H, W, above, left)
            far[:, :reach] = zero
            add_products(far, queries, distances, reach)
            take_windows(far, above, H, over_rows)
            take_windows(far, left, W, over_columns)
            tops[:] = NEVER
            for c in range(chunks):
                y = c * chunk_rows
                rows = min(chunk_rows, H - y)
                n = padded(rows * W)
                start_with_positions(logits[c], over_rows, over_columns, y, rows, W)
                add_products(logits[c], queries, keys[c], n)
                raise_to_maximum(tops, logits[c], n)
            totals[:] = zero
            sums[:] = zero
            for c in range(chunks):
                n = padded(min(chunk_rows, H - c * chunk_rows) * W)
                exponentials(logits[c], tops, n, totals)
                add_weighted_sums(sums, logits[c], values[c], n)
            for r in range(count):
                for c in range(depth_v):
                    out[m, c, i + r] = sums[c, r] / totals[r]
                log_sums[m, i + r] = tops[r] + np.log2(totals[r])


@compiled
def backward(q, k, v, table, size, out, log_sums, grad_out, grad_q, grad_k, grad_v, grad_table):
    """Gradients of `forward`: fills `grad_q`, `grad_k`, `grad_v`, and `grad_table` (d, …) with its sum over the maps.

    With weights p, the gradient of a logit is p · (g − o), where g = grad_out · v of the key, and o = grad_out · out of
    the query: the derivative of softmax.
    """
    H, W = size
    maps, depth, N = q.shape
    depth_v = v.shape[1]
    chunk_rows = min(H, CHUNK // W)
    chunks = (H + chunk_rows - 1) // chunk_rows
    keys, values, distances = packed_like(depth, chunks), packed_like(depth_v, chunks), packed_like(depth, 1)[0]
    key_slopes, value_slopes = packed_like(depth, chunks), packed_like(depth_v, chunks)
    distance_slopes = packed_like(depth, 1)[0]
    queries, grads = np.empty((even(depth), BLOCK), np.float32), np.empty((even(depth_v), BLOCK), np.float32)
    weights, slopes = np.empty((BLOCK, CHUNK), np.float32), np.empty((BLOCK, CHUNK), np.float32)
    far, over_rows = np.empty((BLOCK, CHUNK), np.float32), np.empty((BLOCK, CHUNK), np.float32)
    over_columns, row_slopes = np.empty((BLOCK, CHUNK), np.float32), np.empty((BLOCK, CHUNK), np.float32)
    column_slopes = np.empty((BLOCK, CHUNK), np.float32)
    sums, lows = np.empty((even(depth), BLOCK), np.float32), np.zeros(BLOCK, np.float32)
    inner, totals = np.zeros(BLOCK, np.float32), np.zeros(BLOCK, np.float32)
    above, left = np.empty(BLOCK, np.int64), np.empty(BLOCK, np.int64)
    distances[:depth, : table.shape[1]] = table
    reach = padded(table.shape[1])
    for m in range(maps):
        pack(k[m], keys, chunk_rows * W)
        pack(v[m], values, chunk_rows * W)
        key_slopes[:] = zero
        value_slopes[:] = zero
        for i in range(0, N, BLOCK):
            count = min(BLOCK, N - i)
            take(q[m], i, count, queries)
            take(grad_out[m], i, count, grads)
            place(i, N, H, W, above, left)
            far[:, :reach] = zero
            add_products(far, queries, distances, reach)
            take_windows(far, above, H, over_rows)
            take_windows(far, left, W, over_columns)
            inner[:] = zero
            for r in range(count):
                lows[r] = log_sums[m, i + r]
                for c in range(depth_v):
                    inner[r] += grad_out[m, c, i + r] * out[m, c, i + r]
            sums[:] = zero
            column_slopes[:, :W] = zero
            for c in range(chunks):
                y = c * chunk_rows
                rows = min(chunk_rows, H - y)
                n = padded(rows * W)
                start_with_positions(weights, over_rows, over_columns, y, rows, W)
                add_products(weights, queries, keys[c], n)
                exponentials(weights, lows, n, totals)
                add_outer_products(value_slopes[c], grads, weights, n)
                for r in range(BLOCK):
                    slopes[r, :n] = -inner[r]
                add_products(slopes, grads, values[c], n)
                multiply(slopes, weights, n)
                add_weighted_sums(sums, slopes, keys[c], n)
                add_outer_products(key_slopes[c], queries, slopes, n)
                sum_by_axis(slopes, row_slopes, column_slopes, y, rows, W)
            far[:, :reach] = zero  # from here on the slopes of `far`
            put_windows(row_slopes, above, H, far)
            put_windows(column_slopes, left, W, far)
            add_weighted_sums(sums, far, distances, reach)
            add_outer_products(distance_slopes, queries, far, reach)
            for r in range(count):
                for c in range(depth):
                    grad_q[m, c, i + r] = sums[c, r]
        unpack(key_slopes, grad_k[m], chunk_rows * W)
        unpack(value_slopes, grad_v[m], chunk_rows * W)
    grad_table[:] = distance_slopes[:depth, : table.shape[1]]
