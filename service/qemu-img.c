/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Paths that are given to it are absolute: qemu-img takes "nbd:…" or "-x" for something other than
 * a file, but nothing that begins with a slash.
 *
 * An image from a stranger may be made such that qemu-img takes all the memory, or all the time. To
 * look at an honest one takes some megabytes and milliseconds; only a copy, which is watched over
 * and can be cancelled, takes as long as it takes. */

#include "qemu-img.h"

#include <errno.h>

#include "error.h"
#include "util.h"

#define MEMORY_MAX (1ULL << 30)
#define CPU_SEC_MAX 60

/* Why it failed: the last line that it printed. One that a signal has ended prints nothing. */
static char *reason(char *text, int status) {
        size_t n = strlen(text);
        char *line, *words;

        if (n == 0)
                return asprintf(&words, "qemu-img ended with status %d", status) < 0 ? NULL : words;

        while (n > 0 && text[n - 1] == '\n')
                text[--n] = '\0';
        line = strrchr(text, '\n');
        line = line ? line + 1 : text;
        words = startswith(line, "qemu-img: ");
        return strdup(words ?: line);
}

int qemu_img_run(const char *const argv[], const ProcessWatch *watch, char **ret_output,
                 char **ret_words, sd_bus_error *error) {
        const ProcessLimits limits = {
                .memory = watch ? 0 : MEMORY_MAX,
                .cpu_sec = watch ? 0 : CPU_SEC_MAX,
        };
        _cleanup_free_ char *output = NULL, *complaint = NULL;
        char *words;
        int r;

        r = process_run_watched(argv, watch, &limits, &output, &complaint);
        if (r == -ENOENT)
                return sd_bus_error_set(error, USERVM_ERROR_NOT_SUPPORTED,
                                        "qemu-img is not installed. It comes with the package "
                                        "qemu-utils (Debian, Ubuntu) or qemu-img (Fedora).");
        if (r == -ECANCELED)
                return sd_bus_error_set(error, USERVM_ERROR_CANCELLED, "The job was cancelled.");
        if (r < 0)
                return error_from_errno(error, -r, "run qemu-img");
        if (ret_words) {
                words = reason(complaint, r);
                if (!words)
                        return -ENOMEM;
                *ret_words = words;
        }
        if (ret_output)
                *ret_output = TAKE_PTR(output);
        return r;
}
