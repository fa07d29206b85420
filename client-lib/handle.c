/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* A handle is a private connection to the bus, so that handles in several threads share nothing.
 * It is not opened anew when the bus goes: a session's bus goes with the session.
 *
 * The handle remembers the error of the last operation, and errno is made from the error's name.
 * sd-bus could do that too, given a table, but it keeps those of a process in one place, which a
 * library had better leave to the program.
 *
 * The sd-event and polling functions are sd-bus' own; only returning is made uniform. */

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

#include "internal.h"

#define ERROR_PREFIX "org.uservm1.Error."

static const struct {
        const char *name;
        int error;
} service_errors[] = {
        { ERROR_PREFIX "NoSuchVM", ENOENT },
        { ERROR_PREFIX "VMExists", EEXIST },
        { ERROR_PREFIX "InvalidForward", EINVAL },
        { ERROR_PREFIX "ForwardExists", EEXIST },
        { ERROR_PREFIX "NoSuchForward", ENOENT },
        { ERROR_PREFIX "PortInUse", EADDRINUSE },
        { ERROR_PREFIX "PortPrivileged", EACCES },
        { ERROR_PREFIX "NoUserNetwork", ENONET },
        { ERROR_PREFIX "NotRunning", EHOSTDOWN },
        { ERROR_PREFIX "AlreadyRunning", EALREADY },
        { ERROR_PREFIX "Busy", EBUSY },
        { ERROR_PREFIX "ImageNotFound", ENOENT },
        { ERROR_PREFIX "ImageUnusable", EMEDIUMTYPE },
        { ERROR_PREFIX "NotSupported", EOPNOTSUPP },
        { ERROR_PREFIX "LibvirtFailed", EIO },
        { ERROR_PREFIX "PasstFailed", EIO },
        { ERROR_PREFIX "Cancelled", ECANCELED },
        { SD_BUS_ERROR_FAILED, EIO }, /* sd-bus has EACCES, which misleads */
};

static int error_to_errno(const sd_bus_error *error) {
        for (size_t i = 0; i < ELEMENTSOF(service_errors); i++)
                if (sd_bus_error_has_name(error, service_errors[i].name))
                        return service_errors[i].error;
        return sd_bus_error_get_errno(error);
}

/* A reply that does not come in time is another error for sd_bus_call() than for
 * sd_bus_call_async(), whose error and words are these. */
static const sd_bus_error no_reply =
        SD_BUS_ERROR_MAKE_CONST(SD_BUS_ERROR_NO_REPLY, "Method call timed out");

int handle_fail(uservm *u, const sd_bus_error *error) {
        if (sd_bus_error_has_name(error, SD_BUS_ERROR_TIMEOUT))
                error = &no_reply;
        sd_bus_error_free(&u->error);
        (void) sd_bus_error_copy(&u->error, error);
        return -error_to_errno(error);
}

int handle_fail_errno(uservm *u, int r) {
        sd_bus_error_free(&u->error);
        (void) sd_bus_error_set_errno(&u->error, r);
        return r;
}

/* sd-bus has ENXIO for a type that is not expected. */
int handle_fail_read(uservm *u, int r) {
        return handle_fail_errno(u, r == -ENXIO ? -EBADMSG : r);
}

int handle_fail_argument(uservm *u, const char *format, ...) {
        va_list arguments;

        sd_bus_error_free(&u->error);
        va_start(arguments, format);
        (void) sd_bus_error_setfv(&u->error, SD_BUS_ERROR_INVALID_ARGS, format, arguments);
        va_end(arguments);
        return -EINVAL;
}

int handle_succeed(uservm *u) {
        sd_bus_error_free(&u->error);
        return 0;
}

static int open_address(const char *address, sd_bus **ret) {
        _cleanup_(sd_bus_unrefp) sd_bus *bus = NULL;
        int r;

        r = sd_bus_new(&bus);
        if (r < 0)
                return r;
        r = sd_bus_set_address(bus, address);
        if (r < 0)
                return r;
        r = sd_bus_set_bus_client(bus, true);
        if (r < 0)
                return r;
        r = sd_bus_start(bus);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(bus);
        return 0;
}

_public_ int uservm_open(const char *bus_address, uservm **ret) {
        _cleanup_free_ uservm *u = NULL;
        int r;

        if (!ret)
                return -EINVAL;
        u = new0(uservm, 1);
        if (!u)
                return -ENOMEM;
        r = bus_address ? open_address(bus_address, &u->bus) : sd_bus_open_user(&u->bus);
        if (r < 0)
                return r;
        /* a loop that ends is not the end of the handle */
        (void) sd_bus_set_close_on_exit(u->bus, false);
        *ret = TAKE_PTR(u);
        return 0;
}

_public_ uservm *uservm_close(uservm *u) {
        if (!u)
                return NULL;
        while (u->calls)
                call_abandon(u->calls);
        while (u->watches)
                watch_abandon(u->watches);
        (void) sd_bus_detach_event(u->bus);
        sd_bus_close_unref(u->bus);
        sd_bus_error_free(&u->error);
        free(u);
        return NULL;
}

_public_ const char *uservm_error_name(uservm *u) {
        return u ? u->error.name : NULL;
}

_public_ const char *uservm_error_message(uservm *u) {
        if (!u || !u->error.name)
                return NULL;
        return isempty(u->error.message) ? u->error.name : u->error.message;
}

_public_ int uservm_attach_event(uservm *u, sd_event *event, int priority) {
        return u ? sd_bus_attach_event(u->bus, event, priority) : -EINVAL;
}

_public_ int uservm_detach_event(uservm *u) {
        int r;

        if (!u)
                return -EINVAL;
        r = sd_bus_detach_event(u->bus);
        return r < 0 ? r : 0;
}

_public_ int uservm_get_fd(uservm *u) {
        return u ? sd_bus_get_fd(u->bus) : -EINVAL;
}

_public_ int uservm_get_events(uservm *u) {
        return u ? sd_bus_get_events(u->bus) : -EINVAL;
}

_public_ int uservm_get_timeout(uservm *u, uint64_t *ret_usec) {
        uint64_t usec;
        int r;

        if (!u || !ret_usec)
                return -EINVAL;
        r = sd_bus_get_timeout(u->bus, &usec);
        if (r < 0)
                return r;
        *ret_usec = r > 0 ? usec : UINT64_MAX;
        return 0;
}

_public_ int uservm_process(uservm *u) {
        return u ? sd_bus_process(u->bus, NULL) : -EINVAL;
}

/* Whether a signal is a failure depends on the version of libsystemd. */
_public_ int uservm_wait(uservm *u, uint64_t timeout_usec) {
        int r;

        if (!u)
                return -EINVAL;
        r = sd_bus_wait(u->bus, timeout_usec);
        return r == -EINTR ? 1 : r;
}
