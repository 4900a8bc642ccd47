/* The same attention of bfloat16: products of pairs, summed as floats; weights and gradients of scores are rounded before
 * they are multiplied. Widths are even. */
#define BF16 1
#include "native.c"
