/* What the native kernels share: words of the ring, which wrap mod 2^64. */

#include <stdint.h>

#define INLINE static inline __attribute__((always_inline))

#if defined(__x86_64__) && defined(__GNUC__)
#define X86 1
#endif

/* Compiled once more for processors with AVX-512; the loader takes what fits. */
#if defined(X86) && defined(__GLIBC__) && !defined(__clang__) && __GNUC__ >= 12
#define FORMULA __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define FORMULA
#endif

typedef int64_t size;
typedef uint64_t word;

INLINE size least(size a, size b) { return a < b ? a : b; }
