/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* The errors of the D-Bus API, and the one way from a failed libvirt call to one of them. Functions
 * that can fail towards a caller take an `sd_bus_error *error`, set it and return its negative
 * errno; sd-bus sends what is set (sd_bus_error(3)). Thread-safe. */

#include <systemd/sd-bus.h>

#define USERVM_ERROR_NO_SUCH_VM "org.uservm1.Error.NoSuchVM"
#define USERVM_ERROR_VM_EXISTS "org.uservm1.Error.VMExists"
#define USERVM_ERROR_INVALID_FORWARD "org.uservm1.Error.InvalidForward"
#define USERVM_ERROR_FORWARD_EXISTS "org.uservm1.Error.ForwardExists"
#define USERVM_ERROR_NO_SUCH_FORWARD "org.uservm1.Error.NoSuchForward"
#define USERVM_ERROR_PORT_IN_USE "org.uservm1.Error.PortInUse"
#define USERVM_ERROR_PORT_PRIVILEGED "org.uservm1.Error.PortPrivileged"
#define USERVM_ERROR_NO_USER_NETWORK "org.uservm1.Error.NoUserNetwork"
#define USERVM_ERROR_NOT_RUNNING "org.uservm1.Error.NotRunning"
#define USERVM_ERROR_ALREADY_RUNNING "org.uservm1.Error.AlreadyRunning"
#define USERVM_ERROR_BUSY "org.uservm1.Error.Busy"
#define USERVM_ERROR_IMAGE_NOT_FOUND "org.uservm1.Error.ImageNotFound"
#define USERVM_ERROR_IMAGE_UNUSABLE "org.uservm1.Error.ImageUnusable"
#define USERVM_ERROR_NOT_SUPPORTED "org.uservm1.Error.NotSupported"
#define USERVM_ERROR_LIBVIRT_FAILED "org.uservm1.Error.LibvirtFailed"
#define USERVM_ERROR_PASST_FAILED "org.uservm1.Error.PasstFailed"
#define USERVM_ERROR_CANCELLED "org.uservm1.Error.Cancelled"

/* Sets the error from libvirt's last error on this thread (virGetLastError(3)); `what` is what was
 * being attempted, "start VM 'web'". The message is "Could not WHAT: libvirt's own words", of
 * passt's long banner only the useful line. Returns its negative errno.
 * Beware of arguments: every call of libvirt's, virDomainGetName() too, forgets the last error. */
int error_from_libvirt(sd_bus_error *error, const char *what, ...)
        __attribute__((format(printf, 2, 3)));

/* Sets the error for an errno that is not the caller's fault, as
 * org.freedesktop.DBus.Error.Failed "Could not WHAT: No space left on device". Returns -errnum. */
int error_from_errno(sd_bus_error *error, int errnum, const char *what, ...)
        __attribute__((format(printf, 3, 4)));

/* passt, or pesto, could not be run: PasstFailed. Returns -errnum. */
int error_from_passt_run(sd_bus_error *error, int errnum, const char *program);

/* The useful line of what passt or libvirt's passt wiring printed: its banner stripped, the first
 * line that tells of a failure, as D-Bus can carry it. Returns a copy, or NULL without memory. */
char *error_passt_line(const char *text);

/* Makes the message of an error one that D-Bus can carry: bytes that are not UTF-8, from a file's
 * name in the words of another program, become '?'. */
void error_make_utf8(sd_bus_error *error);
