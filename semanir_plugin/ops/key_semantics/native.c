/* The dictionary on CPUs: half of the symmetric matrix of similarities, then the k largest of each of its rows, by a
 * search for a number that just k reach and one pass that keeps.
 *
 * The search begins where that of the row before ended, since neighbouring queries are alike, and goes on as if numbers
 * lay evenly between two whose counts are known; where they do not, by halves. A row stays in the first-level cache. */
#include "threads.h"
#include "vectors.h"

/* --- similarities --- */

/* Side of the blocks that are computed and mirrored: a multiple of ROWS and of VECTORS * LANES. */
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

/* Rows that are searched side by side, so that a processor counts in one while it waits for the count of another; and
 * those that follow on each of them. */
#define SIDE_BY_SIDE 8
#define FOLLOWING 8
/* Rounds of a search after which it goes by halves and past ties, in turn. */
#define QUICK_ROUNDS 16

typedef struct {
    int tokens, k, regions; /* regions: rows of labels, repeated along the windows; 0 where there are none */
    const float *similarities; /* (B, N, N) */
    const int64_t *labels;     /* (R, N) */
    uint8_t *mask;             /* (B, N, N), to be written */
    int first_window;
} Selection;

/* The search for a row's k-th largest. */
typedef struct {
    const float *row;
    int candidates;    /* its numbers that are not NaN */
    int32_t low, high; /* places of numbers of which `reach` >= k of the row reach the one, fewer than k the other */
    int reach;
    float over, under; /* how far their counts are from k; halved at one end when the other moves again */
    float next;        /* to be tried; at the end, what just k reach */
    float density;     /* how many numbers lie in a range of 1, near the k-th */
    float first;       /* what was tried first, and how many reached it */
    int first_count;
    int round, enough; /* rounds so far, and whether k or more reached what the last one tried: -1 before the first */
    float step;        /* factor of the next step towards an end that is not known */
} Search;

/* A number's place among all floats in their order, or the number at a place. */
INLINE int32_t place_of(float x) {
    int32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits ^ ((bits >> 31) & INT32_MAX);
}

INLINE float number_at(int32_t place) {
    float x;
    place ^= (place >> 31) & INT32_MAX;
    memcpy(&x, &place, sizeof x);
    return x;
}

/* Vectors of a row that are read at a time, and numbers of a row filled up to these. */
#define AT_ONCE 4
static int filled(int n) { return (n + AT_ONCE * LANES - 1) / (AT_ONCE * LANES) * (AT_ONCE * LANES); }

/* Copy a row, NaN as minus infinity, and fill it up with NaN, which no number is below and which reaches none. */
static void copy_row(const float *restrict row, int n, float *restrict to) {
    for (int j = 0; j < n; j++) to[j] = row[j] == row[j] ? row[j] : -INFINITY;
    for (int j = n; j < filled(n); j++) to[j] = NAN;
}

/* Make NaN of the tokens of other regions. */
static void exclude(const int64_t *restrict labels, int64_t own, int n, float *restrict row) {
    for (int j = 0; j < n; j++) row[j] = labels[j] == own ? row[j] : NAN;
}

static int count_from(const float *row, int n, float least) {
    vi count[AT_ONCE];
    UNROLL for (int i = 0; i < AT_ONCE; i++) count[i] = splat_bits(0);
    for (int j = 0; j < n; j += AT_ONCE * LANES)
        UNROLL for (int i = 0; i < AT_ONCE; i++) count[i] -= load(row + j + i * LANES) >= splat(least);
    UNROLL for (int i = 1; i < AT_ONCE; i++) count[0] += count[i];
    return (int)total_of(__builtin_convertvector(count[0], vf));
}

/* The least number from `least` on. */
static float next_from(const float *row, int n, float least) {
    vf next = splat(INFINITY);
    for (int j = 0; j < n; j += LANES) {
        vf x = load(row + j);
        vi reaches = x >= splat(least);
        next = smaller((vf)(((vi)x & reaches) | ((vi)splat(INFINITY) & ~reaches)), next);
    }
    return -largest_of(-next);
}

/* Guess as if the numbers of a row lay evenly. */
static void guess_evenly(Search *s, int n, int k) {
    vf most = splat(-INFINITY), least = splat(INFINITY);
    for (int j = 0; j < n; j += LANES) {
        vf x = load(s->row + j);
        most = larger(x, most); /* NaN is passed over */
        least = smaller(x, least);
    }
    float above = largest_of(most), below = -largest_of(-least);
    s->density = n / (above - below);
    s->next = above - k / s->density;
}

INLINE int is_over(const Search *s, int k) { return s->reach <= k || (int64_t)s->high - s->low <= 1; }

/* Begin at `next`, with `density`. */
static void begin(Search *s) {
    s->low = place_of(-INFINITY);
    s->high = place_of(INFINITY) + 1;
    s->reach = s->candidates;
    s->over = s->under = 0;
    s->step = 1;
    s->round = 0;
    s->enough = -1;
}

/* Try `next`, and find what to try then. */
INLINE void advance(Search *s, int n, int k) {
    int32_t place = place_of(s->next);
    place = place <= s->low ? s->low + 1 : place >= s->high ? s->high - 1 : place;
    float tried = number_at(place);
    int count = count_from(s->row, n, tried), enough = count >= k;
    float old_over = s->enough == 0 ? s->over * 0.5f : s->over, old_under = s->enough == 1 ? s->under * 0.5f : s->under;
    s->low = enough ? place : s->low;
    s->high = enough ? s->high : place;
    s->reach = enough ? count : s->reach;
    s->over = enough ? count - k + 0.5f : old_over;
    s->under = enough ? old_under : k - count - 0.5f;
    s->enough = enough;
    if (s->round == 0) s->first = tried, s->first_count = count;
    else if (s->round <= 2 && abs(count - s->first_count) >= 4)
        s->density = (count - s->first_count) / (s->first - tried);

    float below = number_at(s->low), above = number_at(s->high);
    if (s->round >= QUICK_ROUNDS && s->round % 2)
        s->next = number_at((int32_t)(s->low + ((int64_t)s->high - s->low) / 2));
    else if (s->round >= QUICK_ROUNDS)
        s->next = nextafterf(next_from(s->row, n, below), INFINITY);
    else if (s->low == place_of(-INFINITY)) /* a third further than where it seems to be, to come to its other side */
        s->next = above - (1.3f * s->under + 1) / s->density * s->step, s->step *= 2;
    else if (s->high > place_of(INFINITY))
        s->next = below + (1.3f * s->over + 1) / s->density * s->step, s->step *= 2;
    else
        s->next = below + (above - below) * (s->over / (s->over + s->under));
    s->round++;
}

/* Keep the k largest, of equal ones the first; all candidates where those are fewer. */
static void keep_largest(Search *s, int n, int k, uint8_t *restrict mask) {
    const float *restrict row = s->row;
    float least = number_at(s->low);
    int kept = s->reach;
    for (int j = 0; j < n; j++) mask[j] = row[j] >= least;
    for (int j = n - 1; kept > k; j--) /* the last of those equal to the k-th largest */
        if (row[j] == least) {
            mask[j] = 0;
            kept--;
        }
    s->next = least;
}

static void select_rows(const void *arguments, int task, void *scratch) {
    const Selection *a = arguments;
    int n = a->tokens, k = a->k, per_task = SIDE_BY_SIDE * FOLLOWING, parts = (n + per_task - 1) / per_task;
    int window = task / parts, first = task % parts * per_task;
    const int64_t *labels = a->labels + (a->regions ? (ptrdiff_t)((a->first_window + window) % a->regions) * n : 0);
    Search searches[SIDE_BY_SIDE];
    for (int step = 0; step < FOLLOWING; step++) {
        int going = 0, last = 0;
        for (int r = 0; r < SIDE_BY_SIDE; r++) {
            int i = first + r * FOLLOWING + step;
            if (i >= n) break;
            Search *s = &searches[r];
            float *row = (float *)scratch + (ptrdiff_t)r * filled(n);
            copy_row(a->similarities + ((ptrdiff_t)window * n + i) * n, n, row);
            if (a->regions) exclude(labels, labels[i], n, row);
            s->row = row;
            s->candidates = a->regions ? count_from(row, n, -INFINITY) : n;
            if (!step) guess_evenly(s, n, k);
            begin(s);
            going |= !is_over(s, k);
            last = r + 1;
        }
        while (going) {
            going = 0;
            for (int r = 0; r < last; r++)
                if (!is_over(&searches[r], k)) {
                    advance(&searches[r], n, k);
                    going = 1;
                }
        }
        for (int r = 0; r < last; r++) {
            int i = first + r * FOLLOWING + step;
            keep_largest(&searches[r], n, k, a->mask + ((ptrdiff_t)window * n + i) * n);
        }
    }
}

/* --- what Python calls; 1 where memory ran out, else 0 --- */

/* Tokens of a window in what `multiply` packs: whole blocks of them. */
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
    int per_task = SIDE_BY_SIDE * FOLLOWING, tasks = windows * ((tokens + per_task - 1) / per_task);
    return run_tasks(select_rows, &selection, tasks, threads, sizeof(float) * SIDE_BY_SIDE * filled(tokens));
}
