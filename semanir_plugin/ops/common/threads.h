/* Threads for native kernels: tasks shared out among those of PyTorch's own OpenMP, or among POSIX ones. */
#ifndef SEMANIR_THREADS_H
#define SEMANIR_THREADS_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define MOST_THREADS 256

/* Tasks in turn, of which each thread begins with a part of its own: that of the rows that it had in the operator before,
 * PyTorch's and oneDNN's too, and which its cache still has. Who is done helps the next one. */
typedef struct {
    _Alignas(64) atomic_int next;
    int end;
} Part;

typedef struct {
    void (*work)(const void *arguments, int task, void *scratch);
    const void *arguments;
    size_t scratch_bytes;
    int threads;
    atomic_int failed;
    Part parts[MOST_THREADS];
} Job;

static void work_from(Job *job, int thread) {
    size_t bytes = (job->scratch_bytes + 63) / 64 * 64;
    void *scratch = aligned_alloc(64, bytes ? bytes : 64);
    if (!scratch) {
        atomic_store(&job->failed, 1);
        return;
    }
    for (int i = 0; i < job->threads; i++) {
        Part *part = &job->parts[(thread + i) % job->threads];
        for (int task; (task = atomic_fetch_add(&part->next, 1)) < part->end;)
            job->work(job->arguments, task, scratch);
    }
    free(scratch);
}

/* GOMP_parallel and omp_get_thread_num of the OpenMP that PyTorch itself runs on, or NULL. Its threads wait busily for some
 * milliseconds after each of PyTorch's operators; other threads beside them would get a part of the processor only. */
static void (*openmp)(void (*)(void *), void *, unsigned threads, unsigned flags);
static int (*openmp_thread)(void);

/* To be called once, before anything else. */
void use_openmp(void *parallel, void *thread_number) {
    memcpy(&openmp, &parallel, sizeof openmp);
    memcpy(&openmp_thread, &thread_number, sizeof openmp_thread);
}

static void openmp_worker(void *job) { work_from(job, openmp_thread()); }

typedef struct {
    Job *job;
    int thread;
} Worker;

static void *posix_worker(void *pointer) {
    const Worker *worker = pointer;
    work_from(worker->job, worker->thread);
    return NULL;
}

/* Run tasks 0 .. tasks - 1 on up to `threads` threads, each with scratch memory; 0, or 1 where memory ran out. */
static int run_tasks(void (*work)(const void *, int, void *), const void *arguments, int tasks, int threads,
                     size_t scratch_bytes) {
    Job job;
    pthread_t others[MOST_THREADS];
    Worker workers[MOST_THREADS];
    int started = 1;
    if (threads > tasks) threads = tasks;
    if (threads > MOST_THREADS) threads = MOST_THREADS;
    if (threads < 1) threads = 1;
    job.work = work, job.arguments = arguments, job.scratch_bytes = scratch_bytes, job.threads = threads;
    atomic_init(&job.failed, 0);
    for (int i = 0; i < threads; i++) {
        atomic_init(&job.parts[i].next, (int)((int64_t)tasks * i / threads));
        job.parts[i].end = (int)((int64_t)tasks * (i + 1) / threads);
    }
    if (openmp && openmp_thread && threads > 1) {
        openmp(openmp_worker, &job, (unsigned)threads, 0);
        return atomic_load(&job.failed);
    }
    for (; started < threads; started++) {
        workers[started] = (Worker){&job, started};
        if (pthread_create(&others[started], NULL, posix_worker, &workers[started])) break;
    }
    work_from(&job, 0);
    for (int i = 1; i < started; i++) pthread_join(others[i], NULL);
    return atomic_load(&job.failed);
}

#endif
