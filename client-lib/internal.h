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
#define JOB_INTERFACE "org.uservm1.Job"
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

/* value.c, disk.c and job.c read what messages hold. All of it returns -EBADMSG or sd-bus' -ENXIO
 * if a message is not like uservmd's. */

/* An a{sv} of properties of the VM at the path; those that are not in it are taken from before,
 * which may be NULL. */
int vm_read(sd_bus_message *m, const char *path, const uservm_vm *before, uservm_vm **ret);

const char *vm_path(const uservm_vm *vm);

/* enum uservm_changed */
uint64_t vm_compare(const uservm_vm *a, const uservm_vm *b);

int forward_read(sd_bus_message *m, uservm_forward **ret);
int forward_read_list(sd_bus_message *m, uservm_forward ***ret, size_t *ret_n);
int host_read(sd_bus_message *m, uservm_host **ret);
int disk_read_list(sd_bus_message *m, uservm_disk ***ret, size_t *ret_n);
int deletion_read(sd_bus_message *m, uservm_deletion **ret);

/* As vm_read(). */
int job_read(sd_bus_message *m, const char *path, const uservm_job *before, uservm_job **ret);

/* Whether both are of one job, and whether nothing has changed of it. */
bool job_is_same(const uservm_job *a, const uservm_job *b);
bool job_equal(const uservm_job *a, const uservm_job *b);

/* objects.c: VMs and jobs, in lists that end with NULL. */
typedef struct Objects {
        uservm_vm **vms;
        size_t n_vms;
        uservm_job **jobs;
        size_t n_jobs;
} Objects;

void objects_done(Objects *o);

/* Both take the reference over, and release it if they fail. */
int objects_add_vm(Objects *o, uservm_vm *vm);
int objects_add_job(Objects *o, uservm_job *job);

/* The reply of GetManagedObjects: VMs sorted by name, jobs as they began. */
int objects_read(sd_bus_message *m, Objects *ret);

/* An a{sa{sv}} of interfaces and their properties. The results are NULL if it has no such one. */
int interfaces_read(sd_bus_message *m, const char *path, uservm_vm **ret_vm, uservm_job **ret_job);

/* settings.c: appends them as an a{sv}, and marks a message that has secrets. */
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
        RESULT_DISKS,
        RESULT_DELETION,
        RESULT_JOBS,
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
                uservm_disk **disks;
                uservm_deletion *deletion;
                uservm_job **jobs;
        };
        size_t n; /* of lists */
} Result;

void result_clear(Result *result);

/* One call to the service, or two, the second of which goes to the object that the first one
 * returns. Its path is not known before, so the second is a template. */
typedef struct Operation {
        sd_bus_message *first, *second;
        uint64_t first_timeout, second_timeout;
        ResultType type;
        bool gone_is_done; /* if there is no such object any more, nothing is left to do */
} Operation;

void operation_clear(Operation *o);

/* Both take the result of what made the operation, r, to let callers do without looking at it, and
 * leave the error with the handle. */
int operation_wait(uservm *u, Operation *o, int r, Result *ret);
int operation_send(uservm *u, Operation *o, int r, uservm_callback callback, void *userdata,
                   uservm_call **ret);

/* The handle is closed. */
void call_abandon(uservm_call *call);

/* operation.c: what operations are made with. */

/* A method of a VM. */
typedef struct Method {
        const char *interface, *member;
        const char *manager_member; /* the manager's name for it, or NULL */
        uint64_t timeout;
} Method;

/* Complains if no VM is named. */
int operation_check_vm(uservm *u, const char *vm);

/* Begins an operation on a VM, which is to be waited for or not, and returns the message that the
 * arguments go to. It is part of the operation. What goes wrong is for operation_made(). */
int operation_begin_vm(uservm *u, bool wait, const Method *method, const char *vm, Operation *o,
                       sd_bus_message **ret);

/* Begins one that reads all objects. */
int operation_begin_objects(uservm *u, Operation *o);

/* Ends the making of an operation: leaves with the handle what sd-bus refused, if r is negative. */
int operation_made(uservm *u, int r);

/* As operation_wait(). Stores the result, a pointer, and how many things it points to, if that is
 * wanted. */
int operation_wait_for(uservm *u, Operation *o, int r, void *ret, size_t *ret_n);

/* watch.c: the handle is closed. */
void watch_abandon(uservm_watch *watch);
