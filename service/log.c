/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What has a subject goes to the journal as fields (sd_journal_send(3)). What has none is written
 * to standard error, with its priority in front (sd-daemon(3)), which is the journal as well: the
 * stream belongs to the unit, while of the sender of a datagram the journal has to find out which
 * unit it is in, and cannot if it has ended by then. Such lines tell why uservmd ends. */

#define SD_JOURNAL_SUPPRESS_LOCATION

#include "log.h"

#include <stdarg.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <systemd/sd-journal.h>

/* systemd.exec(5), JOURNAL_STREAM. */
static bool is_journal(int fd) {
        const char *stream = getenv("JOURNAL_STREAM");
        _cleanup_free_ char *own = NULL;
        struct stat st;

        if (!stream || fstat(fd, &st) < 0 ||
            asprintf(&own, "%ju:%ju", (uintmax_t) st.st_dev, (uintmax_t) st.st_ino) < 0)
                return false;
        return streq(stream, own);
}

static void add_field(struct iovec *fields, int *n, const char *name, const char *value) {
        char *text;

        if (value && asprintf(&text, "%s=%s", name, value) >= 0)
                fields[(*n)++] = (struct iovec){ text, strlen(text) };
}

static int send_to_journal(int priority, const LogSubject *subject, const char *message) {
        const char number[] = { (char) ('0' + priority), '\0' };
        const struct {
                const char *name, *value;
        } values[] = {
                { "MESSAGE", message },           { "PRIORITY", number },
                { "MESSAGE_ID", subject->id },    { "USERVM_VM", subject->vm },
                { "USERVM_UUID", subject->uuid }, { "USERVM_OPERATION", subject->operation },
        };
        struct iovec fields[ELEMENTSOF(values)];
        int n = 0, r;

        for (size_t i = 0; i < ELEMENTSOF(values); i++)
                add_field(fields, &n, values[i].name, values[i].value);
        r = sd_journal_sendv(fields, n);
        for (int i = 0; i < n; i++)
                free(fields[i].iov_base);
        return r;
}

void log_write(int priority, const LogSubject *subject, const char *format, ...) {
        _cleanup_free_ char *message = NULL;
        bool journal = is_journal(STDERR_FILENO);
        va_list ap;

        va_start(ap, format);
        if (vasprintf(&message, format, ap) < 0)
                message = NULL;
        va_end(ap);
        for (char *s = message; s && *s; s++)
                if ((unsigned char) *s < ' ' || *s == 0x7f)
                        *s = ' ';

        if (message && journal && subject && send_to_journal(priority, subject, message) >= 0)
                return;
        if (journal)
                fprintf(stderr, "<%d>%s\n", priority, message ?: "Out of memory");
        else
                fprintf(stderr, "%s\n", message ?: "Out of memory");
}
