/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* One line an event: to the journal, with fields that journalctl(1) can search for, when standard
 * error leads there, else to standard error as it is. From any thread. uservmd(8), "JOURNAL", is
 * what users are told of it. */

#include <syslog.h>

#include "util.h"

/* What a line is about; what is NULL, it is not. */
typedef struct LogSubject {
        const char *vm;        /* USERVM_VM: its name */
        const char *uuid;      /* USERVM_UUID */
        const char *operation; /* USERVM_OPERATION: what was being done to it, "Start" */
        const char *id;        /* MESSAGE_ID: what kind of event it is, one of those below */
} LogSubject;

#define LOG_ID_VM_STARTED "7460ebe9f7bb4409b81bd16d54715e14"
#define LOG_ID_VM_STOPPED "63b42ac92f0548898c023a1a19b796da"
#define LOG_ID_VM_CRASHED "35be890748e8485fa4277f39997e95ed"
#define LOG_ID_PASST_ENDED "c50c24c2623a45b6ab0922048eda3d2b"
#define LOG_ID_PASST_REVIVED "b277403582a9455a997506ef2ee82283"
#define LOG_ID_FORWARD_FAILED "cccd2e9d95af472d821f729ba17018b3"
#define LOG_ID_CREATION_CLEANED "af6ab963fda34aa787b4816de66b31fa"

/* Control characters in the text, which may quote others, become spaces: it is one line. */
void log_write(int priority, const LogSubject *subject, const char *format, ...) _printf_(3, 4);

#define log_info(...) log_write(LOG_INFO, NULL, __VA_ARGS__)
#define log_warning(...) log_write(LOG_WARNING, NULL, __VA_ARGS__)
#define log_error(...) log_write(LOG_ERR, NULL, __VA_ARGS__)
