/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* libvirt's event loop interface (virEventRegisterImpl(3)) on sd-event: libvirt's file descriptors
 * and timeouts become event sources, and its callbacks run on the main thread. */

#include <systemd/sd-event.h>

/* Registers the implementation with libvirt, for the life of the process. To be called once, on
 * the main thread, before any other use of libvirt. Returns 0 or a negative errno. */
int libvirt_event_register(sd_event *event);
