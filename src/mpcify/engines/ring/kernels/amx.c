/* A word is Σ dᵢ·2^8i with dᵢ from −128 to 127: with s = 0x80…80, the bytes of (x + s) ^ s. So

       a·b = Σ_w 2^8w · Σ_{i+j=w} aᵢ·bⱼ,   w below the number of digits, j below how many b has,

   and the unit multiplies tiles of digits, 16 × 64 by 64 × 16, to 16 × 16 sums of 32 bits. Of the right one, four rows
   stand in a line of memory: the first column's four digits, then the second's. A sum has AMX_DEPTH · 8 products of at most 2^14 each, so that
   it stays below 2^27. Of its eight tiles six hold sums of different w; those of more take a second pass. */

#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* syscall */
#endif
#include "amx.h"

#if !defined(NO_AMX) && defined(X86) && defined(__linux__) && \
    (defined(__clang_major__) ? __clang_major__ >= 12 : __GNUC__ >= 11)

#include <cpuid.h>
#include <immintrin.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define SIGNS 0x8080808080808080u
#define CODE __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,amx-tile,amx-int8")))
enum { SIDE = 16, DEEP = 64, TILE = SIDE * DEEP, SUMS = 6, MOST = 8 };
#define LEFT 6 /* tiles, behind those of sums */
#define RIGHT 7

typedef int32_t sums[SUMS][SIDE][SIDE];
typedef struct {
    uint8_t palette, start, reserved[14];
    uint16_t bytes[16];
    uint8_t rows[16];
} shapes;

int amx_there(void) {
    enum { ASK_FOR = 0x1023, TILES = 18, TILE_BIT = 1 << 24, INT8_BIT = 1 << 25 };
    unsigned a, b, c, d;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || !(d & TILE_BIT) || !(d & INT8_BIT)) return 0;
    if (!__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("avx512dq")) return 0;
    if (!__builtin_cpu_supports("avx512bw") || !__builtin_cpu_supports("avx512vl")) return 0;
    return syscall(SYS_arch_prctl, ASK_FOR, TILES) == 0;
}

INLINE size pieces(size count, size of) { return (count + of - 1) / of; }
INLINE word split(word x) { return (x + SIGNS) ^ SIGNS; }

static size bytes(int digits, size rows, size deep) { return pieces(rows, SIDE) * pieces(deep, DEEP) * digits * TILE; }
/* The digits of a right matrix that are packed: 2, 3 or all, for each of which there is code. */
INLINE int kept(int digits, int held) { return held > 3 || digits > SUMS ? digits : held > 2 ? 3 : 2; }

size amx_panel_words(int digits, int held, size p, size q) {
    return bytes(kept(digits, held), q, p) / (size)sizeof(word);
}
size amx_block_words(int digits, size m, size p) {
    return bytes(digits, least(m, AMX_ROWS), least(p, AMX_DEPTH)) / (size)sizeof(word);
}

/* The digits of up to 64 words, `apart` bytes from one digit's line to the next. */
INLINE CODE void lines(int digits, const word *from, size depth, int8_t *to, size apart) {
    for (int digit = 0; digit < digits; digit++)
        for (size k = 0; k < depth; k++) to[digit * apart + k] = (int8_t)(split(from[k]) >> 8 * digit);
}

/* Packs rows of a left matrix, `stride` words apart. */
static CODE void pack_left(int digits, const word *left, int8_t *to, size m, size stride, size p) {
    for (size row = 0; row < m; row += SIDE)
        for (size k = 0; k < p; k += DEEP, to += digits * TILE) {
            const size rows = least(SIDE, m - row), depth = least(DEEP, p - k);
            if (rows < SIDE || depth < DEEP) memset(to, 0, (size_t)(digits * TILE));
            for (size i = 0; i < rows; i++) {
                const word *from = left + (row + i) * stride + k;
                if (depth == DEEP)
                    lines(digits, from, DEEP, to + i * DEEP, TILE);
                else
                    lines(digits, from, depth, to + i * DEEP, TILE);
            }
        }
}

/* Packs a tile of 64 × 16 words, q words from row to row. */
static CODE void pack_tile(int digits, const word *from, int8_t *to, size depth, size columns, size q) {
    const __m512i signs = _mm512_set1_epi64((long long)SIGNS), byte = _mm512_set1_epi64(255);
    for (size quad = 0; 4 * quad < depth; quad++)
        for (size column = 0; column < columns; column += 8) {
            const __mmask8 there = (__mmask8)(0xff >> (8 - least(8, columns - column)));
            __m512i z[4];
            for (size i = 0; i < 4; i++) {
                const word *row = from + (4 * quad + i) * q + column;
                const __m512i x = _mm512_maskz_loadu_epi64(4 * quad + i < depth ? there : 0, row);
                z[i] = _mm512_xor_si512(_mm512_add_epi64(x, signs), signs);
            }
            for (int digit = 0; digit < digits; digit++) {
                __m512i quads = _mm512_setzero_si512();
                for (int i = 3; i >= 0; i--) {
                    const __m512i one = _mm512_and_si512(_mm512_srl_epi64(z[i], _mm_cvtsi32_si128(8 * digit)), byte);
                    quads = _mm512_or_si512(_mm512_slli_epi64(quads, 8), one);
                }
                int8_t *const place = to + digit * TILE + quad * DEEP + 4 * column;
                _mm256_storeu_si256((__m256i *)place, _mm512_cvtepi64_epi32(quads));
            }
        }
}

/* Packs a tile of 64 × 16 words that stands transposed, p words from column to column. */
INLINE CODE void pack_turned_tile(int digits, const word *from, int8_t *to, size depth, size columns, size p) {
    for (size column = 0; column < columns; column++) {
        int8_t line[MOST][DEEP] = {{0}};
        lines(digits, from + column * p, depth, line[0], DEEP);
        for (int digit = 0; digit < digits; digit++)
            for (size quad = 0; quad < SIDE; quad++)
                memcpy(to + digit * TILE + quad * DEEP + 4 * column, line[digit] + 4 * quad, 4);
    }
}

CODE void amx_pack_right(int digits, int held, const word *right, word *panels, size p, size q, int transposed) {
    digits = kept(digits, held);
    int8_t *to = (int8_t *)panels;
    for (size column = 0; column < q; column += SIDE)
        for (size k = 0; k < p; k += DEEP, to += digits * TILE) {
            const size columns = least(SIDE, q - column), depth = least(DEEP, p - k);
            const int whole = columns == SIDE && depth == DEEP;
            if (!whole) memset(to, 0, (size_t)(digits * TILE));
            if (transposed && whole)
                pack_turned_tile(digits, right + column * p + k, to, DEEP, SIDE, p);
            else if (transposed)
                pack_turned_tile(digits, right + column * p + k, to, depth, columns, p);
            else
                pack_tile(digits, right + k * q + column, to, depth, columns, q);
        }
}

#define EVERY(act) act(0); act(1); act(2); act(3); act(4); act(5);
#define SUM(w)                                                                                                         \
    case w:                                                                                                            \
        _tile_dpbssd(w, LEFT, RIGHT);                                                                                  \
        break;

/* The sums of w from `first` to `last` for 16 rows and 16 columns, over `depth` tiles. */
INLINE CODE void sum_up(const int digits, const int held, const int first, const int last, const int8_t *left,
                        const int8_t *right, size depth, sums found) {
    EVERY(_tile_zero)
    for (size k = 0; k < depth; k++, left += digits * TILE, right += held * TILE) {
#pragma GCC unroll 8
        for (int i = 0; i < last; i++) {
            const int end = held < last - i ? held : last - i;
            _tile_loadd(LEFT, left + i * TILE, DEEP);
#pragma GCC unroll 8
            for (int j = i < first ? first - i : 0; j < end; j++) {
                _tile_loadd(RIGHT, right + j * TILE, DEEP);
                switch (i + j - first) { SUM(0) SUM(1) SUM(2) SUM(3) SUM(4) SUM(5) }
            }
        }
    }
#define STORE(w) _tile_stored(w, found[w], DEEP)
    EVERY(STORE)
}

/* out += Σ 2^8w · sum; `fresh` overwrites it. */
INLINE CODE void add_up(const int first, const int last, sums found, word *out, size stride, size rows, size columns,
                        int fresh) {
    for (size row = 0; row < rows; row++)
        for (size column = 0; column < columns; column++) {
            word total = fresh ? 0 : out[row * stride + column];
#pragma GCC unroll 6
            for (int w = first; w < last; w++) total += (word)(int64_t)found[w - first][row][column] << 8 * w;
            out[row * stride + column] = total;
        }
}

/* A block of 16 × 16 whose numbers of digits are constants. */
INLINE CODE void block_of(const int digits, const int held, const int8_t *left, const int8_t *right, word *out,
                          size stride, size rows, size columns, size depth, int fresh) {
    const int some = digits < SUMS ? digits : SUMS;
    _Alignas(64) sums found;
    sum_up(digits, held, 0, some, left, right, depth, found);
    if (columns == SIDE)
        add_up(0, some, found, out, stride, rows, SIDE, fresh);
    else
        add_up(0, some, found, out, stride, rows, columns, fresh);
    if (digits > some) {
        sum_up(digits, held, some, digits, left, right, depth, found);
        add_up(some, digits, found, out, stride, rows, columns, 0);
    }
}

#define PAIR(digits, held)                                                                                             \
    case 16 * (digits) + (held):                                                                                       \
        block_of(digits, held, from, tiles, to, q, rows, columns, pieces(depth, DEEP), k == 0);                          \
        break;
#define PAIRS(digits) PAIR(digits, 2) PAIR(digits, 3) PAIR(digits, digits)

CODE void amx_product(int digits, int held, const word *left, const word *panels, word *out, size m, size p, size q,
                      size start, size stop, word *scratch) {
    held = kept(digits, held);
    static const shapes all = {1, 0, {0}, {64, 64, 64, 64, 64, 64, 64, 64}, {16, 16, 16, 16, 16, 16, 16, 16}};
    int8_t *const packed = (int8_t *)scratch;
    _tile_loadconfig(&all);
    for (size k = 0; k < p; k += AMX_DEPTH) {
        const size depth = least(AMX_DEPTH, p - k);
        for (size block = 0; block < m; block += AMX_ROWS) {
            const size end = least(m, block + AMX_ROWS);
            pack_left(digits, left + block * p + k, packed, end - block, p, depth);
            __asm__ volatile("" ::: "memory"); /* gcc's loads of tiles do not say that they read it */
            for (size column = start; column < stop; column += SIDE) {
                const size columns = least(SIDE, q - column), above = column / SIDE * pieces(p, DEEP) + k / DEEP;
                const int8_t *tiles = (const int8_t *)panels + above * held * TILE, *from = packed;
                for (size row = block; row < end; row += SIDE, from += pieces(depth, DEEP) * digits * TILE) {
                    const size rows = least(SIDE, end - row);
                    word *const to = out + row * q + column;
                    switch (16 * digits + held) { PAIRS(4) PAIRS(5) PAIRS(6) PAIR(7, 7) PAIR(8, 8) }
                }
            }
        }
    }
    _tile_release();
}

#else

int amx_there(void) { return 0; }
size amx_panel_words(int digits, int held, size p, size q) { return 0 * digits * held * p * q; }
size amx_block_words(int digits, size m, size p) { return 0 * digits * m * p; }
void amx_pack_right(int digits, int held, const word *right, word *panels, size p, size q, int transposed) {
    (void)digits, (void)held, (void)right, (void)panels, (void)p, (void)q, (void)transposed;
}
void amx_product(int digits, int held, const word *left, const word *panels, word *out, size m, size p, size q,
                 size start, size stop, word *scratch) {
    (void)digits, (void)held, (void)left, (void)panels, (void)out, (void)m, (void)p, (void)q, (void)start, (void)stop, (void)scratch;
}

#endif
