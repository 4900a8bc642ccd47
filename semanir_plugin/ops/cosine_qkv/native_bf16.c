/* The same heads, read and written as bfloat16; lengths and gradients are computed as floats. */
#define BF16 1
#include "native.c"
