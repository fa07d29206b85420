/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* What the parts of libuservm share: the handle, objects read from messages, and operations. */

#include <systemd/sd-bus.h>

#include "uservm.h"
#include "util.h"

#define _public_ __attribute__((visibility("default")))

#define SERVICE_NAME "org.uservm1"
#define MANAGER_PATH "/org/uservm1"
#define MANAGER_INTERFACE "org.uservm1.Manager"
#define VM_INTERFACE "org.uservm1.VM"
#define PROPERTIES_INTERFACE "org.freedesktop.DBus.Properties"
#define OBJECT_MANAGER_INTERFACE "org.freedesktop.DBus.ObjectManager"

/* What sd-bus takes for a call: 0 is its default of 25 seconds. */
#define TIMEOUT_READ 0
#define TIMEOUT_NEVER UINT64_MAX

struct uservm {
        sd_bus *bus;
        sd_bus_error error; /* of the last operation */
        uservm_call *calls;
        uservm_watch *watches;
};

/* handle.c */

/* Make an error the handle's last one. Returns its negative errno. */
int handle_fail(uservm *u, const sd_bus_error *error);
int handle_fail_errno(uservm *u, int r);
/* Likewise, for what came of reading a message. */
int handle_fail_read(uservm *u, int r);
/* Likewise, with the library's own words. */
int handle_fail_argument(uservm *u, const char *format, ...) _printf_(2, 3);

/* The operation succeeded. Returns 0. */
int handle_succeed(uservm *u);

/* value.c: reads what messages hold. All of it returns -EBADMSG or sd-bus' -ENXIO if a message is
 * not like uservmd's. */

/* An a{sv} of properties of the VM at the path; those that are not in it are taken from before,
 * which may be NULL. */
int vm_read(sd_bus_message *m, const char *path, const uservm_vm *before, uservm_vm **ret);

/* An a{sa{sv}} of interfaces and their properties; *ret is NULL if there is no VM among them. */
int vm_read_interfaces(sd_bus_message *m, const char *path, uservm_vm **ret);

/* The reply of GetManagedObjects. */
int vm_read_list(sd_bus_message *m, uservm_vm ***ret, size_t *ret_n);

const char *vm_path(const uservm_vm *vm);

/* enum uservm_changed */
uint64_t vm_compare(const uservm_vm *a, const uservm_vm *b);

/* Appends to a list that ends with NULL, which takes the reference over if there is memory. */
int vm_list_append(uservm_vm ***list, size_t *n, uservm_vm *vm);

int forward_read(sd_bus_message *m, uservm_forward **ret);
int forward_read_list(sd_bus_message *m, uservm_forward ***ret, size_t *ret_n);
int host_read(sd_bus_message *m, uservm_host **ret);

/* settings.c: appends them as an a{sv}. */
int settings_append(const uservm_settings *s, sd_bus_message *m);

/* call.c */

/* What an operation results in. */
typedef enum ResultType {
        RESULT_NONE,
        RESULT_VM,
        RESULT_VMS,
        RESULT_FORWARD,
        RESULT_FORWARDS,
        RESULT_HOST,
} ResultType;

typedef struct Result {
        ResultType type;
        union {
                void *pointer;
                uservm_vm *vm;
                uservm_vm **vms;
                uservm_forward *forward;
                uservm_forward **forwards;
                uservm_host *host;
        };
        size_t n; /* of vms and forwards */
} Result;

void result_clear(Result *result);

/* One call to the service, or two, the second of which goes to the object that the first one
 * returns. Its path is not known before, so the second is a template. */
typedef struct Operation {
        sd_bus_message *first, *second;
        uint64_t first_timeout, second_timeout;
        ResultType type;
} Operation;

void operation_clear(Operation *o);

/* Both take the result of what made the operation, r, to let callers do without looking at it, and
 * leave the error with the handle. */
int operation_wait(uservm *u, Operation *o, int r, Result *ret);
int operation_send(uservm *u, Operation *o, int r, uservm_callback callback, void *userdata,
                   uservm_call **ret);

/* The handle is closed. */
void call_abandon(uservm_call *call);

/* watch.c: the handle is closed. */
void watch_abandon(uservm_watch *watch);
