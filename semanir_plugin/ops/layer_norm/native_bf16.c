/* The same, of rows of bfloat16; all in between, weight and bias are floats. */
#define BF16 1
#include "native.c"
