/* Matrix products of 64-bit words that wrap, in tiles of 8 × 24 that stay in registers.

The right matrix is packed in panels of 24 columns, each row by row; the last panel holds what is left, filled with
zeros to a multiple of 8 columns. The left one is packed as it is used, in groups of 8, 4, 2 or 1 rows, each column by
column. `kind` says how a word is multiplied: IFMA mod 2^52, the others mod 2^64; or, above AMX, that `amx.c` does it,
by as many digits as are added to that. `held`: how many hold each word of the right matrix; `few_bits` says what that means for AVX2, the others do not ask. */

#include <stdlib.h>
#include <string.h>

#include "amx.h"

#ifdef X86
#include <immintrin.h>
#endif

enum { PORTABLE, AVX2, AVX512, IFMA, AMX };
enum { ROWS = 8, LANES = 8, PANEL = 24, BLOCK = 128, DEPTH = 384, FEW = 3, FEW_DEPTH = 128, WORD_DIGITS = sizeof(word) };

/* out (rows × columns, rows `stride` apart) += left (depth × rows) times right (depth × columns, filled to lanes);
   the first part of a sum overwrites `out`. */
typedef void tile(int rows, int columns, const word *left, const word *right, word *out, size stride, size depth,
                  int first);

INLINE size filled(size columns) { return (columns + LANES - 1) / LANES * LANES; }

static void portable(int rows, int columns, const word *left, const word *right, word *out, size stride, size depth,
                     int first) {
    const size width = filled(columns);
    for (int row = 0; row < rows; row++)
        for (size start = 0; start < width; start += LANES) {
            word sum[LANES] = {0};
            for (size k = 0; k < depth; k++)
                for (int lane = 0; lane < LANES; lane++)
                    sum[lane] += left[k * rows + row] * right[k * width + start + lane];
            for (int lane = 0; lane < LANES && start + lane < columns; lane++) {
                word *to = out + row * stride + start + lane;
                *to = sum[lane] + (first ? 0 : *to);
            }
        }
}

#ifdef X86
#define AVX2_CODE __attribute__((target("avx2")))

/* `rows` (1 or 2) of a tile, 8 columns; rows of `left` are `step` words apart. With words as halves, a·b mod 2^64 is
   a₀·b₀ + 2^32·(a₀·b₁ + a₁·b₀): `low` sums the first product, and the halves of a word of `crossed` sum the others. */
INLINE AVX2_CODE void strip(const int rows, int columns, const word *left, size step, const word *right, size width,
                            word *out, size stride, size depth, int first) {
    enum { HALF = LANES / 2 };
    __m256i low[2][2] = {{{0}}}, crossed[2][2] = {{{0}}}, b[2];
    for (size k = 0; k < depth; k++) {
        for (int vector = 0; vector < 2; vector++)
            b[vector] = _mm256_loadu_si256((const __m256i *)(right + k * width + HALF * vector));
        for (int row = 0; row < rows; row++) {
            const __m256i a = _mm256_set1_epi64x((long long)left[k * step + row]);
            const __m256i turned = _mm256_shuffle_epi32(a, 0xb1);
            for (int vector = 0; vector < 2; vector++) {
                low[row][vector] = _mm256_add_epi64(low[row][vector], _mm256_mul_epu32(a, b[vector]));
                crossed[row][vector] = _mm256_add_epi32(crossed[row][vector], _mm256_mullo_epi32(turned, b[vector]));
            }
        }
    }
    for (int row = 0; row < rows; row++) {
        word sum[2][LANES];
        for (int vector = 0; vector < 2; vector++) {
            _mm256_storeu_si256((__m256i *)(sum[0] + HALF * vector), low[row][vector]);
            _mm256_storeu_si256((__m256i *)(sum[1] + HALF * vector), crossed[row][vector]);
        }
        for (int lane = 0; lane < columns; lane++) {
            word *const to = out + row * stride + lane;
            const word high = (sum[1][lane] << 32) + (sum[1][lane] >> 32 << 32);
            *to = sum[0][lane] + high + (first ? 0 : *to);
        }
    }
}

static AVX2_CODE void avx2(int rows, int columns, const word *left, const word *right, word *out, size stride,
                           size depth, int first) {
    const size width = filled(columns);
    for (size start = 0; start < width; start += LANES) {
        const int lanes = (int)least(LANES, columns - start);
        for (int row = 0; row < rows; row += 2) {
            word *const to = out + row * stride + start;
            if (row + 2 <= rows)
                strip(2, lanes, left + row, rows, right + start, width, to, stride, depth, first);
            else
                strip(1, lanes, left + row, rows, right + start, width, to, stride, depth, first);
        }
    }
}

/* Products with a matrix of few digits, as floats: a word is low + 2^cut·high with digits from −2^(cut−1) on, and a sum of
   `FEW_DEPTH` products of one with a word of `held` digits stays below 2^51. Lines are the digits of `THREE` rows. */
enum { THREE = 3, LINES = 2 * THREE };
INLINE int cut_for(int held) { return 45 - 8 * (held > 2 ? held : 2); }
#define FMA_CODE __attribute__((target("avx2,fma")))

/* Packs `rows` of `depth` words each, `stride` apart, in lines side by side. */
static FMA_CODE void pack_lines(const word *left, double *packed, size rows, size stride, size depth, int cut) {
    const word half = (word)1 << (cut - 1), mask = 2 * half - 1;
    for (size row = 0; row < rows; row += THREE)
        for (size k = 0; k < depth; k++)
            for (size i = row; i < row + THREE; i++) {
                const word x = i < rows ? left[i * stride + k] : 0, low = ((x + half) & mask) - half;
                *packed++ = (double)(int64_t)low;
                *packed++ = (double)(int64_t)(((((x - low) >> cut) + half) & mask) - half);
            }
}

/* Whole numbers below 2^51 as words. */
INLINE FMA_CODE __m256i whole(__m256d x) {
    const __m256d magic = _mm256_set1_pd(0x1.8p52);
    return _mm256_sub_epi64(_mm256_castpd_si256(_mm256_add_pd(x, magic)), _mm256_castpd_si256(magic));
}

/* THREE rows, 8 columns, over `depth` ≤ FEW_DEPTH. */
static FMA_CODE void lines(int rows, int columns, const double *left, const double *right, size width, word *out,
                           size stride, size depth, int cut, int first) {
    __m256d sum[LINES][2];
#pragma GCC unroll 6
    for (int line = 0; line < LINES; line++) sum[line][0] = sum[line][1] = _mm256_setzero_pd();
    for (size k = 0; k < depth; k++, left += LINES, right += width) {
        const __m256d b0 = _mm256_loadu_pd(right), b1 = _mm256_loadu_pd(right + 4);
#pragma GCC unroll 6
        for (int line = 0; line < LINES; line++) {
            const __m256d a = _mm256_broadcast_sd(left + line);
            sum[line][0] = _mm256_fmadd_pd(a, b0, sum[line][0]);
            sum[line][1] = _mm256_fmadd_pd(a, b1, sum[line][1]);
        }
    }
    const __m128i by = _mm_cvtsi32_si128(cut);
#pragma GCC unroll 3
    for (int row = 0; row < THREE; row++) {
        word found[LANES], *const to = out + row * stride;
        if (row >= rows) continue;
#pragma GCC unroll 2
        for (int part = 0; part < 2; part++) {
            const __m256i high = _mm256_sll_epi64(whole(sum[2 * row + 1][part]), by);
            const __m256i both = _mm256_add_epi64(whole(sum[2 * row][part]), high);
            __m256i *const place = (__m256i *)(columns < LANES ? found : to) + part;
            const __m256i before = first || columns < LANES ? _mm256_setzero_si256() : _mm256_loadu_si256(place);
            _mm256_storeu_si256(place, _mm256_add_epi64(both, before));
        }
        for (int lane = 0; columns < LANES && lane < columns; lane++) to[lane] = found[lane] + (first ? 0 : to[lane]);
    }
}

/* As `product`, from words in panels that `narrow` has made floats. */
static FMA_CODE void few_digits(int held, const word *left, const word *panels, word *out, size m, size p, size q,
                                size start, size stop, word *scratch) {
    const int cut = cut_for(held);
    for (size k = 0; k < p; k += FEW_DEPTH) {
        const size depth = least(FEW_DEPTH, p - k);
        for (size block = 0; block < m; block += BLOCK) {
            const size end = least(m, block + BLOCK);
            pack_lines(left + block * p + k, (double *)scratch, end - block, p, depth, cut);
            for (size column = start; column < stop; column += LANES) {
                const size panel = column / PANEL * PANEL, width = filled(least(PANEL, q - panel));
                const double *const from = (const double *)panels + panel * p + k * width + (column - panel);
                const int columns = (int)least(LANES, q - column);
                for (size row = block; row < end; row += THREE)
                    lines((int)least(THREE, end - row), columns, (double *)scratch + 2 * (row - block) * depth, from, width,
                          out + row * q + column, q, depth, cut, k == 0);
            }
        }
    }
}

static void narrow(word *panels, size count) {
    for (size i = 0; i < count; i++) ((double *)panels)[i] = (double)(int64_t)panels[i];
}

#define AVX512_CODE __attribute__((target("avx512f,avx512dq,avx512ifma")))

INLINE AVX512_CODE __m512i multiply_add(const int kind, __m512i sum, __m512i a, __m512i b) {
    return kind == IFMA ? _mm512_madd52lo_epu64(sum, a, b) : _mm512_add_epi64(sum, _mm512_mullo_epi64(a, b));
}

/* A tile whose kind, rows and vectors are constants, so that its sums are registers. */
INLINE AVX512_CODE void fixed(const int kind, const int rows, const int vectors, int columns, const word *left,
                       const word *right, word *out, size stride, size depth, int first) {
    const __mmask8 last = (__mmask8)(0xff >> (LANES * vectors - columns)), none = first ? 0 : 0xff;
    __m512i sum[ROWS][PANEL / LANES], b[PANEL / LANES];
#pragma GCC unroll 8
    for (int row = 0; row < rows; row++)
#pragma GCC unroll 3
        for (int vector = 0; vector < vectors; vector++) {
            const __mmask8 mask = none & (vector == vectors - 1 ? last : 0xff);
            sum[row][vector] = _mm512_maskz_loadu_epi64(mask, out + row * stride + LANES * vector);
        }
    for (size k = 0; k < depth; k++) {
#pragma GCC unroll 3
        for (int vector = 0; vector < vectors; vector++)
            b[vector] = _mm512_loadu_si512(right + (k * vectors + vector) * LANES);
#pragma GCC unroll 8
        for (int row = 0; row < rows; row++) {
            const __m512i a = _mm512_set1_epi64((long long)left[k * rows + row]);
#pragma GCC unroll 3
            for (int vector = 0; vector < vectors; vector++)
                sum[row][vector] = multiply_add(kind, sum[row][vector], a, b[vector]);
        }
    }
#pragma GCC unroll 8
    for (int row = 0; row < rows; row++)
#pragma GCC unroll 3
        for (int vector = 0; vector < vectors; vector++) {
            const __mmask8 mask = vector == vectors - 1 ? last : 0xff;
            _mm512_mask_storeu_epi64(out + row * stride + LANES * vector, mask, sum[row][vector]);
        }
}

#define CASE(kind, rows, vectors)                                                                                      \
    case 4 * (rows) + (vectors):                                                                                       \
        fixed(kind, rows, vectors, columns, left, right, out, stride, depth, first);                                   \
        break;
#define CASES(kind, rows) CASE(kind, rows, 1) CASE(kind, rows, 2) CASE(kind, rows, 3)
#define TILE(name, kind)                                                                                               \
    static AVX512_CODE void name(int rows, int columns, const word *left, const word *right, word *out, size stride,   \
                                 size depth, int first) {                                                              \
        switch (4 * rows + filled(columns) / LANES) { CASES(kind, 8) CASES(kind, 4) CASES(kind, 2) CASES(kind, 1) }    \
    }

TILE(avx512, AVX512)
TILE(ifma, IFMA)
#endif

static tile *tile_of(int kind) {
#ifdef X86
    if (kind == IFMA) return ifma;
    if (kind == AVX512) return avx512;
    if (kind == AVX2) return avx2;
#endif
    return portable;
}

/* The kind of a name, or -1 if this processor and its operating system do not run it. */
int kind_named(const char *name) {
#ifdef X86
    const int wide = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq");
    if (!strcmp(name, "ifma") && wide && __builtin_cpu_supports("avx512ifma")) return IFMA;
    if (!strcmp(name, "avx512") && wide) return AVX512;
    if (!strcmp(name, "avx2") && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return AVX2;
#endif
    const int digits = strncmp(name, "amx", 3) ? 0 : atoi(name + 3) / 8;
    if (digits >= 4 && digits <= 8 && amx_there()) return AMX + digits;
    return strcmp(name, "portable") ? -1 : PORTABLE;
}

/* The ring in which a product is right with a matrix whose words hold in `held` digits, if it is packed as such. */
int few_bits(int kind, int held) {
#ifdef X86
    if (kind == AVX2 && held <= FEW) return 2 * cut_for(held);
#endif
    return kind == IFMA ? 52 : kind > AMX ? 8 * (kind - AMX) : 64;
}

/* Packs right (p × q, or q × p that stands transposed) in panels. */
void pack_right(int kind, int held, const word *right, word *panels, size p, size q, int transposed) {
    if (kind > AMX) {
        amx_pack_right(kind - AMX, held, right, panels, p, q, transposed);
        return;
    }
    for (size start = 0; start < q; start += PANEL) {
        const int columns = (int)least(PANEL, q - start);
        const size width = filled(columns);
        word *to = panels + start * p;
        for (size k = 0; k < p; k++, to += width) {
            if (transposed)
                for (int column = 0; column < columns; column++) to[column] = right[(start + column) * p + k];
            else
                memcpy(to, right + k * q + start, sizeof(word) * (size_t)columns);
            memset(to + columns, 0, sizeof(word) * (size_t)(width - columns));
        }
    }
#ifdef X86
    if (kind == AVX2 && held <= FEW) narrow(panels, p * filled(q));
#endif
}

static int group(size rows) { return rows >= 8 ? 8 : rows >= 4 ? 4 : rows >= 2 ? 2 : 1; }

static void pack_left(const word *left, word *packed, size m, size stride, size depth) {
    for (size row = 0; row < m;) {
        const int rows = group(m - row);
        for (size k = 0; k < depth; k++)
            for (int i = 0; i < rows; i++) *packed++ = left[(row + i) * stride + k];
        row += rows;
    }
}

/* Words that a right matrix takes in panels, and words that `product` takes for a block of the left one. */
size panel_words(int kind, int held, size p, size q) {
    return kind > AMX ? amx_panel_words(kind - AMX, held, p, q) : p * filled(q);
}
size block_words(int kind, size m, size p) {
    if (kind > AMX) return amx_block_words(kind - AMX, m, p);
    const size rows = least(m, BLOCK), words = rows * least(p, DEPTH), lines_of = 2 * (rows + 2) * least(p, FEW_DEPTH);
    return kind == AVX2 && lines_of > words ? lines_of : words;
}

/* Columns of out (m × q) = left (m × p) times a right matrix in panels: from `start`, the first of a panel, to `stop`,
   the first of another, or q. scratch: block_words(kind, m, p). */
void product(int kind, int held, const word *left, const word *panels, word *out, size m, size p, size q, size start,
             size stop, word *scratch) {
    if (p == 0)
        for (size row = 0; row < m; row++)
            memset(out + row * q + start, 0, sizeof(word) * (size_t)(stop - start));
    if (kind > AMX) {
        amx_product(kind - AMX, held, left, panels, out, m, p, q, start, stop, scratch);
        return;
    }
#ifdef X86
    if (kind == AVX2 && held <= FEW) {
        few_digits(held, left, panels, out, m, p, q, start, stop, scratch);
        return;
    }
#endif
    tile *const multiply = tile_of(kind);
    for (size k = 0; k < p; k += DEPTH) {
        const size depth = least(DEPTH, p - k);
        for (size block = 0; block < m; block += BLOCK) {
            const size end = least(m, block + BLOCK);
            pack_left(left + block * p + k, scratch, end - block, p, depth);
            for (size column = start; column < stop; column += PANEL) {
                const int columns = (int)least(PANEL, q - column);
                const word *from = panels + column * p + k * filled(columns), *packed = scratch;
                for (size row = block; row < end;) {
                    const int rows = group(end - row);
                    multiply(rows, columns, packed, from, out + row * q + column, q, depth, k == 0);
                    packed += rows * depth;
                    row += rows;
                }
            }
        }
    }
}

/* `count` products of matrices that lie one after another, of words as they are.
   scratch: panel_words(kind, WORD_DIGITS, p, q) + block_words(kind, m, p). */
void products(int kind, const word *left, const word *right, word *out, size count, size m, size p, size q,
              int transposed, word *scratch) {
    word *const block = scratch + panel_words(kind, WORD_DIGITS, p, q);
    for (size i = 0; i < count; i++) {
        pack_right(kind, WORD_DIGITS, right + i * p * q, scratch, p, q, transposed);
        product(kind, WORD_DIGITS, left + i * m * p, scratch, out + i * m * q, m, p, q, 0, q, block);
    }
}
