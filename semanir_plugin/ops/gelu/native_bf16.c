/* The same of bfloat16, computed as floats and rounded once. */
#define BF16 1
#include "native.c"
