/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef USERVM_H
#define USERVM_H

/**
 * DOC: libuservm, the C library for front-ends of uservm
 *
 * Everything that uservmd offers on the session bus, in C types. What operations do, refuse and
 * guarantee is described by the D-Bus interfaces (org.uservm1.Manager.xml, org.uservm1.VM.xml,
 * org.uservm1.Job.xml); this header says how to reach it from C.
 *
 * A handle (uservm) is one connection to the bus. All functions that can fail return a negative
 * errno, and ret_ parameters are untouched then. Of operations and watches uservm_error_name() and
 * uservm_error_message() have the reason in detail; of the functions for event loops and settings
 * there is no more than the errno. A "vm" argument is the name of a VM or its UUID. Text is UTF-8.
 *
 * Each operation exists twice. uservm_start() waits for the reply; uservm_start_async() returns at
 * once, and calls a function when the reply is there. Callbacks run within uservm_process(), or in
 * the sd-event loop that the handle is attached to, and nowhere else: an operation that waits
 * delivers none. All functions may be called from callbacks, but for uservm_process() and
 * uservm_wait() of the same handle.
 *
 * Whatever only reads fails after 25 seconds without a reply. So may what changes something as long
 * as it looks for its VM, with nothing done yet; then (starting or saving a VM can take minutes) it
 * has no limit of its own: it returns when uservmd has done it, or when uservmd or the bus has
 * gone. Callers who cannot wait that long use the asynchronous twin.
 *
 * A handle, its calls and its watches belong to one thread at a time: hand them from one to another
 * only with a lock or the like. Threads that each have a handle of their own need no locks. VMs,
 * forwards, hosts, disks, deletions and jobs never change once they were returned; any thread may
 * read them, and take and release references. Neither a handle nor what hangs on it survives fork()
 * in the child, where it fails with -ECHILD.
 *
 * When uservmd ends, calls in flight fail; the next one starts it again, through the bus. A handle
 * whose bus has gone is lost: everything fails with -ENOTCONN or -ECONNRESET. Close it and open
 * another.
 *
 * Structures are allocated by the library alone, and later versions add members at their end.
 * Enumerations grow, too: a value that this version does not know is reported as ..._UNKNOWN.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/**
 * typedef uservm - A handle: one connection to the user's session bus
 */
typedef struct uservm uservm;

/**
 * typedef uservm_settings - What a VM that is to be created shall be
 */
typedef struct uservm_settings uservm_settings;

/**
 * typedef uservm_disk_settings - What a further disk of that VM shall be
 */
typedef struct uservm_disk_settings uservm_disk_settings;

/**
 * typedef uservm_call - An asynchronous operation in flight
 *
 * It is there until its callback has returned, uservm_call_cancel() is called, or its handle is
 * closed. There is nothing to free.
 */
typedef struct uservm_call uservm_call;

/**
 * typedef uservm_watch - A subscription to changes, see uservm_watch_start()
 */
typedef struct uservm_watch uservm_watch;

/* An event loop of libsystemd, see sd-event(3). */
typedef struct sd_event sd_event;

/* ---- What there is ---- */

/**
 * enum uservm_state - The state of a VM, see org.uservm1.VM:State
 * @USERVM_STATE_UNKNOWN: one that this version of the library does not know
 * @USERVM_STATE_SHUTOFF: does not run
 * @USERVM_STATE_STARTING: is being started
 * @USERVM_STATE_RUNNING: runs
 * @USERVM_STATE_PAUSED: has been stopped for a while
 * @USERVM_STATE_SAVED: does not run, and the next start goes on from its saved memory
 * @USERVM_STATE_STOPPING: is being powered off, saved or deleted
 * @USERVM_STATE_CRASHED: the guest or QEMU has crashed
 */
typedef enum uservm_state {
        USERVM_STATE_UNKNOWN,
        USERVM_STATE_SHUTOFF,
        USERVM_STATE_STARTING,
        USERVM_STATE_RUNNING,
        USERVM_STATE_PAUSED,
        USERVM_STATE_SAVED,
        USERVM_STATE_STOPPING,
        USERVM_STATE_CRASHED,
} uservm_state;

/**
 * enum uservm_network - How port forwards of a VM come about, see org.uservm1.VM:Network
 * @USERVM_NETWORK_UNKNOWN: a way that this version of the library does not know
 * @USERVM_NETWORK_NONE: not at all: it has no NIC with user-mode networking
 * @USERVM_NETWORK_MANAGED: by a passt of uservm's own; changes take effect at once
 * @USERVM_NETWORK_NATIVE: by libvirt's passt; changes take effect at the next start
 */
typedef enum uservm_network {
        USERVM_NETWORK_UNKNOWN,
        USERVM_NETWORK_NONE,
        USERVM_NETWORK_MANAGED,
        USERVM_NETWORK_NATIVE,
} uservm_network;

/**
 * enum uservm_forward_state - The state of a port forward, see org.uservm1.VM:Forwards
 * @USERVM_FORWARD_UNKNOWN: one that this version of the library does not know
 * @USERVM_FORWARD_INACTIVE: stored, and the VM does not run
 * @USERVM_FORWARD_ACTIVE: the host ports are being listened on now, which has been verified
 * @USERVM_FORWARD_PENDING: stored, takes effect at the next start
 * @USERVM_FORWARD_REMOVING: no longer stored, listens until the next start
 * @USERVM_FORWARD_FAILED: should listen and does not
 */
typedef enum uservm_forward_state {
        USERVM_FORWARD_UNKNOWN,
        USERVM_FORWARD_INACTIVE,
        USERVM_FORWARD_ACTIVE,
        USERVM_FORWARD_PENDING,
        USERVM_FORWARD_REMOVING,
        USERVM_FORWARD_FAILED,
} uservm_forward_state;

/**
 * struct uservm_port_range - Some ports (this structure does not grow)
 * @first: the first port
 * @last: the last port
 */
typedef struct uservm_port_range {
        uint16_t first, last;
} uservm_port_range;

/**
 * struct uservm_forward - A port forward as it was when it was read
 * @spec: the forward in full, as in "127.0.0.1:8080:80/tcp"
 * @protocol: "tcp" or "udp"
 * @address: address of the host that listens, without brackets; "*" is every one
 * @interface: interface of the host that it is bound to, or NULL
 * @host_port: first port of the host
 * @host_port_end: last port of the host
 * @guest_port: first port of the guest
 * @guest_port_end: last port of the guest
 * @exclude: ports of the host that are left out, @n_exclude ranges
 * @n_exclude: how many there are
 * @persistent: it is part of the stored definition
 * @state: whether it works now
 * @error: why it is failed, or pending; or NULL
 * @vm: name of its VM where forwards of all VMs were asked for, otherwise NULL
 */
typedef struct uservm_forward {
        const char *spec;
        const char *protocol;
        const char *address;
        const char *interface;
        uint16_t host_port, host_port_end;
        uint16_t guest_port, guest_port_end;
        const uservm_port_range *exclude;
        size_t n_exclude;
        bool persistent;
        uservm_forward_state state;
        const char *error;
        const char *vm;
} uservm_forward;

/**
 * struct uservm_vm - A VM as it was when it was read
 * @name: its name; other tools may change it
 * @uuid: its UUID, lower case with dashes; it never changes
 * @state: what it does
 * @vcpus: virtual CPUs
 * @memory: bytes
 * @network: how its forwards come about
 * @network_error: what is wrong with its managed network, a sentence; empty if nothing is
 * @autostart: it is started at login
 * @forwards: its port forwards, @n_forwards of them and a NULL
 * @n_forwards: how many there are
 * @live_vcpus: virtual CPUs that it has now, 0 if it does not run; if they are not @vcpus, a change
 *              is pending
 * @live_memory: bytes that it has now, 0 if it does not run; likewise
 * @ready: the guest is up: its agent answers, or a server in it
 * @guest_hostname: the guest's host name; empty if it has no agent, or does not run
 * @guest_os: the guest's operating system, for people; empty likewise
 * @guest_addresses: the guest's own IP addresses, and a NULL; none likewise
 * @last_error: why what was done to it last and failed did so; empty if nothing has
 * @last_error_operation: what that was, like "Start"; empty likewise
 * @last_error_time: when that was, in microseconds since 1970 (CLOCK_REALTIME); 0 likewise
 */
typedef struct uservm_vm {
        const char *name;
        const char *uuid;
        uservm_state state;
        uint32_t vcpus;
        uint64_t memory;
        uservm_network network;
        const char *network_error;
        bool autostart;
        uservm_forward *const *forwards;
        size_t n_forwards;
        uint32_t live_vcpus;
        uint64_t live_memory;
        bool ready;
        const char *guest_hostname;
        const char *guest_os;
        const char *const *guest_addresses;
        const char *last_error;
        const char *last_error_operation;
        uint64_t last_error_time;
} uservm_vm;

/**
 * struct uservm_disk - A disk or medium of a VM as it was when it was read
 * @target: the name of the device, like "vda", by which the disk is named
 * @device: "disk" or "cdrom", or what else libvirt has
 * @path: the file or block device; NULL if it is neither, or a drive is empty
 * @format: "qcow2", "raw" or what else the VM's definition says; NULL if it says nothing
 * @created: uservm made the file, and deletes it with the VM
 * @size: bytes that the guest sees; 0 if that is not known
 * @allocation: bytes that it takes on the host; likewise
 */
typedef struct uservm_disk {
        const char *target;
        const char *device;
        const char *path;
        const char *format;
        bool created;
        uint64_t size;
        uint64_t allocation;
} uservm_disk;

/**
 * struct uservm_deletion - What came of the files of a VM that was deleted
 * @removed: the files that were deleted, and a NULL
 * @left: files of its disks that are still there, and a NULL
 */
typedef struct uservm_deletion {
        const char *const *removed;
        const char *const *left;
} uservm_deletion;

/**
 * struct uservm_job - Something that takes longer than a moment, as it was when it was read
 * @id: what it is known by among all jobs since uservmd was started
 * @operation: "copy": a disk image is being copied; "save": a VM's memory is being written to disk.
 *             More may come
 * @vm: name of the VM that it is for, which may not be there yet
 * @progress: how much of it is done, from 0.0 to 1.0
 * @rate: bytes a second, on average so far; 0 if that is not known
 * @start_time: when it began, in microseconds since 1970-01-01 UTC (CLOCK_REALTIME)
 */
typedef struct uservm_job {
        const char *id;
        const char *operation;
        const char *vm;
        double progress;
        uint64_t rate;
        uint64_t start_time;
} uservm_job;

/**
 * struct uservm_host - The host and what it can do, see org.uservm1.Manager
 * @version: of uservmd
 * @libvirt_version: of libvirt's session daemon; empty until it has been reached
 * @qemu_version: of QEMU; empty likewise, and if there was none then
 * @passt_version: of passt; empty likewise, and if there is none
 * @features: what the host offers, like "kvm" and "live-forwards"; ends with NULL
 * @native_reason: why VMs have native networking here, a sentence; empty if they have managed
 */
typedef struct uservm_host {
        const char *version;
        const char *libvirt_version;
        const char *qemu_version;
        const char *passt_version;
        const char *const *features;
        const char *native_reason;
} uservm_host;

/**
 * uservm_vm_ref() - Take a reference to a VM
 * @vm: the VM, or NULL
 *
 * Return: @vm.
 */
uservm_vm *uservm_vm_ref(const uservm_vm *vm);

/**
 * uservm_vm_unref() - Release a reference to a VM
 * @vm: the VM, or NULL
 *
 * Return: NULL.
 */
uservm_vm *uservm_vm_unref(uservm_vm *vm);

/**
 * uservm_vms_free() - Free a list of VMs, and release the reference to each
 * @vms: as uservm_list_vms() returned it, or NULL
 */
void uservm_vms_free(uservm_vm **vms);

/**
 * uservm_forward_ref() - Take a reference to a forward
 * @forward: the forward, or NULL; one of a VM may be kept longer than the VM
 *
 * Return: @forward.
 */
uservm_forward *uservm_forward_ref(const uservm_forward *forward);

/**
 * uservm_forward_unref() - Release a reference to a forward
 * @forward: the forward, or NULL
 *
 * Return: NULL.
 */
uservm_forward *uservm_forward_unref(uservm_forward *forward);

/**
 * uservm_forwards_free() - Free a list of forwards, and release the reference to each
 * @forwards: as uservm_list_forwards() returned it, or NULL
 */
void uservm_forwards_free(uservm_forward **forwards);

/**
 * uservm_host_ref() - Take a reference to what is known of the host
 * @host: the host, or NULL
 *
 * Return: @host.
 */
uservm_host *uservm_host_ref(const uservm_host *host);

/**
 * uservm_host_unref() - Release a reference to what is known of the host
 * @host: the host, or NULL
 *
 * Return: NULL.
 */
uservm_host *uservm_host_unref(uservm_host *host);

/**
 * uservm_disk_ref() - Take a reference to a disk
 * @disk: the disk, or NULL
 *
 * Return: @disk.
 */
uservm_disk *uservm_disk_ref(const uservm_disk *disk);

/**
 * uservm_disk_unref() - Release a reference to a disk
 * @disk: the disk, or NULL
 *
 * Return: NULL.
 */
uservm_disk *uservm_disk_unref(uservm_disk *disk);

/**
 * uservm_disks_free() - Free a list of disks, and release the reference to each
 * @disks: as uservm_list_disks() returned it, or NULL
 */
void uservm_disks_free(uservm_disk **disks);

/**
 * uservm_deletion_ref() - Take a reference to what came of a deletion
 * @deletion: what came of it, or NULL
 *
 * Return: @deletion.
 */
uservm_deletion *uservm_deletion_ref(const uservm_deletion *deletion);

/**
 * uservm_deletion_unref() - Release a reference to what came of a deletion
 * @deletion: what came of it, or NULL
 *
 * Return: NULL.
 */
uservm_deletion *uservm_deletion_unref(uservm_deletion *deletion);

/**
 * uservm_job_ref() - Take a reference to a job
 * @job: the job, or NULL
 *
 * Return: @job.
 */
uservm_job *uservm_job_ref(const uservm_job *job);

/**
 * uservm_job_unref() - Release a reference to a job
 * @job: the job, or NULL
 *
 * Return: NULL.
 */
uservm_job *uservm_job_unref(uservm_job *job);

/**
 * uservm_jobs_free() - Free a list of jobs, and release the reference to each
 * @jobs: as uservm_list_jobs() returned it, or NULL
 */
void uservm_jobs_free(uservm_job **jobs);

/**
 * uservm_state_to_string() - The D-Bus API's word for a state, which is fit for people
 * @state: a state
 *
 * Return: A constant like "running"; "unknown" for a state that is unknown.
 */
const char *uservm_state_to_string(uservm_state state);

/**
 * uservm_network_to_string() - The D-Bus API's word for a kind of network
 * @network: a kind of network
 *
 * Return: A constant like "managed"; "unknown" for one that is unknown.
 */
const char *uservm_network_to_string(uservm_network network);

/**
 * uservm_forward_state_to_string() - The D-Bus API's word for a forward's state
 * @state: a state
 *
 * Return: A constant like "active"; "unknown" for a state that is unknown.
 */
const char *uservm_forward_state_to_string(uservm_forward_state state);

/* ---- Handles ---- */

/**
 * uservm_open() - Connect to the session bus
 * @bus_address: a D-Bus address like "unix:path=/run/user/1000/bus", or NULL for the user's own
 *               session bus ($DBUS_SESSION_BUS_ADDRESS, or $XDG_RUNTIME_DIR/bus)
 * @ret: the handle; uservm_close() it
 *
 * uservmd is not asked for anything, nor started.
 *
 * Return: 0, or a negative errno: -ENOMEDIUM if there is neither variable, -EINVAL if the address
 * is malformed, what connect(2) fails with if nobody listens there. A bus that does not let the
 * user in may be noticed not before the first operation.
 */
int uservm_open(const char *bus_address, uservm **ret);

/**
 * uservm_close() - Disconnect
 * @u: the handle, or NULL
 *
 * Its calls are cancelled, its watches end: no callback is called any more. May be called from a
 * callback.
 *
 * Return: NULL.
 */
uservm *uservm_close(uservm *u);

/**
 * uservm_error_name() - What the last operation failed with, for programs
 * @u: the handle
 *
 * Tells of the last operation that has been waited for; within the callback of a call, of that
 * call; within one of a watch, why the service is gone. Valid until the next function that is
 * called with the handle, other than this and uservm_error_message().
 *
 * These come from uservmd, with the errno in the return value: org.uservm1.Error.NoSuchVM
 * (-ENOENT), VMExists (-EEXIST), InvalidForward (-EINVAL), ForwardExists (-EEXIST), NoSuchForward
 * (-ENOENT), PortInUse (-EADDRINUSE), PortPrivileged (-EACCES), NoUserNetwork (-ENONET), NotRunning
 * (-EHOSTDOWN), AlreadyRunning (-EALREADY), Busy (-EBUSY), ImageNotFound (-ENOENT), ImageUnusable
 * (-EMEDIUMTYPE), NotSupported (-EOPNOTSUPP), LibvirtFailed (-EIO), PasstFailed (-EIO), Cancelled
 * (-ECANCELED), and of org.freedesktop.DBus.Error InvalidArgs (-EINVAL), AccessDenied (-EACCES),
 * LimitsExceeded (-ENOBUFS) and Failed (-EIO), see org.uservm1.Manager. Others come from the bus:
 * org.freedesktop.DBus.Error.ServiceUnknown (-EHOSTUNREACH) if uservm is not installed, NoReply
 * (-ETIMEDOUT, also if uservmd ended meanwhile). The library's own are named after the errno, see
 * sd_bus_error_set_errno(3); -EBADMSG is for a reply that is not like uservmd's.
 *
 * Return: A D-Bus error name, or NULL if it succeeded.
 */
const char *uservm_error_name(uservm *u);

/**
 * uservm_error_message() - What the last operation failed with, for people
 * @u: the handle
 *
 * As uservm_error_name().
 *
 * Return: What is wrong and what to do, or NULL if it succeeded.
 */
const char *uservm_error_message(uservm *u);

/* ---- Event loops ---- */

/**
 * uservm_attach_event() - Let an sd-event loop do what is to be done
 * @u: the handle
 * @event: the loop, or NULL for the default one of this thread
 * @priority: of the event sources, see sd_event_source_set_priority(3); 0 is normal
 *
 * Instead of all the other functions of this section. When the loop ends, the handle works on, and
 * can be attached to another once it is detached.
 *
 * Return: 0, or a negative errno; -EBUSY if it is attached.
 */
int uservm_attach_event(uservm *u, sd_event *event, int priority);

/**
 * uservm_detach_event() - Undo uservm_attach_event()
 * @u: the handle
 *
 * Return: 0, or a negative errno.
 */
int uservm_detach_event(uservm *u);

/**
 * uservm_get_fd() - What to poll
 * @u: the handle
 *
 * Other loops poll(2) this for uservm_get_events() until the time of uservm_get_timeout(), asking
 * for both before each time, and then call uservm_process() until it returns 0.
 *
 * Return: A file descriptor, which remains the handle's, or a negative errno.
 */
int uservm_get_fd(uservm *u);

/**
 * uservm_get_events() - What to poll for
 * @u: the handle
 *
 * Return: POLLIN and the like, see poll(2), or a negative errno.
 */
int uservm_get_events(uservm *u);

/**
 * uservm_get_timeout() - When to call uservm_process() at the latest
 * @u: the handle
 * @ret_usec: time of CLOCK_MONOTONIC in microseconds; 0 is now, UINT64_MAX is never
 *
 * Return: 0, or a negative errno.
 */
int uservm_get_timeout(uservm *u, uint64_t *ret_usec);

/**
 * uservm_process() - Do some of what is to be done, callbacks included
 * @u: the handle
 *
 * Does not block.
 *
 * Return: Positive if something was done and there may be more; 0 if there is nothing to do; or a
 * negative errno, in particular if the bus has gone.
 */
int uservm_process(uservm *u);

/**
 * uservm_wait() - Wait until there is something to do
 * @u: the handle
 * @timeout_usec: how long at most; UINT64_MAX is for ever
 *
 * For programs without an event loop: while nothing is left to do, wait.
 *
 * Return: Positive if there is something for uservm_process() to do, and after a signal; 0 if the
 * time is over; or a negative errno.
 */
int uservm_wait(uservm *u, uint64_t timeout_usec);

/* ---- Operations ---- */

/**
 * typedef uservm_callback - What is called when an asynchronous operation is done
 * @call: the call; it is gone when the callback returns
 * @result: 0, or a negative errno; uservm_error_name() and uservm_error_message() know more
 * @userdata: as given with the operation
 */
typedef void (*uservm_callback)(uservm_call *call, int result, void *userdata);

/**
 * uservm_call_cancel() - Do not wait for an operation any more
 * @call: the call, or NULL
 *
 * Its callback is not called. What uservmd has begun it finishes, and the outcome shows in the
 * state of the VM. Within the callback of the call itself this does nothing.
 *
 * Return: NULL.
 */
uservm_call *uservm_call_cancel(uservm_call *call);

/**
 * uservm_call_get_handle() - The handle of a call
 * @call: the call
 *
 * Return: The handle.
 */
uservm *uservm_call_get_handle(uservm_call *call);

/**
 * uservm_call_get_vm() - Result of uservm_get_vm_async() and uservm_create_async()
 * @call: the call, within its callback
 *
 * Return: The VM, or NULL if the call failed. It goes with the call, unless a reference is taken.
 */
const uservm_vm *uservm_call_get_vm(uservm_call *call);

/**
 * uservm_call_get_vms() - Result of uservm_list_vms_async()
 * @call: the call, within its callback
 * @ret_n: how many there are; may be NULL
 *
 * Return: The VMs and a NULL, or just NULL if the call failed. They go with the call, but for those
 * to which a reference is taken.
 */
uservm_vm *const *uservm_call_get_vms(uservm_call *call, size_t *ret_n);

/**
 * uservm_call_get_forward() - Result of uservm_add_forward_async()
 * @call: the call, within its callback
 *
 * Return: The forward, or NULL if the call failed. It goes with the call, unless a reference is
 * taken.
 */
const uservm_forward *uservm_call_get_forward(uservm_call *call);

/**
 * uservm_call_get_forwards() - Result of uservm_list_forwards_async()
 * @call: the call, within its callback
 * @ret_n: how many there are; may be NULL
 *
 * Return: The forwards and a NULL, or just NULL if the call failed. They go with the call, but for
 * those to which a reference is taken.
 */
uservm_forward *const *uservm_call_get_forwards(uservm_call *call, size_t *ret_n);

/**
 * uservm_call_get_host() - Result of uservm_get_host_async()
 * @call: the call, within its callback
 *
 * Return: The host, or NULL if the call failed. It goes with the call, unless a reference is taken.
 */
const uservm_host *uservm_call_get_host(uservm_call *call);

/**
 * uservm_call_get_disks() - Result of uservm_list_disks_async()
 * @call: the call, within its callback
 * @ret_n: how many there are; may be NULL
 *
 * Return: The disks and a NULL, or just NULL if the call failed. They go with the call, but for
 * those to which a reference is taken.
 */
uservm_disk *const *uservm_call_get_disks(uservm_call *call, size_t *ret_n);

/**
 * uservm_call_get_deletion() - Result of uservm_delete_async()
 * @call: the call, within its callback
 *
 * Return: What came of it, or NULL if the call failed. It goes with the call, unless a reference is
 * taken.
 */
const uservm_deletion *uservm_call_get_deletion(uservm_call *call);

/**
 * uservm_call_get_jobs() - Result of uservm_list_jobs_async()
 * @call: the call, within its callback
 * @ret_n: how many there are; may be NULL
 *
 * Return: The jobs and a NULL, or just NULL if the call failed. They go with the call, but for
 * those to which a reference is taken.
 */
uservm_job *const *uservm_call_get_jobs(uservm_call *call, size_t *ret_n);

/**
 * DOC: Asynchronous twins
 *
 * The functions that end in _async take the same arguments as the others but for those to return
 * something, and then @callback, @userdata, and @ret_call, which may be NULL for a call that is
 * never cancelled. They return 0 when the request is under way, and a negative errno, without ever
 * calling the callback, if it could not be made. @callback may be NULL, too. uservmd does what is
 * done to one VM in the order of the calls, as long as they are all asynchronous or all wait.
 */

/**
 * uservm_get_host() - What the host can do, and versions
 * @u: the handle
 * @ret: release it with uservm_host_unref()
 *
 * Return: 0, or a negative errno.
 */
int uservm_get_host(uservm *u, uservm_host **ret);
int uservm_get_host_async(uservm *u, uservm_callback callback, void *userdata,
                          uservm_call **ret_call);

/**
 * uservm_list_vms() - List all VMs with all their properties
 * @u: the handle
 * @ret: the VMs sorted by name, and a NULL; free the list with uservm_vms_free()
 * @ret_n: how many there are; may be NULL
 *
 * Return: 0, or a negative errno.
 */
int uservm_list_vms(uservm *u, uservm_vm ***ret, size_t *ret_n);
int uservm_list_vms_async(uservm *u, uservm_callback callback, void *userdata,
                          uservm_call **ret_call);

/**
 * uservm_get_vm() - Find a VM and read all its properties
 * @u: the handle
 * @vm: name or UUID
 * @ret: release it with uservm_vm_unref()
 *
 * Return: 0, or a negative errno.
 */
int uservm_get_vm(uservm *u, const char *vm, uservm_vm **ret);
int uservm_get_vm_async(uservm *u, const char *vm, uservm_callback callback, void *userdata,
                        uservm_call **ret_call);

/**
 * uservm_settings_new() - Begin to say what a new VM shall be
 * @name: its name, see org.uservm1.Manager.CreateVM()
 * @ret: free it with uservm_settings_free()
 *
 * What is not set has the default of CreateVM(). Values are looked at by uservmd, when the VM is to
 * be created. A setter that is called again replaces the value. Strings are copied.
 *
 * Return: 0, or a negative errno, which, as that of all setters, is -ENOMEM, or -EINVAL if
 * something that is needed is NULL.
 */
int uservm_settings_new(const char *name, uservm_settings **ret);

/**
 * uservm_settings_free() - Free settings
 * @s: the settings, or NULL
 *
 * Return: NULL.
 */
uservm_settings *uservm_settings_free(uservm_settings *s);

/**
 * uservm_settings_set_memory() - How much memory
 * @s: the settings
 * @bytes: bytes
 *
 * Return: 0, or a negative errno.
 */
int uservm_settings_set_memory(uservm_settings *s, uint64_t bytes);

/**
 * uservm_settings_set_memory_text() - How much memory, as people write it
 * @s: the settings
 * @size: like "2G" or "512MiB"
 *
 * Return: 0, or a negative errno.
 */
int uservm_settings_set_memory_text(uservm_settings *s, const char *size);

/**
 * uservm_settings_set_vcpus() - How many virtual CPUs
 * @s: the settings
 * @vcpus: 1 to 255
 *
 * Return: 0, or a negative errno.
 */
int uservm_settings_set_vcpus(uservm_settings *s, uint32_t vcpus);

/**
 * uservm_settings_set_disk() - Use an existing image or block device in place
 * @s: the settings
 * @path: absolute path
 *
 * Return: 0, or a negative errno.
 */
int uservm_settings_set_disk(uservm_settings *s, const char *path);

/**
 * uservm_settings_set_image() - Make a new disk of an existing image, which is never written to
 * @s: the settings
 * @path: absolute path of a qcow2 or raw image
 *
 * Return: 0, or a negative errno.
 */
int uservm_settings_set_image(uservm_settings *s, const char *path);

/**
 * uservm_settings_set_copy() - Whether the new disk is a copy of the image, or based on it
 * @s: the settings
 * @copy: true: an independent copy, which takes a while, see struct uservm_job; false, the default:
 *        it has only what differs from the image, which must stay where it is
 *
 * Return: 0, or a negative errno.
 */
int uservm_settings_set_copy(uservm_settings *s, bool copy);

/**
 * uservm_settings_set_disk_size() - How large the new disk is
 * @s: the settings
 * @bytes: bytes; without an image it is empty, with one at least as large as that
 *
 * Return: 0, or a negative errno.
 */
int uservm_settings_set_disk_size(uservm_settings *s, uint64_t bytes);

/**
 * uservm_settings_set_disk_size_text() - How large the new disk is, as people write it
 * @s: the settings
 * @size: like "20G"
 *
 * Return: 0, or a negative errno.
 */
int uservm_settings_set_disk_size_text(uservm_settings *s, const char *size);

/**
 * uservm_settings_add_disk() - One more disk, behind the one of the functions above
 * @s: the settings
 * @ret: what it shall be; it belongs to @s, and goes with it
 *
 * The functions that set it are like those above.
 *
 * Return: 0, or a negative errno.
 */
int uservm_settings_add_disk(uservm_settings *s, uservm_disk_settings **ret);

/**
 * uservm_disk_settings_set_disk() - Use an existing image or block device in place
 * @d: the disk
 * @path: absolute path
 *
 * Return: 0, or a negative errno.
 */
int uservm_disk_settings_set_disk(uservm_disk_settings *d, const char *path);

/**
 * uservm_disk_settings_set_image() - Make a new disk of an existing image
 * @d: the disk
 * @path: absolute path of a qcow2 or raw image
 *
 * Return: 0, or a negative errno.
 */
int uservm_disk_settings_set_image(uservm_disk_settings *d, const char *path);

/**
 * uservm_disk_settings_set_copy() - Whether the new disk is a copy of the image, or based on it
 * @d: the disk
 * @copy: false is the default
 *
 * Return: 0, or a negative errno.
 */
int uservm_disk_settings_set_copy(uservm_disk_settings *d, bool copy);

/**
 * uservm_disk_settings_set_size() - How large the new disk is
 * @d: the disk
 * @bytes: bytes
 *
 * Return: 0, or a negative errno.
 */
int uservm_disk_settings_set_size(uservm_disk_settings *d, uint64_t bytes);

/**
 * uservm_disk_settings_set_size_text() - How large the new disk is, as people write it
 * @d: the disk
 * @size: like "20G"
 *
 * Return: 0, or a negative errno.
 */
int uservm_disk_settings_set_size_text(uservm_disk_settings *d, const char *size);

/**
 * uservm_settings_set_cdrom() - Put in a CD
 * @s: the settings
 * @path: absolute path of an ISO image or a block device
 *
 * Return: 0, or a negative errno.
 */
int uservm_settings_set_cdrom(uservm_settings *s, const char *path);

/**
 * uservm_settings_set_kernel() - Boot Linux directly
 * @s: the settings
 * @kernel: absolute path of the kernel
 * @initrd: absolute path of an initial RAM disk, or NULL
 * @cmdline: the kernel's command line, or NULL
 *
 * Return: 0, or a negative errno.
 */
int uservm_settings_set_kernel(uservm_settings *s, const char *kernel, const char *initrd,
                               const char *cmdline);

/**
 * uservm_settings_add_forward() - One more port forward
 * @s: the settings
 * @spec: like "8080:80"
 *
 * Return: 0, or a negative errno.
 */
int uservm_settings_add_forward(uservm_settings *s, const char *spec);

/**
 * uservm_settings_set_accelerator() - What the VM runs on
 * @s: the settings
 * @accelerator: "auto", "kvm" or "tcg"
 *
 * Return: 0, or a negative errno.
 */
int uservm_settings_set_accelerator(uservm_settings *s, const char *accelerator);

/**
 * uservm_settings_set_firmware() - What the VM boots with
 * @s: the settings
 * @firmware: "bios" or "uefi"
 *
 * Return: 0, or a negative errno.
 */
int uservm_settings_set_firmware(uservm_settings *s, const char *firmware);

/**
 * uservm_settings_set_start() - Whether to start the VM now
 * @s: the settings
 * @start: true is the default
 *
 * Return: 0, or a negative errno.
 */
int uservm_settings_set_start(uservm_settings *s, bool start);

/**
 * uservm_settings_set_autostart() - Whether to start the VM at every login
 * @s: the settings
 * @autostart: false is the default
 *
 * Return: 0, or a negative errno.
 */
int uservm_settings_set_autostart(uservm_settings *s, bool autostart);

/**
 * uservm_settings_set_hostname() - The guest's host name
 * @s: the settings
 * @hostname: a host name; the default is the name of the VM
 *
 * Return: 0, or a negative errno.
 */
int uservm_settings_set_hostname(uservm_settings *s, const char *hostname);

/**
 * uservm_settings_set_user() - Who can log in to the guest, and become root there
 * @s: the settings
 * @user: a login name; the default is that of the user who runs uservmd
 *
 * Return: 0, or a negative errno.
 */
int uservm_settings_set_user(uservm_settings *s, const char *user);

/**
 * uservm_settings_add_ssh_key() - One more key with which that user can log in
 * @s: the settings
 * @key: a public key, a line of authorized_keys, see sshd(8)
 *
 * Return: 0, or a negative errno.
 */
int uservm_settings_add_ssh_key(uservm_settings *s, const char *key);

/**
 * uservm_settings_set_password() - That user's password
 * @s: the settings
 * @password: the password, not a hash of it
 *
 * The library erases its copies: that in the settings when they are freed or it is set again, and
 * that in the request when this has been sent.
 *
 * Return: 0, or a negative errno.
 */
int uservm_settings_set_password(uservm_settings *s, const char *password);

/**
 * uservm_settings_set_user_data() - User data of one's own for cloud-init, instead of those three
 * @s: the settings
 * @user_data: what cloud-init gets, byte for byte
 *
 * It may have secrets, and is treated as a password is.
 *
 * Return: 0, or a negative errno.
 */
int uservm_settings_set_user_data(uservm_settings *s, const char *user_data);

/**
 * uservm_settings_set_guest_setup() - How the guest gets to know all this
 * @s: the settings
 * @guest_setup: "cloud-init", which is the default, or "credentials", for guests that have systemd
 *               and not cloud-init
 *
 * Return: 0, or a negative errno.
 */
int uservm_settings_set_guest_setup(uservm_settings *s, const char *guest_setup);

/**
 * uservm_create() - Create a VM and, unless the settings say otherwise, start it
 * @u: the handle
 * @settings: what it shall be; they remain the caller's, and can be used again
 * @ret: the new VM, release it with uservm_vm_unref(); may be NULL
 *
 * Return: 0, or a negative errno, and nothing is left behind.
 */
int uservm_create(uservm *u, const uservm_settings *settings, uservm_vm **ret);
int uservm_create_async(uservm *u, const uservm_settings *settings, uservm_callback callback,
                        void *userdata, uservm_call **ret_call);

/**
 * uservm_start() - Start a VM, from its saved memory if there is any
 * @u: the handle
 * @vm: name or UUID
 * @flags: 0
 *
 * Return: 0 when it runs, or a negative errno.
 */
int uservm_start(uservm *u, const char *vm, uint64_t flags);
int uservm_start_async(uservm *u, const char *vm, uint64_t flags, uservm_callback callback,
                       void *userdata, uservm_call **ret_call);

/**
 * uservm_shutdown() - Ask the guest to shut down
 * @u: the handle
 * @vm: name or UUID
 * @flags: 0
 *
 * Return: 0 when it has been asked (a watch tells when it is down), or a negative errno.
 */
int uservm_shutdown(uservm *u, const char *vm, uint64_t flags);
int uservm_shutdown_async(uservm *u, const char *vm, uint64_t flags, uservm_callback callback,
                          void *userdata, uservm_call **ret_call);

/**
 * uservm_power_off() - Stop a VM at once, as if its power plug was pulled
 * @u: the handle
 * @vm: name or UUID
 * @flags: 0
 *
 * Return: 0 when it is off, or a negative errno.
 */
int uservm_power_off(uservm *u, const char *vm, uint64_t flags);
int uservm_power_off_async(uservm *u, const char *vm, uint64_t flags, uservm_callback callback,
                           void *userdata, uservm_call **ret_call);

/**
 * uservm_reboot() - Ask the guest to reboot
 * @u: the handle
 * @vm: name or UUID
 * @flags: 0
 *
 * Return: 0 when it has been asked, or a negative errno.
 */
int uservm_reboot(uservm *u, const char *vm, uint64_t flags);
int uservm_reboot_async(uservm *u, const char *vm, uint64_t flags, uservm_callback callback,
                        void *userdata, uservm_call **ret_call);

/**
 * uservm_reset() - Reset a VM at once, as with the reset button
 * @u: the handle
 * @vm: name or UUID
 * @flags: 0
 *
 * Return: 0, or a negative errno.
 */
int uservm_reset(uservm *u, const char *vm, uint64_t flags);
int uservm_reset_async(uservm *u, const char *vm, uint64_t flags, uservm_callback callback,
                       void *userdata, uservm_call **ret_call);

/**
 * uservm_pause() - Stop the virtual CPUs of a VM for a while
 * @u: the handle
 * @vm: name or UUID
 * @flags: 0
 *
 * Return: 0, or a negative errno.
 */
int uservm_pause(uservm *u, const char *vm, uint64_t flags);
int uservm_pause_async(uservm *u, const char *vm, uint64_t flags, uservm_callback callback,
                       void *userdata, uservm_call **ret_call);

/**
 * uservm_resume() - Let a paused VM go on
 * @u: the handle
 * @vm: name or UUID
 * @flags: 0
 *
 * Return: 0, or a negative errno.
 */
int uservm_resume(uservm *u, const char *vm, uint64_t flags);
int uservm_resume_async(uservm *u, const char *vm, uint64_t flags, uservm_callback callback,
                        void *userdata, uservm_call **ret_call);

/**
 * uservm_save() - Write a VM's memory to disk and stop it
 * @u: the handle
 * @vm: name or UUID
 * @flags: 0
 *
 * Return: 0 when it is saved, or a negative errno.
 */
int uservm_save(uservm *u, const char *vm, uint64_t flags);
int uservm_save_async(uservm *u, const char *vm, uint64_t flags, uservm_callback callback,
                      void *userdata, uservm_call **ret_call);

/**
 * enum uservm_delete_flags - Flags of uservm_delete()
 * @USERVM_DELETE_FORCE: power the VM off first if it runs
 * @USERVM_DELETE_KEEP_STORAGE: do not delete the disks that uservm made for it
 */
typedef enum uservm_delete_flags {
        USERVM_DELETE_FORCE = 1 << 0,
        USERVM_DELETE_KEEP_STORAGE = 1 << 1,
} uservm_delete_flags;

/**
 * uservm_delete() - Delete a VM, and the disks that uservm made for it
 * @u: the handle
 * @vm: name or UUID
 * @flags: of enum uservm_delete_flags
 * @ret: what was deleted and what is left; release it with uservm_deletion_unref(); may be NULL
 *
 * Return: 0, or a negative errno.
 */
int uservm_delete(uservm *u, const char *vm, uint64_t flags, uservm_deletion **ret);
int uservm_delete_async(uservm *u, const char *vm, uint64_t flags, uservm_callback callback,
                        void *userdata, uservm_call **ret_call);

/**
 * uservm_rename() - Give a VM that does not run another name
 * @u: the handle
 * @vm: name or UUID
 * @name: the new name
 *
 * Return: 0, or a negative errno.
 */
int uservm_rename(uservm *u, const char *vm, const char *name);
int uservm_rename_async(uservm *u, const char *vm, const char *name, uservm_callback callback,
                        void *userdata, uservm_call **ret_call);

/**
 * uservm_set_memory() - Set how much memory a VM has
 * @u: the handle
 * @vm: name or UUID
 * @bytes: bytes
 *
 * Of a VM that runs, @live_memory tells what it has by then.
 *
 * Return: 0, or a negative errno.
 */
int uservm_set_memory(uservm *u, const char *vm, uint64_t bytes);
int uservm_set_memory_async(uservm *u, const char *vm, uint64_t bytes, uservm_callback callback,
                            void *userdata, uservm_call **ret_call);

/**
 * uservm_set_vcpus() - Set how many virtual CPUs a VM has
 * @u: the handle
 * @vm: name or UUID
 * @vcpus: 1 to 255
 *
 * Of a VM that runs, @live_vcpus tells what it has by then.
 *
 * Return: 0, or a negative errno.
 */
int uservm_set_vcpus(uservm *u, const char *vm, uint32_t vcpus);
int uservm_set_vcpus_async(uservm *u, const char *vm, uint32_t vcpus, uservm_callback callback,
                           void *userdata, uservm_call **ret_call);

/**
 * uservm_list_disks() - List the disks and media of a VM
 * @u: the handle
 * @vm: name or UUID
 * @ret: the disks and a NULL; free the list with uservm_disks_free()
 * @ret_n: how many there are; may be NULL
 *
 * Return: 0, or a negative errno.
 */
int uservm_list_disks(uservm *u, const char *vm, uservm_disk ***ret, size_t *ret_n);
int uservm_list_disks_async(uservm *u, const char *vm, uservm_callback callback, void *userdata,
                            uservm_call **ret_call);

/**
 * uservm_resize_disk() - Make a disk of a VM larger
 * @u: the handle
 * @vm: name or UUID
 * @target: name of the disk, see struct uservm_disk
 * @bytes: bytes, more than it has
 *
 * Return: 0, or a negative errno.
 */
int uservm_resize_disk(uservm *u, const char *vm, const char *target, uint64_t bytes);
int uservm_resize_disk_async(uservm *u, const char *vm, const char *target, uint64_t bytes,
                             uservm_callback callback, void *userdata, uservm_call **ret_call);

/**
 * uservm_set_autostart() - Whether a VM is started at login
 * @u: the handle
 * @vm: name or UUID
 * @autostart: whether it shall be
 *
 * Return: 0, or a negative errno.
 */
int uservm_set_autostart(uservm *u, const char *vm, bool autostart);
int uservm_set_autostart_async(uservm *u, const char *vm, bool autostart, uservm_callback callback,
                               void *userdata, uservm_call **ret_call);

/**
 * enum uservm_forward_flags - Flags of uservm_add_forward() and uservm_remove_forward()
 * @USERVM_FORWARD_THIS_RUN: change only what runs, not what is stored ("persistent" false)
 * @USERVM_FORWARD_DISRUPTIVE: where the network is native, make the change now at the cost of all
 *                             connections of the guest
 */
typedef enum uservm_forward_flags {
        USERVM_FORWARD_THIS_RUN = 1 << 0,
        USERVM_FORWARD_DISRUPTIVE = 1 << 1,
} uservm_forward_flags;

/**
 * uservm_add_forward() - Add a port forward
 * @u: the handle
 * @vm: name or UUID
 * @spec: [ADDRESS:]HOSTPORT[-END][:GUESTPORT[-END]][/tcp|/udp]; HOSTPORT 0 picks a free port
 * @flags: of enum uservm_forward_flags
 * @ret: the forward as it now is, the host port that was picked included; release it with
 *       uservm_forward_unref(); may be NULL
 *
 * Return: 0, or a negative errno.
 */
int uservm_add_forward(uservm *u, const char *vm, const char *spec, uint64_t flags,
                       uservm_forward **ret);
int uservm_add_forward_async(uservm *u, const char *vm, const char *spec, uint64_t flags,
                             uservm_callback callback, void *userdata, uservm_call **ret_call);

/**
 * uservm_remove_forward() - Remove a port forward
 * @u: the handle
 * @vm: name or UUID
 * @spec: its host side: address, host ports and protocol; a guest side is not looked at
 * @flags: of enum uservm_forward_flags
 *
 * Return: 0, or a negative errno.
 */
int uservm_remove_forward(uservm *u, const char *vm, const char *spec, uint64_t flags);
int uservm_remove_forward_async(uservm *u, const char *vm, const char *spec, uint64_t flags,
                                uservm_callback callback, void *userdata, uservm_call **ret_call);

/**
 * uservm_list_forwards() - List port forwards
 * @u: the handle
 * @vm: name or UUID, or NULL for the forwards of all VMs, each with its @vm
 * @ret: the forwards and a NULL; free the list with uservm_forwards_free()
 * @ret_n: how many there are; may be NULL
 *
 * Return: 0, or a negative errno.
 */
int uservm_list_forwards(uservm *u, const char *vm, uservm_forward ***ret, size_t *ret_n);
int uservm_list_forwards_async(uservm *u, const char *vm, uservm_callback callback, void *userdata,
                               uservm_call **ret_call);

/**
 * uservm_list_jobs() - List what is under way and takes longer than a moment
 * @u: the handle
 * @ret: the jobs in the order in which they began, and a NULL; free the list with
 *       uservm_jobs_free()
 * @ret_n: how many there are; may be NULL
 *
 * A watch tells how they get on.
 *
 * Return: 0, or a negative errno.
 */
int uservm_list_jobs(uservm *u, uservm_job ***ret, size_t *ret_n);
int uservm_list_jobs_async(uservm *u, uservm_callback callback, void *userdata,
                           uservm_call **ret_call);

/**
 * uservm_cancel_job() - End a job
 * @u: the handle
 * @job: the job
 *
 * The operation that it belongs to, if it can still be ended, fails with
 * org.uservm1.Error.Cancelled (-ECANCELED) within a second.
 *
 * Return: 0, also if the job is over by now, or a negative errno.
 */
int uservm_cancel_job(uservm *u, const uservm_job *job);
int uservm_cancel_job_async(uservm *u, const uservm_job *job, uservm_callback callback,
                            void *userdata, uservm_call **ret_call);

/* ---- Changes ---- */

/**
 * enum uservm_event - What a watch tells; ignore what is unknown, more may come
 * @USERVM_EVENT_VM_ADDED: there is a VM: it has been created, or this is the beginning
 * @USERVM_EVENT_VM_CHANGED: a VM has changed
 * @USERVM_EVENT_VM_REMOVED: a VM is no more
 * @USERVM_EVENT_SYNCED: what has been told so far is how things are now. Comes once after the VMs
 *                       and jobs that are there at the beginning, and each time that the service
 *                       has been gone, after what has changed meanwhile
 * @USERVM_EVENT_SERVICE_GONE: uservmd has ended or could not be started, or the bus has gone:
 *                             nothing is known of VMs, though they may run on. SYNCED tells when it
 *                             is back. The watch does not start uservmd again; the next operation
 *                             does
 * @USERVM_EVENT_HOST_CHANGED: what uservm_get_host() reads has changed, or may have: this comes
 *                             before each SYNCED but the first, too
 * @USERVM_EVENT_JOB_ADDED: something has begun that takes longer than a moment
 * @USERVM_EVENT_JOB_CHANGED: a job has got on; ten times a second at most
 * @USERVM_EVENT_JOB_REMOVED: a job is over: done, failed or cancelled
 */
typedef enum uservm_event {
        USERVM_EVENT_VM_ADDED = 1,
        USERVM_EVENT_VM_CHANGED,
        USERVM_EVENT_VM_REMOVED,
        USERVM_EVENT_SYNCED,
        USERVM_EVENT_SERVICE_GONE,
        USERVM_EVENT_HOST_CHANGED,
        USERVM_EVENT_JOB_ADDED,
        USERVM_EVENT_JOB_CHANGED,
        USERVM_EVENT_JOB_REMOVED,
} uservm_event;

/**
 * enum uservm_changed - What has changed of a VM
 * @USERVM_CHANGED_NAME: its name
 * @USERVM_CHANGED_STATE: its state
 * @USERVM_CHANGED_VCPUS: its virtual CPUs
 * @USERVM_CHANGED_MEMORY: its memory
 * @USERVM_CHANGED_NETWORK: its kind of network
 * @USERVM_CHANGED_NETWORK_ERROR: what is wrong with its network
 * @USERVM_CHANGED_AUTOSTART: its autostart
 * @USERVM_CHANGED_FORWARDS: its forwards
 * @USERVM_CHANGED_LIVE_VCPUS: the virtual CPUs that it has now
 * @USERVM_CHANGED_LIVE_MEMORY: the memory that it has now
 * @USERVM_CHANGED_READY: whether its guest is up
 * @USERVM_CHANGED_GUEST_HOSTNAME: its guest's host name
 * @USERVM_CHANGED_GUEST_OS: its guest's operating system
 * @USERVM_CHANGED_GUEST_ADDRESSES: its guest's addresses
 * @USERVM_CHANGED_LAST_ERROR: what was done to it last and failed
 */
typedef enum uservm_changed {
        USERVM_CHANGED_NAME = 1 << 0,
        USERVM_CHANGED_STATE = 1 << 1,
        USERVM_CHANGED_VCPUS = 1 << 2,
        USERVM_CHANGED_MEMORY = 1 << 3,
        USERVM_CHANGED_NETWORK = 1 << 4,
        USERVM_CHANGED_NETWORK_ERROR = 1 << 5,
        USERVM_CHANGED_AUTOSTART = 1 << 6,
        USERVM_CHANGED_FORWARDS = 1 << 7,
        USERVM_CHANGED_LIVE_VCPUS = 1 << 8,
        USERVM_CHANGED_LIVE_MEMORY = 1 << 9,
        USERVM_CHANGED_READY = 1 << 10,
        USERVM_CHANGED_GUEST_HOSTNAME = 1 << 11,
        USERVM_CHANGED_GUEST_OS = 1 << 12,
        USERVM_CHANGED_GUEST_ADDRESSES = 1 << 13,
        USERVM_CHANGED_LAST_ERROR = 1 << 14,
} uservm_changed;

/**
 * struct uservm_change - Something that has happened
 * @event: what
 * @vm: the VM as it is now, or as it last was if it is no more; NULL if it is not about one. It
 *      goes when the callback returns, unless a reference is taken
 * @before: USERVM_EVENT_VM_CHANGED: the VM as it was before; otherwise NULL
 * @changed: USERVM_EVENT_VM_CHANGED: of enum uservm_changed; otherwise 0
 * @job: the job as it is now, or as it last was if it is over; NULL if it is not about one. As @vm
 */
typedef struct uservm_change {
        uservm_event event;
        const uservm_vm *vm;
        const uservm_vm *before;
        uint64_t changed;
        const uservm_job *job;
} uservm_change;

/**
 * typedef uservm_watch_callback - What is called when something has happened
 * @watch: the watch; uservm_watch_stop() may be called
 * @change: what has happened; it goes when the callback returns
 * @userdata: as given to uservm_watch_start()
 */
typedef void (*uservm_watch_callback)(uservm_watch *watch, const uservm_change *change,
                                      void *userdata);

/**
 * uservm_watch_start() - Be told of all VMs and jobs, and of every change
 * @u: the handle
 * @callback: called for each VM and job there is, then for each change
 * @userdata: for the callback
 * @ret: the watch; NULL for one that lasts as long as the handle
 *
 * Does not wait; everything comes through the callback, and there is no gap between what is there
 * and what changes. Starts uservmd if need be. When uservmd is started anew, all is read again, and
 * the differences are told.
 *
 * Return: 0, or a negative errno.
 */
int uservm_watch_start(uservm *u, uservm_watch_callback callback, void *userdata,
                       uservm_watch **ret);

/**
 * uservm_watch_stop() - Be told no more
 * @watch: the watch, or NULL
 *
 * Return: NULL.
 */
uservm_watch *uservm_watch_stop(uservm_watch *watch);

/* ---- For __attribute__((cleanup())) ---- */

#define _USERVM_CLEANUP(type, function)                                                            \
        static inline void function##p(type **p) {                                                 \
                if (*p)                                                                            \
                        function(*p);                                                              \
        }
_USERVM_CLEANUP(uservm, uservm_close)
_USERVM_CLEANUP(uservm_settings, uservm_settings_free)
_USERVM_CLEANUP(uservm_vm, uservm_vm_unref)
_USERVM_CLEANUP(uservm_vm *, uservm_vms_free)
_USERVM_CLEANUP(uservm_forward, uservm_forward_unref)
_USERVM_CLEANUP(uservm_forward *, uservm_forwards_free)
_USERVM_CLEANUP(uservm_host, uservm_host_unref)
_USERVM_CLEANUP(uservm_disk, uservm_disk_unref)
_USERVM_CLEANUP(uservm_disk *, uservm_disks_free)
_USERVM_CLEANUP(uservm_deletion, uservm_deletion_unref)
_USERVM_CLEANUP(uservm_job, uservm_job_unref)
_USERVM_CLEANUP(uservm_job *, uservm_jobs_free)
_USERVM_CLEANUP(uservm_watch, uservm_watch_stop)
#undef _USERVM_CLEANUP

#ifdef __cplusplus
}
#endif

#endif
