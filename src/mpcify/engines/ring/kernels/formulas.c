/* The formulas of formulas.py, each in one pass. Arrays have `count` words, or `rows` · `width`; `first` is 0 or 1. */

#include <string.h>

#include "words.h"

#ifndef SOURCES
#define SOURCES 0
#endif

/* The digest of the sources that the library was built from. */
word sources(void) { return SOURCES; }

enum { BLOCK = 1024 }; /* words whose planes are written or read in turn: they stay in the cache */

typedef const word *restrict in;
typedef word *restrict out;

/* How values are read from an opening c of `kappa` bits; a shift by 64 gives 0. */
typedef struct {
    int top, up;
    word mask, centre, keep;
} opening;

INLINE opening opened(size kappa) {
    const word keep = kappa < 64 ? ~(word)0 : 0;
    const word mask = kappa < 64 ? ((word)1 << kappa) - 1 : ~(word)0;
    return (opening){(int)kappa - 1, (int)kappa & 63, mask, (word)1 << (kappa - 2), keep};
}

INLINE word value(opening o, word c) { return (c & o.mask) - o.centre; }
INLINE word top(opening o, word c) { return (c >> o.top) & 1; }
INLINE word if_carried(opening o, word c, word x) { return x & (top(o, c) - 1); }
INLINE word raised(opening o, word x) { return (x << o.up) & o.keep; }
INLINE word one(opening o) { return raised(o, 1); }

FORMULA void lift(in c, size kappa, in m, size first, out x, size count) {
    const opening o = opened(kappa);
    const word own = -(word)first;
    for (size i = 0; i < count; i++) x[i] = (value(o, c[i]) & own) + raised(o, if_carried(o, c[i], m[i]));
}

FORMULA void square(in c, size kappa, in h, in m, in hm, size first, out x, size count) {
    const opening o = opened(kappa);
    const word own = -(word)first;
    for (size i = 0; i < count; i++) {
        const word u = value(o, c[i]), wrap = m[i] * (2 * u + one(o)) - 2 * hm[i];
        x[i] = u * ((u & own) - 2 * h[i]) + raised(o, if_carried(o, c[i], wrap));
    }
}

FORMULA void times(in c, size kappa, in h, in m, in d, size row_kappa, in g, in w, in hw,
                   in mg, in mw, size first, out x, size rows, size width) {
    const opening o = opened(kappa), p = opened(row_kappa);
    for (size row = 0; row < rows; row++) {
        const word v = value(p, d[row]), s = if_carried(p, d[row], ~(word)0), own = (v & -(word)first) - g[row];
        for (size i = row * width; i < (row + 1) * width; i++) {
            const word u = value(o, c[i]), wrap = v * m[i] - mg[i] + raised(p, s & mw[i]);
            x[i] = u * own - v * h[i] + raised(o, if_carried(o, c[i], wrap)) + raised(p, s & (u * w[row] - hw[i]));
        }
    }
}

FORMULA void fresh(in c, size kappa, in m, in a, out x, size count) {
    const opening o = opened(kappa);
    for (size i = 0; i < count; i++) x[i] = if_carried(o, c[i], m[i]) - a[i];
}

FORMULA void halves(in r, size shift, size ring, out h, out m, size count) {
    const opening o = opened(ring - shift);
    for (size i = 0; i < count; i++) {
        h[i] = (r[i] >> shift) & o.mask;
        m[i] = top(o, h[i]);
    }
}

/* Planes are not aligned. */
typedef uint32_t __attribute__((aligned(1), may_alias)) four;
typedef uint16_t __attribute__((aligned(1), may_alias)) two;

/* How words of `bits` bits lie: whole bytes of all of them in planes of 4, 2 and 1 bytes, as `bytes` has them, and then
   the bits that are left, of eight words each that lie `eighth` apart. */
typedef struct {
    size count, bytes, left, eighth;
    int above, top, rest;
    word mask;
} layout;

INLINE layout laid_out(size count, size bits) {
    const size bytes = bits >> 3, left = bits & 7;
    return (layout){count, bytes, left, (count + 7) >> 3, (int)(8 * (bytes & 4)), (int)(8 * (bytes & 6)),
                    (int)(8 * bytes) & 63, ((word)1 << left) - 1};
}

/* Writes the planes of words from `start` to `end`. */
INLINE void planes(const word *restrict x, uint8_t *restrict packed, layout l, size start, size end) {
    four *const fours = (four *)packed;
    two *const twos = (two *)(packed + l.count * (l.bytes & 4));
    uint8_t *const ones = packed + l.count * (l.bytes & 6);
    if (l.bytes & 4)
        for (size i = start; i < end; i++) fours[i] = (uint32_t)x[i];
    if (l.bytes & 2)
        for (size i = start; i < end; i++) twos[i] = (uint16_t)(x[i] >> l.above);
    if (l.bytes & 1)
        for (size i = start; i < end; i++) ones[i] = (uint8_t)(x[i] >> l.top);
}

/* Reads the planes of words from `start` to `end`. */
INLINE void from_planes(const uint8_t *restrict packed, word *restrict x, layout l, size start, size end) {
    const four *const fours = (const four *)packed;
    const two *const twos = (const two *)(packed + l.count * (l.bytes & 4));
    const uint8_t *const ones = packed + l.count * (l.bytes & 6);
    for (size i = start; i < end; i++) x[i] = l.bytes & 4 ? fours[i] : 0;
    if (l.bytes & 2)
        for (size i = start; i < end; i++) x[i] |= (word)twos[i] << l.above;
    if (l.bytes & 1)
        for (size i = start; i < end; i++) x[i] |= (word)ones[i] << l.top;
}

/* x mod 2^bits. */
FORMULA void pack(const word *restrict x, uint8_t *restrict packed, size count, size bits) {
    const layout l = laid_out(count, bits);
    if (bits == 64) {
        memcpy(packed, x, (size_t)count * 8);
        return;
    }
    if (!l.left)
        for (size start = 0; start < count; start += BLOCK) planes(x, packed, l, start, least(count, start + BLOCK));
    else
        for (size start = 0; start < l.eighth; start += BLOCK) {
            const size end = least(l.eighth, start + BLOCK);
            word numbers[BLOCK] = {0};
            for (size k = 0; k < 8; k++) {
                const size first = k * l.eighth, last = least(count, first + end);
                planes(x, packed, l, first + start, last);
                for (size i = first + start; i < last; i++)
                    numbers[i - first - start] |= ((x[i] >> l.rest) & l.mask) << (k * l.left);
            }
            for (size k = 0; k < l.left; k++) {
                uint8_t *const rest = packed + count * l.bytes + k * l.eighth;
                for (size i = start; i < end; i++) rest[i] = (uint8_t)(numbers[i - start] >> (8 * k));
            }
        }
}

/* What `pack` made, as words below 2^bits. */
FORMULA void unpack(const uint8_t *restrict packed, word *restrict x, size count, size bits) {
    const layout l = laid_out(count, bits);
    if (bits == 64) {
        memcpy(x, packed, (size_t)count * 8);
        return;
    }
    if (!l.left)
        for (size start = 0; start < count; start += BLOCK)
            from_planes(packed, x, l, start, least(count, start + BLOCK));
    else
        for (size start = 0; start < l.eighth; start += BLOCK) {
            const size end = least(l.eighth, start + BLOCK);
            word numbers[BLOCK] = {0};
            for (size k = 0; k < l.left; k++) {
                const uint8_t *const rest = packed + count * l.bytes + k * l.eighth;
                for (size i = start; i < end; i++) numbers[i - start] |= (word)rest[i] << (8 * k);
            }
            for (size k = 0; k < 8; k++) {
                const size first = k * l.eighth, last = least(count, first + end);
                from_planes(packed, x, l, first + start, last);
                for (size i = first + start; i < last; i++)
                    x[i] |= ((numbers[i - first - start] >> (k * l.left)) & l.mask) << l.rest;
            }
        }
}
