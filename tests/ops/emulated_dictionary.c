/* The dictionary's kernel as a program: the similarities of windows, then their masks; sizes as arguments. */
#include "key_semantics/native.c"

#include <stdio.h>

int main(int count, char **sizes) {
    if (count != 5) return 2;
    int windows = atoi(sizes[1]), n = atoi(sizes[2]), channels = atoi(sizes[3]), k = atoi(sizes[4]);
    float *x = malloc(sizeof(float) * windows * n * channels), *s = malloc(sizeof(float) * windows * n * n);
    float *packed = malloc(sizeof(float) * windows * packed_tokens(n) * channels);
    uint8_t *mask = malloc((size_t)windows * n * n);
    if (fread(x, sizeof(float) * n * channels, windows, stdin) != (size_t)windows) return 3;
    if (multiply(x, packed, s, windows, n, channels, 2)) return 4;
    if (select_keys(s, NULL, mask, windows, n, k, 0, 0, 2)) return 5;
    return fwrite(mask, (size_t)n * n, windows, stdout) != (size_t)windows;
}
