/* Groups of neighbouring queries, and for each the list of keys that any of them chose. */
#ifndef SEMANIR_LISTS_H
#define SEMANIR_LISTS_H

#include "numbers.h"

/* Queries in a group, lanes of VECTORS vectors; neighbours in one row of the window, and rows of a window that a vector
 * has. */
#define GROUP (VECTORS * LANES)
#define RUN (LANES < 8 ? LANES : 8)
#define RUNS (LANES / RUN)
/* What sides of windows must be multiples of for groups to be blocks of rows: the larger of two powers of two. */
#define SIDE_STEP (RUN > VECTORS * RUNS ? RUN : VECTORS * RUNS)
typedef float run __attribute__((vector_size(4 * RUN), aligned(4), may_alias));
/* Keys, or channels, whose products are held in registers at once where fewer than ROWS are left over. */
#define STEP (LANES == 16 ? 4 : 2)
#define CHUNK 120 /* keys whose scores are held at once, a multiple of ROWS */
#define LOG2E 1.44269504088896340736f

static int up_to(int n, int multiple) { return (n + multiple - 1) / multiple * multiple; }

static int group_count(int tokens) { return up_to(tokens, GROUP) / GROUP; }

/* Entries per list: behind the keys that were chosen stands the last one again, chosen by none, up to a whole STEP. */
static int list_length(int tokens) { return up_to(tokens, STEP); }

/* Side of windows whose groups are blocks of rows of RUN; 0 where groups are simply GROUP tokens after another. */
static int block_side(int tokens) {
    int side = (int)lrint(sqrt((double)tokens));
    return side * side == tokens && side % SIDE_STEP == 0 ? side : 0;
}

/* First token of each run of a group; lanes of a run are tokens in turn. Past the last token where there are none. */
static void runs_of(int tokens, int group, int *first) {
    int side = block_side(tokens), columns = side / RUN;
    for (int r = 0; r < VECTORS * RUNS; r++)
        first[r] = side ? (group / columns * VECTORS * RUNS + r) * side + group % columns * RUN : group * GROUP + r * RUN;
}

static int token_of(const int *first, int lane) { return first[lane / RUN] + lane % RUN; }

typedef struct {
    int tokens;
    const uint8_t *mask; /* (B, N, N) */
    int32_t *counts, *keys;
    uint32_t *bits;
} Listing;

static void list_task(const void *arguments, int task, void *scratch) {
    const Listing *a = arguments;
    int n = a->tokens, groups = group_count(n), length = list_length(n), count = 0, first[VECTORS * RUNS];
    const uint8_t *mask = a->mask + (ptrdiff_t)(task / groups) * n * n;
    int32_t *keys = a->keys + (ptrdiff_t)task * length;
    uint32_t *bits = a->bits + (ptrdiff_t)task * length, *words = scratch;
    runs_of(n, task % groups, first);
    memset(words, 0, sizeof *words * n);
    for (int lane = 0; lane < GROUP; lane++) {
        int token = token_of(first, lane);
        if (token >= n) continue;
        const uint8_t *row = mask + (ptrdiff_t)token * n;
        for (int j = 0; j < n; j++) words[j] |= (uint32_t)row[j] << lane;
    }
    for (int j = 0; j < n; j++) {
        bits[count] = words[j];
        keys[count] = j;
        count += words[j] != 0;
    }
    a->counts[task] = count;
    for (int c = count; c < up_to(count, STEP); c++) bits[c] = 0, keys[c] = keys[count - 1];
}

#endif
