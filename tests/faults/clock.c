/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Another time of day, for a process that has this loaded before its libraries (LD_PRELOAD): the
 * file $FAULTS_CLOCK has the seconds that are added, and may change at any time. Only for what asks
 * the C library for the time; the kernel's own timers and the times of files stay as they are. The
 * file is mapped once, so a process that may open none any more (passt) goes on. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>

static const volatile int64_t none, *offset = &none;
static int (*real_clock_gettime)(clockid_t, struct timespec *);

__attribute__((constructor)) static void map_clock(void) {
        const char *path = getenv("FAULTS_CLOCK");
        int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
        void *map = fd < 0 ? MAP_FAILED : mmap(NULL, sizeof(*offset), PROT_READ, MAP_SHARED, fd, 0);

        real_clock_gettime =
                (int (*)(clockid_t, struct timespec *)) dlsym(RTLD_NEXT, "clock_gettime");
        if (map != MAP_FAILED)
                offset = map;
}

int clock_gettime(clockid_t clock, struct timespec *ret) {
        int r = real_clock_gettime(clock, ret);

        if (r == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
                ret->tv_sec += *offset;
        return r;
}

time_t time(time_t *ret) {
        struct timespec now;

        (void) clock_gettime(CLOCK_REALTIME, &now);
        if (ret)
                *ret = now.tv_sec;
        return now.tv_sec;
}

int gettimeofday(struct timeval *restrict ret, void *restrict zone) {
        struct timespec now;

        (void) clock_gettime(CLOCK_REALTIME, &now);
        ret->tv_sec = now.tv_sec;
        ret->tv_usec = now.tv_nsec / 1000;
        return 0;
}
