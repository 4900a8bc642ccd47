/* The k largest of each row of similarities, on CPUs: bisection for the k-th largest, then one pass that keeps.
 *
 * A row is read as integers that are ordered as its floats are, so that halving the range between its least and its
 * largest ends after at most 32 rounds, and sooner once exactly k lie above. A row stays in the first-level cache. */
#include "threads.h"
#include "vectors.h"

#define ROWS_PER_TASK 32
/* Below every number: tokens of another region. */
#define OUTSIDE INT32_MIN

typedef struct {
    int tokens, k, regions; /* regions: rows of labels, repeated along the windows; 0 where there are none */
    const float *similarities; /* (B, N, N) */
    const int64_t *labels;     /* (R, N) */
    uint8_t *mask;             /* (B, N, N), to be written */
    int first_window;
} Selection;

/* Integers in the order of the floats: both zeros alike, NaN as minus infinity. */
static void order_row(const float *restrict row, int n, int32_t *restrict ordered) {
    for (int j = 0; j < n; j++) {
        float x = row[j] == row[j] ? row[j] + 0.0f : -INFINITY;
        int32_t bits;
        memcpy(&bits, &x, sizeof bits);
        ordered[j] = bits ^ ((bits >> 31) & INT32_MAX);
    }
}

static void exclude(const int64_t *restrict labels, int64_t own, int n, int32_t *restrict ordered) {
    for (int j = 0; j < n; j++) ordered[j] = labels[j] == own ? ordered[j] : OUTSIDE;
}

static int count_from(const int32_t *ordered, int n, int32_t least) {
    int count = 0;
    for (int j = 0; j < n; j++) count += ordered[j] >= least;
    return count;
}

/* Keep the k largest, of equal ones the first; all that are not OUTSIDE where those are fewer. */
static void keep_largest(const int32_t *restrict ordered, int n, int k, uint8_t *restrict mask) {
    /* As unsigned integers less one, OUTSIDE is above all others. */
    uint32_t nearest = UINT32_MAX;
    int32_t most = OUTSIDE;
    for (int j = 0; j < n; j++) {
        uint32_t above = ((uint32_t)ordered[j] ^ (uint32_t)OUTSIDE) - 1;
        nearest = above < nearest ? above : nearest;
        most = ordered[j] > most ? ordered[j] : most;
    }
    int32_t least = (int32_t)((nearest + 1) ^ (uint32_t)OUTSIDE);
    int kept = count_from(ordered, n, least);
    /* At least k are `least` or more, or all are kept; fewer than k are `beyond` or more. */
    int64_t beyond = (int64_t)most + 1;
    while (kept > k && beyond - least > 1) {
        int32_t middle = (int32_t)(least + (beyond - least) / 2);
        int count = count_from(ordered, n, middle);
        if (count >= k) {
            least = middle;
            kept = count;
        } else {
            beyond = middle;
        }
    }
    for (int j = 0; j < n; j++) mask[j] = ordered[j] >= least;
    for (int j = n - 1; kept > k; j--) /* the last of those equal to the k-th largest */
        if (ordered[j] == least) {
            mask[j] = 0;
            kept--;
        }
}

static void select_rows(const void *arguments, int task, void *scratch) {
    const Selection *a = arguments;
    int n = a->tokens, parts = (n + ROWS_PER_TASK - 1) / ROWS_PER_TASK;
    int window = task / parts, first = task % parts * ROWS_PER_TASK;
    int last = first + ROWS_PER_TASK < n ? first + ROWS_PER_TASK : n;
    for (int i = first; i < last; i++) {
        ptrdiff_t row = ((ptrdiff_t)window * n + i) * n;
        order_row(a->similarities + row, n, scratch);
        if (a->regions) {
            const int64_t *labels = a->labels + (ptrdiff_t)((a->first_window + window) % a->regions) * n;
            exclude(labels, labels[i], n, scratch);
        }
        keep_largest(scratch, n, a->k, a->mask + row);
    }
}

/* Fill the mask of `windows` windows, of which the first is number `first_window` of the batch; 0, or 1 where memory
 * ran out. */
int select_keys(const float *similarities, const int64_t *labels, uint8_t *mask, int windows, int tokens, int k,
                int regions, int first_window, int threads) {
    Selection selection = {.tokens = tokens, .k = k, .regions = regions, .similarities = similarities,
                           .labels = labels, .mask = mask, .first_window = first_window};
    int tasks = windows * ((tokens + ROWS_PER_TASK - 1) / ROWS_PER_TASK);
    return run_tasks(select_rows, &selection, tasks, threads, sizeof(int32_t) * tokens);
}
