/* Products by signed digits of 8 bits, in the processor's matrix unit (AMX). `digits`: 4 to 8, for a ring of 8 · digits bits.
`held`: that hold each word of the right matrix; equal where it is packed and where it is multiplied by.

What is packed begins on a line of the cache; sizes are in words. */

#include "words.h"

enum { AMX_ROWS = 128, AMX_DEPTH = 768 }; /* of a block of the left matrix */

/* Whether this processor has it, and the operating system lets this process use it. Asking is for good, for all its
   threads and children: each then needs 8 KB more to be interrupted in, and an alternate stack for signals that has not as
   much room is refused. */
int amx_there(void);

size amx_panel_words(int digits, int held, size p, size q);
size amx_block_words(int digits, size m, size p);
void amx_pack_right(int digits, int held, const word *right, word *panels, size p, size q, int transposed);
void amx_product(int digits, int held, const word *left, const word *panels, word *out, size m, size p, size q,
                 size start, size stop, word *scratch);
