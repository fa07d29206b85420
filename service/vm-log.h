/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* What the journal is told of a VM, whoever brought it about: it starts, stops, crashes, and
 * forwards of it fail. */

#include "vm.h"

/* Compares the VM's snapshot with the one before, NULL if there was none. operation is the name of
 * what has just been done to it, if that starts or stops VMs, else NULL. Returns whether the VM has
 * started or stopped. */
bool vm_log_changes(const VM *vm, const VMSnapshot *before, const char *operation);

/* It is no more. */
void vm_log_vanished(const VM *vm);
