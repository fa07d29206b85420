/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* process_run() with real children: mostly sh(1), whose arguments say what is tested. */

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <time.h>

#include "process.h"
#include "test.h"
#include "util.h"

static int shell(const char *script, char **ret_output, char **ret_error) {
        return process_run((const char *const[]){ "sh", "-c", script, NULL }, ret_output,
                           ret_error);
}

TEST(keeps_the_streams_apart) {
        _cleanup_free_ char *output = NULL, *error = NULL;

        CHECK_INT(shell("echo out; echo err >&2; exit 7", &output, &error), 7);
        CHECK_STR(output, "out\n");
        CHECK_STR(error, "err\n");
}

TEST(silence_is_an_empty_string) {
        _cleanup_free_ char *output = NULL, *error = NULL;

        CHECK_INT(process_run((const char *const[]){ "true", NULL }, &output, &error), 0);
        CHECK_STR(output, "");
        CHECK_STR(error, "");
}

TEST(output_may_be_discarded) {
        CHECK_INT(
                shell("head -c 300000 /dev/zero; head -c 300000 /dev/zero >&2; exit 3", NULL, NULL),
                3);
}

TEST(program_that_does_not_exist) {
        char *output = NULL;

        /* One folder of $PATH that may not be searched would make it EACCES. */
        setenv("PATH", "/usr/bin:/bin", 1);
        CHECK_INT(process_run((const char *const[]){ "no-such-program", NULL }, &output, NULL),
                  -ENOENT);
        CHECK(!output);
}

TEST(program_that_is_no_program) {
        CHECK_INT(process_run((const char *const[]){ "/etc", NULL }, NULL, NULL), -EACCES);
}

TEST(death_by_signal) {
        CHECK_INT(shell("kill -TERM $$", NULL, NULL), 128 + SIGTERM);
        CHECK_INT(shell("kill -KILL $$", NULL, NULL), 128 + SIGKILL);
}

TEST(arguments_are_not_interpreted) {
        _cleanup_free_ char *output = NULL;

        CHECK_INT(
                process_run((const char *const[]){ "printf", "%s|", "a b", "$HOME", "*", "", NULL },
                            &output, NULL),
                0);
        CHECK_STR(output, "a b|$HOME|*||");
}

TEST(at_most_a_mebibyte_is_kept) {
        _cleanup_free_ char *output = NULL, *error = NULL;

        /* Both at once, each more than a pipe holds: neither may block the other. */
        CHECK_INT(shell("yes e | head -c 1500000 >&2 & yes o | head -c 2000000; wait; exit 5",
                        &output, &error),
                  5);
        CHECK_INT(strlen(output), 1024 * 1024);
        CHECK_INT(strlen(error), 1024 * 1024);
        CHECK(startswith(output, "o\no\n"));
        CHECK(startswith(error, "e\ne\n"));
}

TEST(large_output_is_complete) {
        _cleanup_free_ char *output = NULL;

        CHECK_INT(shell("yes | head -c 1000000", &output, NULL), 0);
        CHECK_INT(strlen(output), 1000000);
}

TEST(locale_is_c) {
        _cleanup_free_ char *output = NULL;

        setenv("LC_ALL", "xx_XX.UTF-8", 1);
        setenv("USERVM_TEST", "kept", 1);
        CHECK_INT(shell("echo $LC_ALL $USERVM_TEST; env | grep -c ^LC_ALL=", &output, NULL), 0);
        unsetenv("LC_ALL");
        unsetenv("USERVM_TEST");
        CHECK_STR(output, "C kept\n1\n");
}

TEST(standard_input_is_empty) {
        _cleanup_free_ char *output = NULL;

        CHECK_INT(shell("cat; readlink /proc/$$/fd/0", &output, NULL), 0);
        CHECK_STR(output, "/dev/null\n");
}

TEST(no_other_descriptor_is_inherited) {
        _cleanup_free_ char *output = NULL;
        _cleanup_close_ int fd = -EBADF;

        /* Without O_CLOEXEC, as a careless library opens it. */
        fd = open("/dev/null", O_RDONLY);
        CHECK(fd >= 0);
        CHECK_INT(shell("ls /proc/$$/fd", &output, NULL), 0);

        /* dash keeps none of its own for -c; bash as sh may keep 255. */
        if (streq(output, "0\n1\n2\n255\n"))
                return;
        CHECK_STR(output, "0\n1\n2\n");
}

TEST(signals_are_default_and_unblocked) {
        _cleanup_free_ char *output = NULL;
        unsigned long long is_blocked, is_ignored;
        sigset_t blocked, before;

        sigemptyset(&blocked);
        sigaddset(&blocked, SIGTERM);
        sigaddset(&blocked, SIGUSR1);
        pthread_sigmask(SIG_BLOCK, &blocked, &before);
        signal(SIGPIPE, SIG_IGN);
        /* Not through sh, which would tell its own story. */
        CHECK_INT(process_run((const char *const[]){ "grep", "-E", "^Sig(Blk|Ign)",
                                                     "/proc/self/status", NULL },
                              &output, NULL),
                  0);
        signal(SIGPIPE, SIG_DFL);
        pthread_sigmask(SIG_SETMASK, &before, NULL);

        CHECK_INT(sscanf(output, "SigBlk: %llx SigIgn: %llx", &is_blocked, &is_ignored), 2);
        CHECK_INT(is_blocked, 0);
        /* 32 and 33 are glibc's own, which posix_spawn(3) sets to be ignored. */
        CHECK_INT(is_ignored & ~(3ULL << 31), 0);
}

TEST(limits_are_kept) {
        const char *const show[] = { "sh", "-c",
                                     "ulimit -v; ulimit -t; grep NoNewPrivs /proc/self/status",
                                     NULL };
        const char *const work[] = { "sh", "-c", "while :; do :; done", NULL };
        const ProcessLimits limits = { .memory = 1 << 30, .cpu_sec = 1 };
        const ProcessLimits none = {};
        _cleanup_free_ char *output = NULL, *without = NULL;

        CHECK_INT(process_run_watched(show, NULL, &limits, &output, NULL), 0);
        CHECK_STR(output, "1048576\n1\nNoNewPrivs:\t1\n");
        CHECK_INT(process_run_watched(show, NULL, &none, &without, NULL), 0);
        CHECK(strstr(without, "NoNewPrivs:\t1\n"));
        CHECK_INT(process_run_watched(work, NULL, &limits, NULL, NULL), 128 + SIGKILL);
}

TEST(what_stays_in_the_background_is_not_waited_for) {
        _cleanup_free_ char *output = NULL;
        struct timespec start, end;

        clock_gettime(CLOCK_MONOTONIC, &start);
        CHECK_INT(shell("sleep 20 & echo $!", &output, NULL), 0);
        clock_gettime(CLOCK_MONOTONIC, &end);

        CHECK(atoi(output) > 1);
        kill(atoi(output), SIGKILL);
        CHECK(end.tv_sec - start.tv_sec < 10);
}

static void *run_in_thread(void *arg) {
        _cleanup_free_ char *output = NULL, *error = NULL;
        char script[100], expected[20];
        int n = (int) (intptr_t) arg;

        snprintf(script, sizeof(script), "echo out %d; echo err %d >&2; exit %d", n, n, n);
        if (shell(script, &output, &error) != n)
                return NULL;

        snprintf(expected, sizeof(expected), "out %d\n", n);
        if (!streq(output, expected))
                return NULL;
        snprintf(expected, sizeof(expected), "err %d\n", n);
        return streq(error, expected) ? arg : NULL;
}

TEST(fifty_at_once) {
        pthread_t threads[50];
        size_t good = 0;

        for (size_t i = 0; i < ELEMENTSOF(threads); i++)
                CHECK_INT(pthread_create(&threads[i], NULL, run_in_thread, (void *) (i + 1)), 0);
        for (size_t i = 0; i < ELEMENTSOF(threads); i++) {
                void *result;

                pthread_join(threads[i], &result);
                good += result != NULL;
        }
        CHECK_INT(good, ELEMENTSOF(threads));
}

static size_t count_descriptors(void) {
        size_t n = 0;

        for (int fd = 0; fd < 1024; fd++)
                n += fcntl(fd, F_GETFD) >= 0;
        return n;
}

TEST(no_descriptor_is_left_behind) {
        size_t before = count_descriptors();

        CHECK_INT(shell("exit 0", NULL, NULL), 0);
        CHECK_INT(process_run((const char *const[]){ "no-such-program", NULL }, NULL, NULL),
                  -ENOENT);
        CHECK_INT(count_descriptors(), before);
}

TEST_MAIN(keeps_the_streams_apart, silence_is_an_empty_string, output_may_be_discarded,
          program_that_does_not_exist, program_that_is_no_program, death_by_signal,
          arguments_are_not_interpreted, at_most_a_mebibyte_is_kept, large_output_is_complete,
          locale_is_c, standard_input_is_empty, no_other_descriptor_is_inherited,
          signals_are_default_and_unblocked, limits_are_kept,
          what_stays_in_the_background_is_not_waited_for, fifty_at_once,
          no_descriptor_is_left_behind)
