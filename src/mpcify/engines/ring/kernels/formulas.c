/* The formulas of formulas.py, each in one pass. Arrays have `count` words, or `rows` · `width`; `first` is 0 or 1. */

#include <string.h>

#include "words.h"

enum { BLOCK = 1024 }; /* words whose planes are written or read in turn: they stay in the cache */

typedef const word *restrict in;
typedef word *restrict out;

/* How values are read from an opening c of `shift` and `ring`; a shift by 64 gives 0. */
typedef struct {
    int shift, top, up;
    word mask, centre, keep;
} opening;

INLINE opening opened(size shift, size ring) {
    const int left = (int)(ring - shift);
    const word keep = left < 64 ? ~(word)0 : 0;
    const word mask = left < 64 ? ((word)1 << left) - 1 : ~(word)0;
    return (opening){(int)shift, (int)ring - 1, left & 63, mask, (word)1 << (left - 2), keep};
}

INLINE word high(opening o, word c) { return (c >> o.shift) & o.mask; }
INLINE word value(opening o, word c) { return high(o, c) - o.centre; }
INLINE word top(opening o, word c) { return (c >> o.top) & 1; }
INLINE word if_carried(opening o, word c, word x) { return x & (top(o, c) - 1); }
INLINE word raised(opening o, word x) { return (x << o.up) & o.keep; }
INLINE word one(opening o) { return raised(o, 1); }

FORMULA void lift(in c, size shift, size ring, in m, size first, out x, size count) {
    const opening o = opened(shift, ring);
    const word own = -(word)first;
    for (size i = 0; i < count; i++) x[i] = (value(o, c[i]) & own) + raised(o, if_carried(o, c[i], m[i]));
}

FORMULA void square(in c, size shift, size ring, in h, in m, in hm, size first, out x, size count) {
    const opening o = opened(shift, ring);
    const word own = -(word)first;
    for (size i = 0; i < count; i++) {
        const word u = value(o, c[i]), wrap = m[i] * (2 * u + one(o)) - 2 * hm[i];
        x[i] = u * ((u & own) - 2 * h[i]) + raised(o, if_carried(o, c[i], wrap));
    }
}

FORMULA void times(in c, size shift, size ring, in h, in m, in d, size row_shift, size row_ring, in g, in w, in hw,
                   in mg, in mw, size first, out x, size rows, size width) {
    const opening o = opened(shift, ring), p = opened(row_shift, row_ring);
    for (size row = 0; row < rows; row++) {
        const word v = value(p, d[row]), s = if_carried(p, d[row], ~(word)0), own = (v & -(word)first) - g[row];
        for (size i = row * width; i < (row + 1) * width; i++) {
            const word u = value(o, c[i]), wrap = v * m[i] - mg[i] + raised(p, s & mw[i]);
            x[i] = u * own - v * h[i] + raised(o, if_carried(o, c[i], wrap)) + raised(p, s & (u * w[row] - hw[i]));
        }
    }
}

FORMULA void fresh(in c, size shift, size ring, in m, in a, out x, size count) {
    const opening o = opened(shift, ring);
    for (size i = 0; i < count; i++) x[i] = if_carried(o, c[i], m[i]) - a[i];
}

FORMULA void halves(in r, size shift, size ring, out h, out m, size count) {
    const opening o = opened(shift, ring);
    for (size i = 0; i < count; i++) {
        h[i] = high(o, r[i]);
        m[i] = top(o, r[i]);
    }
}

/* Planes are not aligned. */
typedef uint32_t __attribute__((aligned(1), may_alias)) four;
typedef uint16_t __attribute__((aligned(1), may_alias)) two;

/* x mod 2^(8·bytes), in planes of 4, 2 and 1 bytes as `bytes` has them; 8 bytes are one plane. */
FORMULA void pack(const word *restrict x, uint8_t *restrict packed, size count, size bytes) {
    if (bytes == 8) {
        memcpy(packed, x, (size_t)count * 8);
        return;
    }
    four *const fours = (four *)packed;
    two *const twos = (two *)(packed + count * (bytes & 4));
    uint8_t *const ones = packed + count * (bytes & 6);
    const int above = (int)(8 * (bytes & 4)), top = (int)(8 * (bytes & 6));
    for (size start = 0; start < count; start += BLOCK) {
        const size end = least(count, start + BLOCK);
        if (bytes & 4)
            for (size i = start; i < end; i++) fours[i] = (uint32_t)x[i];
        if (bytes & 2)
            for (size i = start; i < end; i++) twos[i] = (uint16_t)(x[i] >> above);
        if (bytes & 1)
            for (size i = start; i < end; i++) ones[i] = (uint8_t)(x[i] >> top);
    }
}

/* What `pack` made, as words below 2^(8·bytes). */
FORMULA void unpack(const uint8_t *restrict packed, word *restrict x, size count, size bytes) {
    if (bytes == 8) {
        memcpy(x, packed, (size_t)count * 8);
        return;
    }
    const four *const fours = (const four *)packed;
    const two *const twos = (const two *)(packed + count * (bytes & 4));
    const uint8_t *const ones = packed + count * (bytes & 6);
    const int above = (int)(8 * (bytes & 4)), top = (int)(8 * (bytes & 6));
    for (size start = 0; start < count; start += BLOCK) {
        const size end = least(count, start + BLOCK);
        for (size i = start; i < end; i++) x[i] = bytes & 4 ? fours[i] : 0;
        if (bytes & 2)
            for (size i = start; i < end; i++) x[i] |= (word)twos[i] << above;
        if (bytes & 1)
            for (size i = start; i < end; i++) x[i] |= (word)ones[i] << top;
    }
}
