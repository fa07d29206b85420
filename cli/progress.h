/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* A line on standard error, if that is a terminal, about what takes its time. It is there from the
 * second second on, "starting web ... 3 s", or for as long as a job is known that tells how far it
 * is, "copying web  42% [====>     ]  4.2 GiB  312.5 MiB/s", and goes when it is over. */

#include <stdint.h>
#include <uservm.h>

/* The time of CLOCK_MONOTONIC in microseconds. */
uint64_t now_usec(void);

#define USEC_PER_SEC UINT64_C(1000000)
#define USEC_PER_MSEC UINT64_C(1000)

typedef struct Progress {
        const char *doing, *vm;
        uint64_t begin;
        uint64_t shown; /* how many seconds it tells of; 0: it does not */
        bool has_bar;
} Progress;

/* Returns when it is to be called again, a time of CLOCK_MONOTONIC; UINT64_MAX if never. */
uint64_t progress_show(Progress *progress);

/* Shows how far a job is, as it is now. progress_show() leaves that as it is. */
void progress_show_job(Progress *progress, const uservm_job *job);

/* Takes the line away. */
void progress_end(Progress *progress);
