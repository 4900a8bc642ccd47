/* Threads for native kernels: tasks shared out among those of PyTorch's own OpenMP, or among POSIX ones. */
#ifndef SEMANIR_THREADS_H
#define SEMANIR_THREADS_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    void (*work)(const void *arguments, int task, void *scratch);
    const void *arguments;
    size_t scratch_bytes;
    int tasks;
    atomic_int next, failed;
} Job;

static void *worker(void *pointer) {
    Job *job = pointer;
    size_t bytes = (job->scratch_bytes + 63) / 64 * 64;
    void *scratch = aligned_alloc(64, bytes ? bytes : 64);
    if (!scratch) {
        atomic_store(&job->failed, 1);
        return NULL;
    }
    for (int task; (task = atomic_fetch_add(&job->next, 1)) < job->tasks;) job->work(job->arguments, task, scratch);
    free(scratch);
    return NULL;
}

/* GOMP_parallel of the OpenMP that PyTorch itself runs on, or NULL. Its threads wait busily for some milliseconds after
 * each of PyTorch's operators; other threads beside them would get a part of the processor only. */
static void (*openmp)(void (*)(void *), void *, unsigned threads, unsigned flags);

/* To be called once, before anything else. */
void use_openmp(void *function) { memcpy(&openmp, &function, sizeof openmp); }

static void openmp_worker(void *job) { worker(job); }

/* Run tasks 0 .. tasks - 1 on up to `threads` threads, each with scratch memory; 0, or 1 where memory ran out. */
static int run_tasks(void (*work)(const void *, int, void *), const void *arguments, int tasks, int threads,
                     size_t scratch_bytes) {
    Job job = {.work = work, .arguments = arguments, .scratch_bytes = scratch_bytes, .tasks = tasks};
    pthread_t others[256];
    int started = 0;
    if (threads > tasks) threads = tasks;
    if (openmp && threads > 1) {
        openmp(openmp_worker, &job, (unsigned)threads, 0);
        return atomic_load(&job.failed);
    }
    while (started < threads - 1 && started < 256 && !pthread_create(&others[started], NULL, worker, &job)) started++;
    worker(&job);
    for (int i = 0; i < started; i++) pthread_join(others[i], NULL);
    return atomic_load(&job.failed);
}

#endif
