/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The settings of a VM to be, kept as what goes into CreateVM's dictionary. Nothing is checked
 * here: uservmd does it, says it better, and knows what this host can do. */

#include <errno.h>

#include "internal.h"

enum {
        NAME,
        MEMORY,
        VCPUS,
        DISK,
        DISK_SIZE,
        CDROM,
        KERNEL,
        INITRD,
        CMDLINE,
        ACCELERATOR,
        FIRMWARE,
        START,
        AUTOSTART,
        N_SETTINGS,
};

static const char *const keys[N_SETTINGS] = {
        [NAME] = "name",           [MEMORY] = "memory",
        [VCPUS] = "vcpus",         [DISK] = "disk",
        [DISK_SIZE] = "disk-size", [CDROM] = "cdrom",
        [KERNEL] = "kernel",       [INITRD] = "initrd",
        [CMDLINE] = "cmdline",     [ACCELERATOR] = "accelerator",
        [FIRMWARE] = "firmware",   [START] = "start",
        [AUTOSTART] = "autostart",
};

struct uservm_settings {
        struct {
                char type; /* of D-Bus: s, t, u or b; 0 if it is not set */
                char *text;
                uint64_t number;
        } values[N_SETTINGS];
        char **forwards;
        size_t n_forwards;
};

static int set_number(uservm_settings *s, int i, char type, uint64_t number) {
        if (!s)
                return -EINVAL;
        free(TAKE_PTR(s->values[i].text));
        s->values[i].type = type;
        s->values[i].number = number;
        return 0;
}

/* NULL is the default. */
static int set_text(uservm_settings *s, int i, const char *text) {
        char *copy = NULL;

        if (text) {
                copy = strdup(text);
                if (!copy)
                        return -ENOMEM;
        }
        free(s->values[i].text);
        s->values[i].text = copy;
        s->values[i].type = copy ? 's' : 0;
        return 0;
}

static int set_required_text(uservm_settings *s, int i, const char *text) {
        return s && text ? set_text(s, i, text) : -EINVAL;
}

_public_ int uservm_settings_new(const char *name, uservm_settings **ret) {
        _cleanup_(uservm_settings_freep) uservm_settings *s = NULL;
        int r;

        if (!name || !ret)
                return -EINVAL;
        s = new0(uservm_settings, 1);
        if (!s)
                return -ENOMEM;
        r = set_text(s, NAME, name);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(s);
        return 0;
}

_public_ uservm_settings *uservm_settings_free(uservm_settings *s) {
        if (!s)
                return NULL;
        for (int i = 0; i < N_SETTINGS; i++)
                free(s->values[i].text);
        strv_free(s->forwards);
        free(s);
        return NULL;
}

_public_ int uservm_settings_set_memory(uservm_settings *s, uint64_t bytes) {
        return set_number(s, MEMORY, 't', bytes);
}

_public_ int uservm_settings_set_memory_text(uservm_settings *s, const char *size) {
        return set_required_text(s, MEMORY, size);
}

_public_ int uservm_settings_set_vcpus(uservm_settings *s, uint32_t vcpus) {
        return set_number(s, VCPUS, 'u', vcpus);
}

_public_ int uservm_settings_set_disk(uservm_settings *s, const char *path) {
        return set_required_text(s, DISK, path);
}

_public_ int uservm_settings_set_disk_size(uservm_settings *s, uint64_t bytes) {
        return set_number(s, DISK_SIZE, 't', bytes);
}

_public_ int uservm_settings_set_disk_size_text(uservm_settings *s, const char *size) {
        return set_required_text(s, DISK_SIZE, size);
}

_public_ int uservm_settings_set_cdrom(uservm_settings *s, const char *path) {
        return set_required_text(s, CDROM, path);
}

_public_ int uservm_settings_set_kernel(uservm_settings *s, const char *kernel, const char *initrd,
                                        const char *cmdline) {
        int r;

        r = set_required_text(s, KERNEL, kernel);
        if (r < 0)
                return r;
        r = set_text(s, INITRD, initrd);
        if (r < 0)
                return r;
        return set_text(s, CMDLINE, cmdline);
}

_public_ int uservm_settings_add_forward(uservm_settings *s, const char *spec) {
        char **forwards;

        if (!s || !spec)
                return -EINVAL;
        forwards = reallocarray(s->forwards, s->n_forwards + 2, sizeof(*forwards));
        if (!forwards)
                return -ENOMEM;
        s->forwards = forwards;
        forwards[s->n_forwards] = strdup(spec);
        if (!forwards[s->n_forwards])
                return -ENOMEM;
        forwards[++s->n_forwards] = NULL;
        return 0;
}

_public_ int uservm_settings_set_accelerator(uservm_settings *s, const char *accelerator) {
        return set_required_text(s, ACCELERATOR, accelerator);
}

_public_ int uservm_settings_set_firmware(uservm_settings *s, const char *firmware) {
        return set_required_text(s, FIRMWARE, firmware);
}

_public_ int uservm_settings_set_start(uservm_settings *s, bool start) {
        return set_number(s, START, 'b', start);
}

_public_ int uservm_settings_set_autostart(uservm_settings *s, bool autostart) {
        return set_number(s, AUTOSTART, 'b', autostart);
}

static int append_value(const uservm_settings *s, int i, sd_bus_message *m) {
        switch (s->values[i].type) {
        case 's':
                return sd_bus_message_append(m, "{sv}", keys[i], "s", s->values[i].text);
        case 't':
                return sd_bus_message_append(m, "{sv}", keys[i], "t", s->values[i].number);
        case 'u':
                return sd_bus_message_append(m, "{sv}", keys[i], "u",
                                             (uint32_t) s->values[i].number);
        case 'b':
                return sd_bus_message_append(m, "{sv}", keys[i], "b", (int) s->values[i].number);
        default:
                return 0;
        }
}

static int append_forwards(const uservm_settings *s, sd_bus_message *m) {
        int r;

        if (s->n_forwards == 0)
                return 0;
        r = sd_bus_message_open_container(m, 'e', "sv");
        if (r < 0)
                return r;
        r = sd_bus_message_append(m, "s", "forwards");
        if (r < 0)
                return r;
        r = sd_bus_message_open_container(m, 'v', "as");
        if (r < 0)
                return r;
        r = sd_bus_message_append_strv(m, s->forwards);
        if (r < 0)
                return r;
        r = sd_bus_message_close_container(m);
        if (r < 0)
                return r;
        return sd_bus_message_close_container(m);
}

int settings_append(const uservm_settings *s, sd_bus_message *m) {
        int r;

        r = sd_bus_message_open_container(m, 'a', "{sv}");
        if (r < 0)
                return r;
        for (int i = 0; i < N_SETTINGS; i++) {
                r = append_value(s, i, m);
                if (r < 0)
                        return r;
        }
        r = append_forwards(s, m);
        if (r < 0)
                return r;
        return sd_bus_message_close_container(m);
}
