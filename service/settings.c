/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* A table says which keys there are, of which types, and where their values go. */

#include "settings.h"

#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include "error.h"
#include "size.h"
#include "util.h"

#define DEFAULT_MEMORY (2ULL << 30)

static int invalid(sd_bus_error *error, const char *key, const char *reason) {
        return sd_bus_error_setf(error, SD_BUS_ERROR_INVALID_ARGS, "%s: %s", key, reason);
}

/* Readers: the message is inside the variant; type is what the variant holds. */

static int read_string(sd_bus_message *m, const char *key, void *field, sd_bus_error *error) {
        char **target = field;
        const char *value;
        int r;

        r = sd_bus_message_read_basic(m, SD_BUS_TYPE_STRING, &value);
        if (r < 0)
                return r;
        if (isempty(value))
                return invalid(error, key, "is empty; leave it out instead");
        *target = strdup(value);
        return *target ? 0 : -ENOMEM;
}

static int read_size(sd_bus_message *m, const char *key, void *field, sd_bus_error *error) {
        uint64_t *target = field;
        const char *value;
        char type;
        int r;

        r = sd_bus_message_peek_type(m, &type, NULL);
        if (r < 0)
                return r;
        if (type == SD_BUS_TYPE_UINT64)
                r = sd_bus_message_read_basic(m, type, target);
        else {
                r = sd_bus_message_read_basic(m, type, &value);
                if (r >= 0)
                        r = size_parse(value, target);
                if (r == -ERANGE)
                        return invalid(error, key, "is larger than a number of bytes can be");
                if (r == -EINVAL)
                        return invalid(
                                error, key,
                                "is not a size; give bytes, or a number with K, M, G or T: 2G");
        }
        if (r >= 0 && *target == 0)
                return invalid(error, key, "is 0; give a size, like 2G");
        return r;
}

static int read_vcpus(sd_bus_message *m, const char *key, void *field, sd_bus_error *error) {
        uint32_t *target = field;
        int r;

        r = sd_bus_message_read_basic(m, SD_BUS_TYPE_UINT32, target);
        return r < 0 ? r : settings_check_vcpus(*target, error);
}

static int read_boolean(sd_bus_message *m, const char *key, void *field, sd_bus_error *error) {
        bool *target = field;
        int value, r;

        r = sd_bus_message_read_basic(m, SD_BUS_TYPE_BOOLEAN, &value);
        *target = value;
        return r;
}

static int read_strings(sd_bus_message *m, const char *key, void *field, sd_bus_error *error) {
        char ***target = field;

        return sd_bus_message_read_strv(m, target);
}

static int append_forward(ForwardList *list, const char *spec, sd_bus_error *error) {
        _cleanup_forward_ Forward f = {};
        _cleanup_free_ char *reason = NULL;
        int r;

        r = forward_parse(spec, &f, &reason);
        if (r == -EINVAL)
                return sd_bus_error_set(error, USERVM_ERROR_INVALID_FORWARD, reason);
        if (r < 0)
                return r;
        if (f.host.start != 0 && forward_list_find_conflict(list, &f))
                return sd_bus_error_setf(error, USERVM_ERROR_INVALID_FORWARD,
                                         "%s: another one of the forwards has this host port",
                                         spec);
        if (list->n == FORWARDS_MAX)
                return sd_bus_error_setf(error, USERVM_ERROR_NOT_SUPPORTED,
                                         "forwards: passt takes %d of them at most; use ranges of "
                                         "ports",
                                         FORWARDS_MAX);
        return forward_list_append(list, &f);
}

static int read_forwards(sd_bus_message *m, const char *key, void *field, sd_bus_error *error) {
        const char *spec;
        int r;

        r = sd_bus_message_enter_container(m, SD_BUS_TYPE_ARRAY, "s");
        if (r < 0)
                return r;
        while ((r = sd_bus_message_read_basic(m, SD_BUS_TYPE_STRING, &spec)) > 0) {
                r = append_forward(field, spec, error);
                if (r < 0)
                        return r;
        }
        return r < 0 ? r : sd_bus_message_exit_container(m);
}

typedef struct Key {
        const char *name;
        const char *types[3]; /* the variant may hold any of these */
        int (*read)(sd_bus_message *m, const char *key, void *field, sd_bus_error *error);
        size_t offset;
} Key;

static int read_dictionary(sd_bus_message *m, const Key *known, void *object, sd_bus_error *error);
static int read_more_disks(sd_bus_message *m, const char *key, void *field, sd_bus_error *error);

static const Key disk_keys[] = {
        { "disk", { "s" }, read_string, offsetof(DiskSettings, disk) },
        { "image", { "s" }, read_string, offsetof(DiskSettings, image) },
        { "copy", { "b" }, read_boolean, offsetof(DiskSettings, copy) },
        { "disk-size", { "t", "s" }, read_size, offsetof(DiskSettings, size) },
        {},
};

/* The first disk is the one of "disk" and its like, or has none of these. */
static const Key keys[] = {
        { "name", { "s" }, read_string, offsetof(Settings, name) },
        { "memory", { "t", "s" }, read_size, offsetof(Settings, memory) },
        { "vcpus", { "u" }, read_vcpus, offsetof(Settings, vcpus) },
        { "disk", { "s" }, read_string, offsetof(Settings, disks[0].disk) },
        { "image", { "s" }, read_string, offsetof(Settings, disks[0].image) },
        { "copy", { "b" }, read_boolean, offsetof(Settings, disks[0].copy) },
        { "disk-size", { "t", "s" }, read_size, offsetof(Settings, disks[0].size) },
        { "disks", { "aa{sv}" }, read_more_disks, 0 },
        { "cdrom", { "s" }, read_string, offsetof(Settings, cdrom) },
        { "kernel", { "s" }, read_string, offsetof(Settings, kernel) },
        { "initrd", { "s" }, read_string, offsetof(Settings, initrd) },
        { "cmdline", { "s" }, read_string, offsetof(Settings, cmdline) },
        { "hostname", { "s" }, read_string, offsetof(Settings, setup.hostname) },
        { "user", { "s" }, read_string, offsetof(Settings, setup.user) },
        { "ssh-keys", { "as" }, read_strings, offsetof(Settings, setup.ssh_keys) },
        { "password", { "s" }, read_string, offsetof(Settings, password) },
        { "user-data", { "s" }, read_string, offsetof(Settings, setup.user_data) },
        { "guest-setup", { "s" }, read_string, offsetof(Settings, guest_setup) },
        { "forwards", { "as" }, read_forwards, offsetof(Settings, forwards) },
        { "accelerator", { "s" }, read_string, offsetof(Settings, accelerator) },
        { "firmware", { "s" }, read_string, offsetof(Settings, firmware) },
        { "start", { "b" }, read_boolean, offsetof(Settings, start) },
        { "autostart", { "b" }, read_boolean, offsetof(Settings, autostart) },
        {},
};

static int check_type(const Key *key, const char *contents, sd_bus_error *error) {
        for (size_t i = 0; i < ELEMENTSOF(key->types) && key->types[i]; i++)
                if (streq(key->types[i], contents))
                        return 0;
        return sd_bus_error_setf(error, SD_BUS_ERROR_INVALID_ARGS,
                                 "%s: has the D-Bus type '%s', but must be '%s'%s%s%s", key->name,
                                 contents, key->types[0], key->types[1] ? " or '" : "",
                                 key->types[1] ?: "", key->types[1] ? "'" : "");
}

/* seen has a bit for each key that has been there. */
static int read_value(sd_bus_message *m, const char *name, const Key *known, void *object,
                      uint32_t *seen, sd_bus_error *error) {
        const char *contents;
        const Key *key = NULL;
        int r;

        for (size_t i = 0; known[i].name && !key; i++)
                if (streq(known[i].name, name)) {
                        if (*seen & (1U << i))
                                return invalid(error, name, "is given twice");
                        *seen |= 1U << i;
                        key = &known[i];
                }
        if (!key)
                return sd_bus_error_setf(error, SD_BUS_ERROR_INVALID_ARGS,
                                         "There is no setting '%.*s'; see the documentation of "
                                         "CreateVM in org.uservm1.Manager.xml",
                                         utf8_prefix(name, QUOTED_MAX), name);

        r = sd_bus_message_peek_type(m, NULL, &contents);
        if (r < 0)
                return r;
        r = check_type(key, contents, error);
        if (r < 0)
                return r;
        r = sd_bus_message_enter_container(m, SD_BUS_TYPE_VARIANT, contents);
        if (r < 0)
                return r;
        r = key->read(m, key->name, (char *) object + key->offset, error);
        if (r < 0)
                return r;
        return sd_bus_message_exit_container(m);
}

static int read_dictionary(sd_bus_message *m, const Key *known, void *object, sd_bus_error *error) {
        uint32_t seen = 0;
        const char *name;
        int r;

        r = sd_bus_message_enter_container(m, SD_BUS_TYPE_ARRAY, "{sv}");
        if (r < 0)
                return r;
        while ((r = sd_bus_message_enter_container(m, SD_BUS_TYPE_DICT_ENTRY, "sv")) > 0) {
                r = sd_bus_message_read_basic(m, SD_BUS_TYPE_STRING, &name);
                if (r < 0)
                        return r;
                r = read_value(m, name, known, object, &seen, error);
                if (r < 0)
                        return r;
                r = sd_bus_message_exit_container(m);
                if (r < 0)
                        return r;
        }
        return r < 0 ? r : sd_bus_message_exit_container(m);
}

/* They go behind the first disk, whether there is one or not. */
static int read_more_disks(sd_bus_message *m, const char *key, void *field, sd_bus_error *error) {
        Settings *s = field;
        int r;

        r = sd_bus_message_enter_container(m, SD_BUS_TYPE_ARRAY, "a{sv}");
        if (r < 0)
                return r;
        s->n_disks = 1;
        while ((r = sd_bus_message_at_end(m, false)) == 0) {
                if (s->n_disks == DISKS_MAX)
                        return invalid(error, key, "are too many; at most 15 are possible");
                r = read_dictionary(m, disk_keys, &s->disks[s->n_disks++], error);
                if (r < 0)
                        return r;
        }
        return r < 0 ? r : sd_bus_message_exit_container(m);
}

/* Without a first disk the next ones move up. */
static void settle_disks(Settings *s) {
        const DiskSettings *first = &s->disks[0];

        if (s->n_disks == 0)
                s->n_disks = 1;
        if (first->disk || first->image || first->copy || first->size > 0)
                return;
        memmove(&s->disks[0], &s->disks[1], (DISKS_MAX - 1) * sizeof(DiskSettings));
        s->disks[DISKS_MAX - 1] = (DiskSettings){};
        s->n_disks--;
}

bool settings_need_copy(const Settings *s) {
        for (size_t i = 0; i < s->n_disks; i++)
                if (s->disks[i].copy)
                        return true;
        return false;
}

int settings_read(sd_bus_message *m, Settings **ret, sd_bus_error *error) {
        _cleanup_(settings_freep) Settings *s = new0(Settings, 1);
        int r;

        if (!s)
                return -ENOMEM;
        s->memory = DEFAULT_MEMORY;
        s->start = true;

        r = read_dictionary(m, keys, s, error);
        if (r < 0)
                return r;
        settle_disks(s);
        r = settings_check(s, error);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(s);
        return 0;
}

Settings *settings_free(Settings *s) {
        if (!s)
                return NULL;
        forward_list_done(&s->forwards);
        guest_setup_done(&s->setup);
        if (s->password)
                explicit_bzero(s->password, strlen(s->password));
        free(s->password);
        free(s->guest_setup);
        for (size_t i = 0; i < DISKS_MAX; i++) {
                free(s->disks[i].disk);
                free(s->disks[i].image);
        }
        free(s->name);
        free(s->cdrom);
        free(s->kernel);
        free(s->initrd);
        free(s->cmdline);
        free(s->accelerator);
        free(s->firmware);
        free(s);
        return NULL;
}

/* Options */

static bool *find_option(const char *name, va_list ap) {
        const char *known;

        while ((known = va_arg(ap, const char *))) {
                bool *target = va_arg(ap, bool *);

                if (streq(known, name))
                        return target;
        }
        return NULL;
}

static int read_option(sd_bus_message *m, const char *name, bool *target, sd_bus_error *error) {
        const char *contents;
        int value, r;

        if (!target)
                return sd_bus_error_setf(error, SD_BUS_ERROR_INVALID_ARGS,
                                         "There is no option '%.*s'", utf8_prefix(name, QUOTED_MAX),
                                         name);
        r = sd_bus_message_peek_type(m, NULL, &contents);
        if (r < 0)
                return r;
        if (!streq(contents, "b"))
                return sd_bus_error_setf(error, SD_BUS_ERROR_INVALID_ARGS,
                                         "%s: has the D-Bus type '%s', but must be 'b'", name,
                                         contents);
        r = sd_bus_message_read(m, "v", "b", &value);
        *target = value;
        return r;
}

int options_read(sd_bus_message *m, sd_bus_error *error, ...) {
        const char *name;
        int r;

        r = sd_bus_message_enter_container(m, SD_BUS_TYPE_ARRAY, "{sv}");
        if (r < 0)
                return r;
        while ((r = sd_bus_message_enter_container(m, SD_BUS_TYPE_DICT_ENTRY, "sv")) > 0) {
                va_list ap;
                bool *target;

                r = sd_bus_message_read_basic(m, SD_BUS_TYPE_STRING, &name);
                if (r < 0)
                        return r;
                va_start(ap, error);
                target = find_option(name, ap);
                va_end(ap);
                r = read_option(m, name, target, error);
                if (r < 0)
                        return r;
                r = sd_bus_message_exit_container(m);
                if (r < 0)
                        return r;
        }
        return r < 0 ? r : sd_bus_message_exit_container(m);
}
