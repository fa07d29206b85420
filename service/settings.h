/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* The settings of CreateVM: read from a D-Bus message, checked for all that can be checked without
 * asking anybody. They are documented in bus-interfaces/org.uservm1.Manager.xml. */

#include <stdbool.h>
#include <stdint.h>
#include <systemd/sd-bus.h>

#include "domain-build.h"
#include "forward.h"
#include "guest-setup.h"

/* One disk: an image that is used in place, or a new one, empty, or made of another. */
typedef struct DiskSettings {
        char *disk;
        char *image;
        bool copy;
        uint64_t size; /* bytes; 0: that of the image */
} DiskSettings;

typedef struct Settings {
        char *name;
        uint64_t memory; /* bytes */
        uint32_t vcpus;  /* 0: as many as suit the accelerator */
        DiskSettings disks[DISKS_MAX];
        size_t n_disks;
        char *cdrom, *kernel, *initrd, *cmdline;
        char *accelerator; /* "auto", "kvm", "tcg" */
        char *firmware;    /* "bios", "uefi" */

        GuestSetup setup;  /* the defaults are filled in; the password is hashed */
        char *password;    /* as it was given; NULL when it has been checked */
        char *guest_setup; /* "cloud-init", "credentials"; NULL: the guest is not set up */

        ForwardList forwards; /* host port 0: a free one is still to be chosen */
        bool start, autostart;
} Settings;

/* Reads an a{sv}. InvalidArgs names the key that is unknown, of the wrong type or has a value that
 * makes no sense; InvalidForward is for a bad forward. */
int settings_read(sd_bus_message *m, Settings **ret, sd_bus_error *error);

/* Whether any disk is to be copied, which takes a while. */
bool settings_need_copy(const Settings *s);

/* In settings-check.c: checks what has been read, each value and whether they go together, fills in
 * defaults and hashes the password. */
int settings_check(Settings *s, sd_bus_error *error);

/* What "name", "memory" and "vcpus" may be, for those who change them later. */
int settings_check_name(const char *name, sd_bus_error *error);
int settings_check_memory(uint64_t memory, sd_bus_error *error);
int settings_check_vcpus(uint32_t vcpus, sd_bus_error *error);
Settings *settings_free(Settings *s);
DEFINE_CLEANUP(Settings *, settings_free);

/* Reads options, an a{sv} of booleans, into the places given for their names; the rest keep their
 * values. Ends with NULL: options_read(m, error, "force", &force, NULL). */
int options_read(sd_bus_message *m, sd_bus_error *error, ...) __attribute__((sentinel));
