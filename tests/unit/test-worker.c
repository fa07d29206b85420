/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The pool is driven by a real event loop. What runs on a thread and what on the main thread is
 * told by pthread_self(3); jobs that must be under way at the same time meet at a barrier, which a
 * pool that ran them one after the other would never pass (an alarm ends such a test). */

#include "worker.h"

#include <pthread.h>
#include <signal.h>
#include <systemd/sd-event.h>

#include "test.h"

#define TIMEOUT_SEC 20

typedef struct Work {
        sd_event *event;
        pthread_barrier_t *barrier; /* or NULL */
        pthread_t run_by, done_by;
        bool signals_blocked;
        unsigned *n_left; /* the loop ends with the last one */
} Work;

static void work_run(void *userdata) {
        Work *w = userdata;
        sigset_t blocked;

        w->run_by = pthread_self();
        pthread_sigmask(SIG_SETMASK, NULL, &blocked);
        w->signals_blocked = sigismember(&blocked, SIGTERM) && sigismember(&blocked, SIGCHLD);
        if (w->barrier)
                pthread_barrier_wait(w->barrier);
}

static void work_done(void *userdata) {
        Work *w = userdata;

        w->done_by = pthread_self();
        if (--*w->n_left == 0)
                sd_event_exit(w->event, 0);
}

typedef struct Poster {
        WorkerPool *pool;
        Work *work;
} Poster;

/* As a thread of libvirt's does. */
static void *post_main(void *userdata) {
        Poster *p = userdata;

        worker_post(p->pool, work_done, p->work);
        return NULL;
}

TEST(runs_on_a_thread_and_is_done_on_the_main_thread) {
        _cleanup_(sd_event_unrefp) sd_event *event = NULL;
        _cleanup_(worker_pool_freep) WorkerPool *pool = NULL;
        unsigned n_left = 1;
        Work w = { .n_left = &n_left };

        CHECK_INT(sd_event_new(&event), 0);
        CHECK_INT(worker_pool_new(event, 4, &pool), 0);
        w.event = event;
        CHECK_INT(worker_submit(pool, work_run, work_done, &w), 0);
        CHECK_INT(sd_event_loop(event), 0);

        CHECK(!pthread_equal(w.run_by, pthread_self()));
        CHECK(pthread_equal(w.done_by, pthread_self()));
        CHECK(w.signals_blocked);
}

TEST(runs_as_many_side_by_side_as_it_has_threads) {
        enum { N_THREADS = 4, N_JOBS = 4 * 50 };
        _cleanup_(sd_event_unrefp) sd_event *event = NULL;
        _cleanup_(worker_pool_freep) WorkerPool *pool = NULL;
        pthread_barrier_t barrier;
        unsigned n_left = N_JOBS;
        Work works[N_JOBS];

        alarm(TIMEOUT_SEC);
        CHECK_INT(sd_event_new(&event), 0);
        CHECK_INT(worker_pool_new(event, N_THREADS, &pool), 0);
        pthread_barrier_init(&barrier, NULL, N_THREADS);
        for (size_t i = 0; i < N_JOBS; i++) {
                works[i] = (Work){ .event = event, .barrier = &barrier, .n_left = &n_left };
                CHECK_INT(worker_submit(pool, work_run, work_done, &works[i]), 0);
        }
        CHECK_INT(sd_event_loop(event), 0);
        CHECK_INT(n_left, 0);
        pthread_barrier_destroy(&barrier);
        alarm(0);
}

TEST(posts_from_any_thread_run_on_the_main_thread) {
        _cleanup_(sd_event_unrefp) sd_event *event = NULL;
        _cleanup_(worker_pool_freep) WorkerPool *pool = NULL;
        unsigned n_left = 1;
        Work w = { .n_left = &n_left };
        Poster poster;
        pthread_t thread;

        CHECK_INT(sd_event_new(&event), 0);
        CHECK_INT(worker_pool_new(event, 1, &pool), 0);
        w.event = event;
        poster = (Poster){ .pool = pool, .work = &w };
        CHECK_INT(pthread_create(&thread, NULL, post_main, &poster), 0);
        CHECK_INT(pthread_join(thread, NULL), 0);
        CHECK_INT(sd_event_loop(event), 0);
        CHECK(pthread_equal(w.done_by, pthread_self()));
}

static void nothing(void *userdata) {
}

static void note_call(void *userdata) {
        bool *called = userdata;

        *called = true;
}

TEST(the_end_waits_for_a_job_and_calls_what_was_posted) {
        _cleanup_(sd_event_unrefp) sd_event *event = NULL;
        WorkerPool *pool = NULL;
        pthread_barrier_t begun;
        bool done = false, posted = false;
        Work w = { .barrier = &begun };

        CHECK_INT(sd_event_new(&event), 0);
        CHECK_INT(worker_pool_new(event, 1, &pool), 0);
        pthread_barrier_init(&begun, NULL, 2);
        CHECK_INT(worker_submit(pool, work_run, work_done, &w), 0);
        CHECK_INT(worker_submit(pool, nothing, note_call, &done), 0);
        CHECK_INT(worker_post(pool, note_call, &posted), 0);
        pthread_barrier_wait(&begun);
        worker_pool_free(pool);
        CHECK(!done);
        CHECK(posted);
        pthread_barrier_destroy(&begun);
}

TEST(an_unused_pool_has_nothing_to_end) {
        _cleanup_(sd_event_unrefp) sd_event *event = NULL;
        WorkerPool *pool;

        CHECK_INT(sd_event_new(&event), 0);
        CHECK_INT(worker_pool_new(event, 8, &pool), 0);
        CHECK(!worker_pool_free(pool));
        CHECK(!worker_pool_free(NULL));
}

TEST_MAIN(runs_on_a_thread_and_is_done_on_the_main_thread,
          runs_as_many_side_by_side_as_it_has_threads, posts_from_any_thread_run_on_the_main_thread,
          the_end_waits_for_a_job_and_calls_what_was_posted, an_unused_pool_has_nothing_to_end)
