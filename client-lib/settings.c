/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The settings of a VM to be, kept as what goes into CreateVM's dictionary. Nothing is checked
 * here: uservmd does it, says it better, and knows what this host can do.
 *
 * Each disk is a dictionary of its own but for the first one, whose keys are among the VM's.
 *
 * What is secret is erased when it is freed, and so is the message that it has gone into. It goes
 * in last: while a message grows it moves, and leaves behind what it had. */

#include <errno.h>

#include "dictionary.h"
#include "internal.h"

typedef struct Value {
        char type; /* of D-Bus: s, t, u or b; 0 if it is not set */
        char *text;
        uint64_t number;
} Value;

enum {
        DISK,
        DISK_SIZE,
        IMAGE,
        COPY,
        N_DISK_SETTINGS,
};

static const char *const disk_keys[N_DISK_SETTINGS] = {
        [DISK] = "disk",
        [DISK_SIZE] = "disk-size",
        [IMAGE] = "image",
        [COPY] = "copy",
};

struct uservm_disk_settings {
        Value values[N_DISK_SETTINGS];
};

enum {
        NAME,
        MEMORY,
        VCPUS,
        CDROM,
        KERNEL,
        INITRD,
        CMDLINE,
        ACCELERATOR,
        FIRMWARE,
        START,
        AUTOSTART,
        HOSTNAME,
        USER,
        GUEST_SETUP,
        /* secrets */
        USER_DATA,
        PASSWORD,
        N_SETTINGS,
};

static const char *const keys[N_SETTINGS] = {
        [NAME] = "name",         [MEMORY] = "memory",           [VCPUS] = "vcpus",
        [CDROM] = "cdrom",       [KERNEL] = "kernel",           [INITRD] = "initrd",
        [CMDLINE] = "cmdline",   [ACCELERATOR] = "accelerator", [FIRMWARE] = "firmware",
        [START] = "start",       [AUTOSTART] = "autostart",     [HOSTNAME] = "hostname",
        [USER] = "user",         [GUEST_SETUP] = "guest-setup", [USER_DATA] = "user-data",
        [PASSWORD] = "password",
};

struct uservm_settings {
        Value values[N_SETTINGS];
        uservm_disk_settings disk;    /* the first one */
        uservm_disk_settings **disks; /* the others */
        size_t n_disks;
        char **forwards, **ssh_keys;
        size_t n_forwards, n_ssh_keys;
};

/* Any value may have been a secret. */
static void value_clear(Value *value) {
        if (value->text)
                explicit_bzero(value->text, strlen(value->text));
        free(value->text);
        *value = (Value){};
}

static int value_set_number(Value *value, char type, uint64_t number) {
        value_clear(value);
        *value = (Value){ .type = type, .number = number };
        return 0;
}

/* NULL is the default. */
static int value_set_text(Value *value, const char *text) {
        char *copy = NULL;

        if (text) {
                copy = strdup(text);
                if (!copy)
                        return -ENOMEM;
        }
        value_clear(value);
        *value = (Value){ .type = copy ? 's' : 0, .text = copy };
        return 0;
}

static int set_number(uservm_settings *s, int i, char type, uint64_t number) {
        return s ? value_set_number(&s->values[i], type, number) : -EINVAL;
}

static int set_text(uservm_settings *s, int i, const char *text) {
        return s && text ? value_set_text(&s->values[i], text) : -EINVAL;
}

static int append_text(char ***list, size_t *n, const char *text) {
        char *copy = strdup(text);
        int r;

        if (!copy)
                return -ENOMEM;
        r = list_append((void ***) list, n, copy);
        if (r < 0)
                free(copy);
        return r;
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

static void disk_settings_done(uservm_disk_settings *d) {
        for (int i = 0; i < N_DISK_SETTINGS; i++)
                value_clear(&d->values[i]);
}

_public_ uservm_settings *uservm_settings_free(uservm_settings *s) {
        if (!s)
                return NULL;
        for (int i = 0; i < N_SETTINGS; i++)
                value_clear(&s->values[i]);
        disk_settings_done(&s->disk);
        for (size_t i = 0; i < s->n_disks; i++) {
                disk_settings_done(s->disks[i]);
                free(s->disks[i]);
        }
        free(s->disks);
        strv_free(s->forwards);
        strv_free(s->ssh_keys);
        free(s);
        return NULL;
}

_public_ int uservm_settings_set_memory(uservm_settings *s, uint64_t bytes) {
        return set_number(s, MEMORY, 't', bytes);
}

_public_ int uservm_settings_set_memory_text(uservm_settings *s, const char *size) {
        return set_text(s, MEMORY, size);
}

_public_ int uservm_settings_set_vcpus(uservm_settings *s, uint32_t vcpus) {
        return set_number(s, VCPUS, 'u', vcpus);
}

/* Disks */

_public_ int uservm_disk_settings_set_disk(uservm_disk_settings *d, const char *path) {
        return d && path ? value_set_text(&d->values[DISK], path) : -EINVAL;
}

_public_ int uservm_disk_settings_set_image(uservm_disk_settings *d, const char *path) {
        return d && path ? value_set_text(&d->values[IMAGE], path) : -EINVAL;
}

_public_ int uservm_disk_settings_set_copy(uservm_disk_settings *d, bool copy) {
        return d ? value_set_number(&d->values[COPY], 'b', copy) : -EINVAL;
}

_public_ int uservm_disk_settings_set_size(uservm_disk_settings *d, uint64_t bytes) {
        return d ? value_set_number(&d->values[DISK_SIZE], 't', bytes) : -EINVAL;
}

_public_ int uservm_disk_settings_set_size_text(uservm_disk_settings *d, const char *size) {
        return d && size ? value_set_text(&d->values[DISK_SIZE], size) : -EINVAL;
}

_public_ int uservm_settings_set_disk(uservm_settings *s, const char *path) {
        return uservm_disk_settings_set_disk(s ? &s->disk : NULL, path);
}

_public_ int uservm_settings_set_image(uservm_settings *s, const char *path) {
        return uservm_disk_settings_set_image(s ? &s->disk : NULL, path);
}

_public_ int uservm_settings_set_copy(uservm_settings *s, bool copy) {
        return uservm_disk_settings_set_copy(s ? &s->disk : NULL, copy);
}

_public_ int uservm_settings_set_disk_size(uservm_settings *s, uint64_t bytes) {
        return uservm_disk_settings_set_size(s ? &s->disk : NULL, bytes);
}

_public_ int uservm_settings_set_disk_size_text(uservm_settings *s, const char *size) {
        return uservm_disk_settings_set_size_text(s ? &s->disk : NULL, size);
}

_public_ int uservm_settings_add_disk(uservm_settings *s, uservm_disk_settings **ret) {
        uservm_disk_settings *d;
        int r;

        if (!s || !ret)
                return -EINVAL;
        d = new0(uservm_disk_settings, 1);
        if (!d)
                return -ENOMEM;
        r = list_append((void ***) &s->disks, &s->n_disks, d);
        if (r < 0) {
                free(d);
                return r;
        }
        *ret = d;
        return 0;
}

_public_ int uservm_settings_set_cdrom(uservm_settings *s, const char *path) {
        return set_text(s, CDROM, path);
}

_public_ int uservm_settings_set_kernel(uservm_settings *s, const char *kernel, const char *initrd,
                                        const char *cmdline) {
        int r;

        r = set_text(s, KERNEL, kernel);
        if (r < 0)
                return r;
        r = value_set_text(&s->values[INITRD], initrd);
        if (r < 0)
                return r;
        return value_set_text(&s->values[CMDLINE], cmdline);
}

_public_ int uservm_settings_add_forward(uservm_settings *s, const char *spec) {
        return s && spec ? append_text(&s->forwards, &s->n_forwards, spec) : -EINVAL;
}

_public_ int uservm_settings_set_accelerator(uservm_settings *s, const char *accelerator) {
        return set_text(s, ACCELERATOR, accelerator);
}

_public_ int uservm_settings_set_firmware(uservm_settings *s, const char *firmware) {
        return set_text(s, FIRMWARE, firmware);
}

_public_ int uservm_settings_set_start(uservm_settings *s, bool start) {
        return set_number(s, START, 'b', start);
}

_public_ int uservm_settings_set_autostart(uservm_settings *s, bool autostart) {
        return set_number(s, AUTOSTART, 'b', autostart);
}

/* What the guest is set up with */

_public_ int uservm_settings_set_hostname(uservm_settings *s, const char *hostname) {
        return set_text(s, HOSTNAME, hostname);
}

_public_ int uservm_settings_set_user(uservm_settings *s, const char *user) {
        return set_text(s, USER, user);
}

_public_ int uservm_settings_add_ssh_key(uservm_settings *s, const char *key) {
        return s && key ? append_text(&s->ssh_keys, &s->n_ssh_keys, key) : -EINVAL;
}

_public_ int uservm_settings_set_password(uservm_settings *s, const char *password) {
        return set_text(s, PASSWORD, password);
}

_public_ int uservm_settings_set_user_data(uservm_settings *s, const char *user_data) {
        return set_text(s, USER_DATA, user_data);
}

_public_ int uservm_settings_set_guest_setup(uservm_settings *s, const char *guest_setup) {
        return set_text(s, GUEST_SETUP, guest_setup);
}

/* As a message */

static int append_value(sd_bus_message *m, const char *key, const Value *value) {
        switch (value->type) {
        case 's':
                return sd_bus_message_append(m, "{sv}", key, "s", value->text);
        case 't':
                return sd_bus_message_append(m, "{sv}", key, "t", value->number);
        case 'u':
                return sd_bus_message_append(m, "{sv}", key, "u", (uint32_t) value->number);
        case 'b':
                return sd_bus_message_append(m, "{sv}", key, "b", (int) value->number);
        default:
                return 0;
        }
}

static int append_values(sd_bus_message *m, const char *const names[], const Value values[],
                         size_t n) {
        int r = 0;

        for (size_t i = 0; r >= 0 && i < n; i++)
                r = append_value(m, names[i], &values[i]);
        return r;
}

/* Both begin and end an entry whose value, of the type, comes in between. */

static int open_entry(sd_bus_message *m, const char *key, const char *type) {
        int r;

        r = sd_bus_message_open_container(m, 'e', "sv");
        if (r < 0)
                return r;
        r = sd_bus_message_append(m, "s", key);
        if (r < 0)
                return r;
        return sd_bus_message_open_container(m, 'v', type);
}

static int close_entry(sd_bus_message *m) {
        int r;

        r = sd_bus_message_close_container(m);
        return r < 0 ? r : sd_bus_message_close_container(m);
}

static int append_texts(sd_bus_message *m, const char *key, char **texts) {
        int r;

        if (!texts)
                return 0;
        r = open_entry(m, key, "as");
        if (r < 0)
                return r;
        r = sd_bus_message_append_strv(m, texts);
        return r < 0 ? r : close_entry(m);
}

static int append_disk(sd_bus_message *m, const uservm_disk_settings *d) {
        int r;

        r = sd_bus_message_open_container(m, 'a', "{sv}");
        if (r < 0)
                return r;
        r = append_values(m, disk_keys, d->values, N_DISK_SETTINGS);
        return r < 0 ? r : sd_bus_message_close_container(m);
}

static int append_disks(sd_bus_message *m, const uservm_settings *s) {
        int r;

        if (s->n_disks == 0)
                return 0;
        r = open_entry(m, "disks", "aa{sv}");
        if (r < 0)
                return r;
        r = sd_bus_message_open_container(m, 'a', "a{sv}");
        for (size_t i = 0; r >= 0 && i < s->n_disks; i++)
                r = append_disk(m, s->disks[i]);
        if (r < 0)
                return r;
        r = sd_bus_message_close_container(m);
        return r < 0 ? r : close_entry(m);
}

int settings_append(const uservm_settings *s, sd_bus_message *m) {
        int r;

        if (s->values[USER_DATA].type || s->values[PASSWORD].type) {
                r = sd_bus_message_sensitive(m);
                if (r < 0)
                        return r;
        }
        r = sd_bus_message_open_container(m, 'a', "{sv}");
        if (r >= 0)
                r = append_values(m, disk_keys, s->disk.values, N_DISK_SETTINGS);
        if (r >= 0)
                r = append_disks(m, s);
        if (r >= 0)
                r = append_texts(m, "forwards", s->forwards);
        if (r >= 0)
                r = append_texts(m, "ssh-keys", s->ssh_keys);
        if (r >= 0)
                r = append_values(m, keys, s->values, N_SETTINGS);
        return r < 0 ? r : sd_bus_message_close_container(m);
}
