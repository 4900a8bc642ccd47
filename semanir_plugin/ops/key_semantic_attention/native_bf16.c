/* The same attention of bfloat16: products of pairs, summed as floats. Weights and gradients of scores are rounded before
 * they are multiplied; the result is not, nor what its gradient is compared with. Widths are even. */
#define BF16 1
#include "native.c"
