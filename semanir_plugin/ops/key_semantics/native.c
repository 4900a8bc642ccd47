/* The dictionary on CPUs: half of the symmetric matrix of similarities, then the k largest of each of its rows, by
 * bisection for the k-th largest and one pass that keeps.
 *
 * A row is read as integers that are ordered as its floats are, so that halving the range between its least and its
 * largest ends after at most 32 rounds, and sooner once exactly k lie above. A row stays in the first-level cache. */
#include "threads.h"
#include "vectors.h"

/* --- similarities --- */

/* Rows and vectors of columns of a product held in registers, and the side of the blocks that are computed and mirrored:
 * a multiple of both. */
#define ROWS (LANES == 16 ? 12 : 6)
#define VECTORS 2
#define BLOCK 96

typedef struct {
    int tokens, channels;
    const float *x;      /* (B, N, C) */
    float *packed;       /* (B, blocks, C, BLOCK): the tokens of a block beside each other, zeros where there are none */
    float *similarities; /* (B, N, N), to be written */
} Product;

static int block_count(int tokens) { return (tokens + BLOCK - 1) / BLOCK; }

static void pack_block(const void *arguments, int task, void *scratch) {
    const Product *a = arguments;
    int n = a->tokens, blocks = block_count(n), first = task % blocks * BLOCK, channels = a->channels;
    const float *x = a->x + ((ptrdiff_t)(task / blocks) * n + first) * channels;
    float *packed = a->packed + (ptrdiff_t)task * channels * BLOCK;
    (void)scratch;
    for (int i = 0; i < BLOCK; i += LANES)
        for (int c = 0; c < channels; c += LANES) {
            vf square[LANES];
            for (int r = 0; r < LANES; r++)
                square[r] = first + i + r < n ? load_channels(x + (ptrdiff_t)(i + r) * channels, c, channels) : splat(0.0f);
            transpose(square);
            for (int r = 0; r < LANES && c + r < channels; r++) store(packed + (ptrdiff_t)(c + r) * BLOCK + i, square[r]);
        }
}

/* Products of ROWS tokens with VECTORS vectors of them. */
INLINE void product_tile(int channels, const float *const *rows, const float *columns, float *to) {
    vf sum[ROWS][VECTORS];
    UNROLL for (int r = 0; r < ROWS; r++)
        UNROLL for (int j = 0; j < VECTORS; j++) sum[r][j] = splat(0.0f);
    for (int c = 0; c < channels; c++) {
        vf x[VECTORS];
        UNROLL for (int j = 0; j < VECTORS; j++) x[j] = load_once(columns + (ptrdiff_t)c * BLOCK + j * LANES);
        UNROLL for (int r = 0; r < ROWS; r++) {
            vf y = splat(rows[r][c]);
            UNROLL for (int j = 0; j < VECTORS; j++) sum[r][j] += y * x[j];
        }
    }
    UNROLL for (int r = 0; r < ROWS; r++)
        UNROLL for (int j = 0; j < VECTORS; j++) store(to + r * BLOCK + j * LANES, sum[r][j]);
}

/* Copy the part of a block that exists, BLOCK floats per row, to rows of the matrix. */
static void write_block(const float *block, int rows, int columns, ptrdiff_t stride, float *to) {
    for (int i = 0; i < rows; i++) memcpy(to + i * stride, block + i * BLOCK, sizeof(float) * columns);
}

static void mirror_block(const float *block, int rows, int columns, ptrdiff_t stride, float *to) {
    for (int i = 0; i < rows; i += LANES)
        for (int j = 0; j < columns; j += LANES) {
            vf square[LANES];
            for (int r = 0; r < LANES; r++) square[r] = load(block + (i + r) * BLOCK + j);
            transpose(square);
            for (int r = 0; r < LANES && j + r < columns; r++) store_channels(to + (j + r) * stride, i, rows, square[r]);
        }
}

static void multiply_blocks(const void *arguments, int task, void *scratch) {
    const Product *a = arguments;
    int n = a->tokens, blocks = block_count(n), pairs = blocks * (blocks + 1) / 2, pair = task % pairs, i = 0;
    for (; pair >= blocks - i; i++) pair -= blocks - i;
    int j = i + pair, window = task / pairs, first = i * BLOCK, second = j * BLOCK;
    int rows = n - first < BLOCK ? n - first : BLOCK, columns = n - second < BLOCK ? n - second : BLOCK;
    const float *x = a->x + (ptrdiff_t)window * n * a->channels;
    const float *packed = a->packed + ((ptrdiff_t)window * blocks + j) * a->channels * BLOCK;
    float *block = scratch, *to = a->similarities + (ptrdiff_t)window * n * n;
    for (int r = 0; r < rows; r += ROWS) {
        const float *tile[ROWS];
        for (int t = 0; t < ROWS; t++) /* past the last token: that one again */
            tile[t] = x + (ptrdiff_t)(first + (r + t < rows ? r + t : rows - 1)) * a->channels;
        for (int c = 0; c < columns; c += VECTORS * LANES)
            product_tile(a->channels, tile, packed + c, block + r * BLOCK + c);
    }
    write_block(block, rows, columns, n, to + (ptrdiff_t)first * n + second);
    if (i != j) mirror_block(block, rows, columns, n, to + (ptrdiff_t)second * n + first);
}

/* --- selection --- */

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

/* --- what Python calls; 1 where memory ran out, else 0 --- */

/* Floats per token and channel of what `multiply` packs. */
int packed_tokens(int tokens) { return block_count(tokens) * BLOCK; }

/* Products of all pairs of tokens of a window: x (windows, tokens, channels), packed (windows, packed_tokens, channels)
 * to work in, similarities (windows, tokens, tokens). */
int multiply(const float *x, float *packed, float *similarities, int windows, int tokens, int channels, int threads) {
    Product product = {tokens, channels, x, packed, similarities};
    int blocks = block_count(tokens), pairs = blocks * (blocks + 1) / 2;
    return run_tasks(pack_block, &product, windows * blocks, threads, 0) ||
           run_tasks(multiply_blocks, &product, windows * pairs, threads, sizeof(float) * BLOCK * BLOCK);
}

/* Fill the mask of `windows` windows, of which the first is number `first_window` of the batch. */
int select_keys(const float *similarities, const int64_t *labels, uint8_t *mask, int windows, int tokens, int k,
                int regions, int first_window, int threads) {
    Selection selection = {.tokens = tokens, .k = k, .regions = regions, .similarities = similarities,
                           .labels = labels, .mask = mask, .first_window = first_window};
    int tasks = windows * ((tokens + ROWS_PER_TASK - 1) / ROWS_PER_TASK);
    return run_tasks(select_rows, &selection, tasks, threads, sizeof(int32_t) * tokens);
}
