/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "interrupt.h"

#include <errno.h>
#include <sys/signalfd.h>

static const int signals[] = { SIGINT, SIGTERM, SIGHUP, SIGQUIT };

/* One that is blocked waits even if it is to be ignored, so that has to be looked at. */
static bool is_ignored(int number) {
        struct sigaction action;

        return sigaction(number, NULL, &action) >= 0 && action.sa_handler == SIG_IGN;
}

int interrupt_begin(Interrupt *i) {
        sigset_t mask;

        sigemptyset(&mask);
        for (size_t k = 0; k < ELEMENTSOF(signals); k++)
                if (!is_ignored(signals[k]))
                        sigaddset(&mask, signals[k]);
        i->fd = signalfd(-1, &mask, SFD_CLOEXEC | SFD_NONBLOCK);
        if (i->fd < 0)
                return -errno;
        if (sigprocmask(SIG_BLOCK, &mask, &i->before) < 0) {
                close(TAKE_FD(i->fd));
                return -errno;
        }
        return 0;
}

void interrupt_end(Interrupt *i) {
        if (i->fd < 0)
                return;
        close(TAKE_FD(i->fd));
        sigprocmask(SIG_SETMASK, &i->before, NULL);
}

int interrupt_take(Interrupt *i) {
        struct signalfd_siginfo info;

        return read(i->fd, &info, sizeof(info)) == sizeof(info) ? (int) info.ssi_signo : 0;
}
