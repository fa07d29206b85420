/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* The settings of CreateVM: read from a D-Bus message, checked for all that can be checked without
 * asking anybody. They are documented in bus-interfaces/org.uservm1.Manager.xml. */

#include <stdbool.h>
#include <stdint.h>
#include <systemd/sd-bus.h>

#include "forward.h"

typedef struct Settings {
        char *name;
        uint64_t memory;    /* bytes */
        uint64_t disk_size; /* bytes; 0: no new disk */
        uint32_t vcpus;
        char *disk, *cdrom, *kernel, *initrd, *cmdline;
        char *accelerator;    /* "auto", "kvm", "tcg" */
        char *firmware;       /* "bios", "uefi" */
        ForwardList forwards; /* host port 0: a free one is still to be chosen */
        bool start, autostart;
} Settings;

/* Reads an a{sv}. InvalidArgs names the key that is unknown, of the wrong type or has a value that
 * makes no sense; InvalidForward is for a bad forward. */
int settings_read(sd_bus_message *m, Settings **ret, sd_bus_error *error);
Settings *settings_free(Settings *s);
DEFINE_CLEANUP(Settings *, settings_free);

/* Reads options, an a{sv} of booleans, into the places given for their names; the rest keep their
 * values. Ends with NULL: options_read(m, error, "force", &force, NULL). */
int options_read(sd_bus_message *m, sd_bus_error *error, ...) __attribute__((sentinel));

/* "2G", "512M", "1073741824": bytes, with the suffixes K, M, G and T as powers of 1024, "iB"
 * allowed after them. Returns 0, -EINVAL, or -ERANGE. */
int size_parse(const char *s, uint64_t *ret);
