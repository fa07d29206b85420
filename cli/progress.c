/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* A line that is longer than the terminal is wide cannot be taken away again, so the parts of the
 * bar are left out one after the other until it fits, and the last column stays free.
 *
 * A job tells its rate, on average since it began, and not its bytes: they are what that makes by
 * now. */

#include "progress.h"

#include <stdio.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "output.h"

#define BAR_MIN 10
#define BAR_MAX 40
#define FRAME (sizeof(" []") - 1)

uint64_t now_usec(void) {
        struct timespec t;

        clock_gettime(CLOCK_MONOTONIC, &t);
        return (uint64_t) t.tv_sec * USEC_PER_SEC + (uint64_t) t.tv_nsec / 1000;
}

uint64_t progress_show(Progress *progress) {
        uint64_t seconds;

        if (progress->has_bar || !isatty(STDERR_FILENO))
                return UINT64_MAX;
        if (progress->begin == 0)
                progress->begin = now_usec();
        seconds = (now_usec() - progress->begin) / USEC_PER_SEC;
        if (seconds != progress->shown) {
                _cleanup_free_ char *vm = printable(progress->vm);

                fprintf(stderr, "\r%s %s ... %ju s", progress->doing, vm ?: "a VM",
                        (uintmax_t) seconds);
                fflush(stderr);
                progress->shown = seconds;
        }
        return progress->begin + (seconds + 1) * USEC_PER_SEC;
}

/* The parts of the line; those that are left out are empty. */
typedef struct Bar {
        char label[128], percent[8], bytes[SIZE_TEXT_MAX + 4], rate[SIZE_TEXT_MAX + 4];
        double progress;
        size_t width; /* between its ends */
} Bar;

static const char *doing(const uservm_job *job) {
        if (streq(job->operation, "copy"))
                return "copying";
        return streq(job->operation, "save") ? "saving" : job->operation;
}

static uint64_t bytes_done(const uservm_job *job) {
        struct timespec t;
        uint64_t now;

        clock_gettime(CLOCK_REALTIME, &t);
        now = (uint64_t) t.tv_sec * USEC_PER_SEC + (uint64_t) t.tv_nsec / 1000;
        if (now < job->start_time)
                return 0;
        return (uint64_t) ((double) job->rate * (double) (now - job->start_time) / USEC_PER_SEC);
}

static void fill(Bar *bar, const Progress *progress, const uservm_job *job) {
        _cleanup_free_ char *vm = printable(progress->vm);
        char size[SIZE_TEXT_MAX];

        *bar = (Bar){ .progress = job->progress >= 0 ? job->progress : 0, .width = BAR_MIN };
        if (bar->progress > 1)
                bar->progress = 1;
        snprintf(bar->label, sizeof(bar->label), "%s %s ", doing(job), vm ?: "a VM");
        snprintf(bar->percent, sizeof(bar->percent), "%3d%%", (int) (bar->progress * 100));
        if (job->rate == 0)
                return;
        snprintf(bar->bytes, sizeof(bar->bytes), "  %s", format_size(bytes_done(job), size));
        snprintf(bar->rate, sizeof(bar->rate), "  %s/s", format_size(job->rate, size));
}

static size_t line_width(const Bar *bar) {
        return text_width(bar->label) + strlen(bar->percent) +
               (bar->width > 0 ? bar->width + FRAME : 0) + strlen(bar->bytes) + strlen(bar->rate);
}

/* What tells the least goes first. */
static void fit(Bar *bar, size_t columns) {
        if (line_width(bar) > columns)
                *bar->bytes = 0;
        if (line_width(bar) > columns)
                *bar->rate = 0;
        if (line_width(bar) > columns)
                bar->width = 0;
        if (line_width(bar) > columns)
                *bar->label = 0;
        if (line_width(bar) > columns)
                *bar->percent = 0;
        while (bar->width > 0 && bar->width < BAR_MAX && line_width(bar) < columns)
                bar->width++;
}

static void print_bar(const Bar *bar) {
        size_t done = (size_t) (bar->progress * (double) bar->width);

        fprintf(stderr, "\r%s%s", bar->label, bar->percent);
        if (bar->width > 0) {
                fputs(" [", stderr);
                for (size_t i = 0; i < bar->width; i++)
                        fputc(i < done ? '=' : i == done ? '>' : ' ', stderr);
                fputc(']', stderr);
        }
        fprintf(stderr, "%s%s\x1b[K", bar->bytes, bar->rate);
        fflush(stderr);
}

void progress_show_job(Progress *progress, const uservm_job *job) {
        struct winsize size;
        size_t columns = 80;
        Bar bar;

        if (!isatty(STDERR_FILENO))
                return;
        if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) >= 0 && size.ws_col > 0)
                columns = size.ws_col;
        progress->has_bar = true;
        fill(&bar, progress, job);
        fit(&bar, columns - 1);
        print_bar(&bar);
}

void progress_end(Progress *progress) {
        if (progress->shown > 0 || progress->has_bar)
                fputs("\r\x1b[K", stderr); /* to the end of the line, see console_codes(4) */
        *progress = (Progress){ .doing = progress->doing, .vm = progress->vm };
}
