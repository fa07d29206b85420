/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* The one way to run a child process and wait for it. Blocks: call it on a worker. No shell is
 * involved; the program is looked up in $PATH. */

#include <stddef.h>
#include <stdint.h>

/* Runs argv[0] with standard input from /dev/null, C locale (LC_ALL=C), no inherited file
 * descriptor but 0, 1, 2, default signal dispositions and an empty signal mask.
 * *ret_output and *ret_error (each may be NULL: discarded) are what it wrote to standard output and
 * standard error, always valid strings on success; at most 1 MiB of each is kept, the rest read and
 * dropped.
 * Waits for the program's own end only, not for what it leaves in the background. If this process
 * is killed meanwhile, so is the program.
 * Returns the exit status (0 to 255; 128 + N if signal N ended it), or a negative errno when it
 * could not be run. -ENOENT: no such program in $PATH (-EACCES if a folder there cannot be
 * searched, see execvp(3)). */
int process_run(const char *const argv[], char **ret_output, char **ret_error);

/* For a program that takes its time. */
typedef struct ProcessWatch {
        /* All of its standard output so far, each time that there is more. May be NULL. */
        void (*on_output)(const char *output, void *userdata);
        void *userdata;
        int cancel_fd; /* once this can be read, the program is killed: -ECANCELED */
} ProcessWatch;

/* For a program that reads what a stranger made. It gets no privileges from set-user-ID programs
 * either (PR_SET_NO_NEW_PRIVS(2const)). */
typedef struct ProcessLimits {
        uint64_t memory;  /* address space, bytes; 0: as this process, as the next */
        uint64_t cpu_sec; /* it is killed then: 128 + SIGXCPU or SIGKILL */
} ProcessLimits;

/* As process_run(); watch and limits may be NULL. */
int process_run_watched(const char *const argv[], const ProcessWatch *watch,
                        const ProcessLimits *limits, char **ret_output, char **ret_error);
