/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Waits for what is a job of the service while it lasts: with a bar, and such that an interrupt
 * (Ctrl-C) cancels it. */

#include "session.h"

#define JOB_COPY "copy"
#define JOB_SAVE "save"

/* As task_wait(); operation is one of the above. Does not return if it was cancelled by an
 * interrupt: then it says so and ends the program by that signal, for a shell to know. */
Exit job_wait(uservm *u, int r, Task *task, const char *operation);
