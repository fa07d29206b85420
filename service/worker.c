/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* One mutex guards two lists: jobs that wait for a thread, and calls that wait for the main thread.
 * A thread that finishes a job moves it from the one world to the other and writes to an eventfd,
 * which is the only thing that the event loop sees of the pool. Threads wait on a condition
 * variable; nobody wakes up without work. */

#include "worker.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

typedef struct Job {
        struct Job *next;
        worker_func_t run; /* NULL: posted, for the main thread alone */
        worker_func_t done;
        void *userdata;
} Job;

typedef struct JobList {
        Job *head, *tail;
} JobList;

struct WorkerPool {
        pthread_mutex_t mutex;
        pthread_cond_t wake;
        JobList waiting;  /* for a thread */
        JobList finished; /* for the main thread */
        bool ending;
        unsigned n_idle;

        pthread_t *threads;
        unsigned n_threads, max_threads;
        unsigned n_busy; /* main thread only */
        int fd;
        sd_event_source *source;
};

static void job_list_append(JobList *list, Job *job) {
        job->next = NULL;
        if (list->tail)
                list->tail->next = job;
        else
                list->head = job;
        list->tail = job;
}

static Job *job_list_pop(JobList *list) {
        Job *job = list->head;

        if (job) {
                list->head = job->next;
                if (!list->head)
                        list->tail = NULL;
        }
        return job;
}

static void job_list_free(JobList *list) {
        for (Job *job; (job = job_list_pop(list));)
                free(job);
}

static Job *job_new(worker_func_t run, worker_func_t done, void *userdata) {
        Job *job = new0(Job, 1);

        if (job)
                *job = (Job){ .run = run, .done = done, .userdata = userdata };
        return job;
}

static void hand_to_main(WorkerPool *pool, Job *job) {
        uint64_t one = 1;

        pthread_mutex_lock(&pool->mutex);
        job_list_append(&pool->finished, job);
        pthread_mutex_unlock(&pool->mutex);
        /* It can only fail when the counter is full, and then the main thread is awake already. */
        (void) !write(pool->fd, &one, sizeof(one));
}

static void *thread_main(void *userdata) {
        WorkerPool *pool = userdata;

        for (;;) {
                Job *job;

                pthread_mutex_lock(&pool->mutex);
                pool->n_idle++;
                while (!pool->ending && !pool->waiting.head)
                        pthread_cond_wait(&pool->wake, &pool->mutex);
                pool->n_idle--;
                job = pool->ending ? NULL : job_list_pop(&pool->waiting);
                pthread_mutex_unlock(&pool->mutex);
                if (!job)
                        return NULL;

                job->run(job->userdata);
                hand_to_main(pool, job);
        }
}

static int on_finished(sd_event_source *source, int fd, uint32_t revents, void *userdata) {
        WorkerPool *pool = userdata;
        JobList finished;
        uint64_t n;

        (void) !read(fd, &n, sizeof(n));

        pthread_mutex_lock(&pool->mutex);
        finished = pool->finished;
        pool->finished = (JobList){};
        pthread_mutex_unlock(&pool->mutex);

        for (Job *job; (job = job_list_pop(&finished));) {
                if (job->run)
                        pool->n_busy--;
                job->done(job->userdata);
                free(job);
        }
        return 0;
}

int worker_pool_new(sd_event *event, unsigned max_threads, WorkerPool **ret) {
        _cleanup_(worker_pool_freep) WorkerPool *pool = new0(WorkerPool, 1);
        int r;

        if (!pool)
                return -ENOMEM;
        pool->fd = -EBADF;
        pool->max_threads = max_threads;
        pthread_mutex_init(&pool->mutex, NULL);
        pthread_cond_init(&pool->wake, NULL);

        pool->threads = new0(pthread_t, max_threads);
        if (!pool->threads)
                return -ENOMEM;
        pool->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        if (pool->fd < 0)
                return -errno;
        r = sd_event_add_io(event, &pool->source, pool->fd, EPOLLIN, on_finished, pool);
        if (r < 0)
                return r;

        *ret = TAKE_PTR(pool);
        return 0;
}

WorkerPool *worker_pool_free(WorkerPool *pool) {
        if (!pool)
                return NULL;

        pthread_mutex_lock(&pool->mutex);
        pool->ending = true;
        pthread_cond_broadcast(&pool->wake);
        pthread_mutex_unlock(&pool->mutex);
        for (unsigned i = 0; i < pool->n_threads; i++)
                pthread_join(pool->threads[i], NULL);

        job_list_free(&pool->waiting);
        for (Job *job; (job = job_list_pop(&pool->finished));) {
                if (!job->run)
                        job->done(job->userdata);
                free(job);
        }
        sd_event_source_unref(pool->source);
        closep(&pool->fd);
        pthread_cond_destroy(&pool->wake);
        pthread_mutex_destroy(&pool->mutex);
        free(pool->threads);
        free(pool);
        return NULL;
}

/* Signals belong to the main thread, where the event loop takes them from a signalfd. */
static int start_thread(WorkerPool *pool) {
        sigset_t all, old;
        int r;

        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &old);
        r = pthread_create(&pool->threads[pool->n_threads], NULL, thread_main, pool);
        pthread_sigmask(SIG_SETMASK, &old, NULL);
        if (r != 0)
                return -r;
        pool->n_threads++;
        return 0;
}

int worker_submit(WorkerPool *pool, worker_func_t run, worker_func_t done, void *userdata) {
        Job *job = job_new(run, done, userdata);
        bool need_thread;
        int r;

        if (!job)
                return -ENOMEM;

        /* Every waiting job and this one should find a thread, as long as there may be more. */
        pthread_mutex_lock(&pool->mutex);
        need_thread = pool->n_idle == 0 || pool->waiting.head;
        pthread_mutex_unlock(&pool->mutex);
        if (need_thread && pool->n_threads < pool->max_threads) {
                r = start_thread(pool);
                if (r < 0 && pool->n_threads == 0) {
                        free(job);
                        return r;
                }
        }

        pthread_mutex_lock(&pool->mutex);
        job_list_append(&pool->waiting, job);
        pthread_cond_signal(&pool->wake);
        pthread_mutex_unlock(&pool->mutex);
        pool->n_busy++;
        return 0;
}

int worker_post(WorkerPool *pool, worker_func_t func, void *userdata) {
        Job *job = job_new(NULL, func, userdata);

        if (!job)
                return -ENOMEM;
        hand_to_main(pool, job);
        return 0;
}

unsigned worker_pool_busy(const WorkerPool *pool) {
        return pool->n_busy;
}
