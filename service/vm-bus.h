/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* org.uservm1.VM on D-Bus: see bus-interfaces/org.uservm1.VM.xml. */

#include <systemd/sd-bus.h>

#include "vm.h"

int vm_bus_path(const char *uuid, char **ret);

/* Registers the interface for all VMs of the manager. */
int vm_bus_register(Manager *m);

void vm_bus_appeared(VM *vm);
void vm_bus_vanished(VM *vm);
void vm_bus_changed(VM *vm, const char *properties[]); /* NULL-terminated */

/* Appends the dictionary of a forward (a{sv}); of which VM, if vm_name is not NULL. */
int vm_bus_append_forward(sd_bus_message *m, const Forward *f, const char *vm_name);
int vm_bus_append_forwards(sd_bus_message *m, const ForwardList *list, const char *vm_name);

/* The methods, for callers that have found the VM by other means: userdata is the VM, and the next
 * thing to read in the message is the first argument of the method. */
sd_bus_message_handler_t vm_bus_method(const char *name);
