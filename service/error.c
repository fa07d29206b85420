/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* libvirt reports a failure as a code and a sentence. Codes that mean something to our callers
 * become the error of that meaning; all others are LibvirtFailed with libvirt's sentence. A passt
 * that libvirt could not start is the one case where the sentence has to be dug out: libvirt
 * quotes everything passt printed, banner and addresses included. */

#include "error.h"

#include <errno.h>
#include <libvirt/libvirt.h>
#include <libvirt/virterror.h>
#include <stdarg.h>
#include <stdio.h>

#include "utf8.h"
#include "util.h"

static const char *name_for_code(int code) {
        switch (code) {
        case VIR_ERR_NO_DOMAIN:
                return USERVM_ERROR_NO_SUCH_VM;
        case VIR_ERR_DOM_EXIST:
                return USERVM_ERROR_VM_EXISTS;
        case VIR_ERR_NO_SUPPORT:
        case VIR_ERR_OPERATION_UNSUPPORTED:
        case VIR_ERR_CONFIG_UNSUPPORTED:
                return USERVM_ERROR_NOT_SUPPORTED;
        case VIR_ERR_OPERATION_TIMEOUT:
        case VIR_ERR_RESOURCE_BUSY:
                return USERVM_ERROR_BUSY;
        case VIR_ERR_OPERATION_ABORTED:
                return USERVM_ERROR_CANCELLED;
        default:
                return USERVM_ERROR_LIBVIRT_FAILED;
        }
}

/* Lines of passt's that tell of a failure, as opposed to its banner, which lists addresses. */
static bool is_failure_line(const char *line, size_t n) {
        static const char *const words[] = {
                "ailed",       "annot",  "an't",        "ouldn't", "nvalid",
                "denied",      "rror",   "in use",      "No such", "onflict",
                "nrecognized", "nknown", "nrecognised", "oo many", "oo long",
        };

        for (size_t i = 0; i < ELEMENTSOF(words); i++)
                if (memmem(line, n, words[i], strlen(words[i])))
                        return true;
        return false;
}

char *error_passt_line(const char *text) {
        const char *best = NULL;
        size_t best_n = 0;
        char *useful;

        for (const char *line = text; line && *line;) {
                size_t n = strcspn(line, "\n");

                /* Without a line that is clearly of a failure, the last one that is not empty. */
                if (n > 0) {
                        best = line;
                        best_n = n;
                        if (is_failure_line(line, n))
                                break;
                }
                line += n + (line[n] == '\n');
        }
        useful = strndup(best ?: "", best_n);
        if (useful)
                utf8_make_valid(useful);
        return useful;
}

/* libvirt's sentence around passt's output begins like this (src/qemu/qemu_passt.c). */
static const char *passt_output(const char *message) {
        const char *s = strstr(message, "Could not start 'passt': ");

        return s ? s + strlen("Could not start 'passt': ") : NULL;
}

__attribute__((format(printf, 1, 0))) static char *format_attempt(const char *what, va_list ap) {
        char *attempt;

        return vasprintf(&attempt, what, ap) < 0 ? NULL : attempt;
}

int error_from_libvirt(sd_bus_error *error, const char *what, ...) {
        const virError *e = virGetLastError();
        const char *message = e && e->message
                                      ? e->message
                                      : "libvirt gives no reason; has its session daemon ended?";
        const char *passt = passt_output(message);
        _cleanup_free_ char *attempt = NULL, *line = NULL;
        va_list ap;

        va_start(ap, what);
        attempt = format_attempt(what, ap);
        va_end(ap);
        if (!attempt)
                return -ENOMEM;

        if (passt) {
                line = error_passt_line(passt);
                if (!line)
                        return -ENOMEM;
                return sd_bus_error_setf(error, USERVM_ERROR_PASST_FAILED,
                                         "Could not %s: passt: %s", attempt, line);
        }
        return sd_bus_error_setf(error, name_for_code(e ? e->code : 0), "Could not %s: %s", attempt,
                                 message);
}

int error_from_passt_run(sd_bus_error *error, int errnum, const char *program) {
        if (errnum == ENOENT)
                sd_bus_error_setf(error, USERVM_ERROR_PASST_FAILED,
                                  "%s is not installed. It comes with the package passt.", program);
        else
                sd_bus_error_setf(error, USERVM_ERROR_PASST_FAILED, "Could not run %s: %s", program,
                                  strerror(errnum));
        return -errnum;
}

int error_from_errno(sd_bus_error *error, int errnum, const char *what, ...) {
        _cleanup_free_ char *attempt = NULL;
        va_list ap;

        va_start(ap, what);
        attempt = format_attempt(what, ap);
        va_end(ap);
        if (!attempt)
                return -ENOMEM;

        sd_bus_error_setf(error, SD_BUS_ERROR_FAILED, "Could not %s: %s", attempt,
                          strerror(errnum));
        return -errnum;
}

void error_make_utf8(sd_bus_error *error) {
        _cleanup_(sd_bus_error_free) sd_bus_error valid = SD_BUS_ERROR_NULL;
        _cleanup_free_ char *text = NULL;

        if (!error->message)
                return;
        text = strdup(error->message);
        if (!text)
                return;
        utf8_make_valid(text);
        if (streq(text, error->message))
                return;
        sd_bus_error_set(&valid, error->name, text);
        sd_bus_error_free(error);
        sd_bus_error_move(error, &valid);
}
