/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* A table says which keys there are, of which types, and where their values go. Then come the
 * checks of single values, and of values that need each other. */

#include "settings.h"

#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/sysinfo.h>

#include "error.h"
#include "util.h"

#define DEFAULT_MEMORY (2ULL << 30)
#define DEFAULT_VCPUS 2U

/* Less than this does not even boot a kernel. */
#define MEMORY_MIN (16ULL << 20)
/* What q35 takes without an IOMMU for interrupt remapping (8-bit APIC IDs). */
#define VCPUS_MAX 255U
/* A host name label is at most this long (RFC 1035), and the name becomes the guest's host name. */
#define NAME_MAX_LENGTH 63
/* x86 Linux takes at most this as its command line. */
#define CMDLINE_MAX_LENGTH 2047

int size_parse(const char *s, uint64_t *ret) {
        static const char units[] = "KMGT";
        unsigned long long value;
        const char *unit;
        char *end;

        if (!isdigit((unsigned char) *s))
                return -EINVAL;
        errno = 0;
        value = strtoull(s, &end, 10);
        if (errno == ERANGE)
                return -ERANGE;
        if (*end) {
                unit = strchr(units, toupper((unsigned char) *end));
                if (!unit || (!streq(end + 1, "") && !streq(end + 1, "iB")))
                        return -EINVAL;
                if (__builtin_mul_overflow(value, 1ULL << (10 * (unit - units + 1)), &value))
                        return -ERANGE;
        }
        *ret = value;
        return 0;
}

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

static int read_number(sd_bus_message *m, const char *key, void *field, sd_bus_error *error) {
        return sd_bus_message_read_basic(m, SD_BUS_TYPE_UINT32, field);
}

static int read_boolean(sd_bus_message *m, const char *key, void *field, sd_bus_error *error) {
        bool *target = field;
        int value, r;

        r = sd_bus_message_read_basic(m, SD_BUS_TYPE_BOOLEAN, &value);
        *target = value;
        return r;
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

static const Key keys[] = {
        { "name", { "s" }, read_string, offsetof(Settings, name) },
        { "memory", { "t", "s" }, read_size, offsetof(Settings, memory) },
        { "vcpus", { "u" }, read_number, offsetof(Settings, vcpus) },
        { "disk", { "s" }, read_string, offsetof(Settings, disk) },
        { "disk-size", { "t", "s" }, read_size, offsetof(Settings, disk_size) },
        { "cdrom", { "s" }, read_string, offsetof(Settings, cdrom) },
        { "kernel", { "s" }, read_string, offsetof(Settings, kernel) },
        { "initrd", { "s" }, read_string, offsetof(Settings, initrd) },
        { "cmdline", { "s" }, read_string, offsetof(Settings, cmdline) },
        { "forwards", { "as" }, read_forwards, offsetof(Settings, forwards) },
        { "accelerator", { "s" }, read_string, offsetof(Settings, accelerator) },
        { "firmware", { "s" }, read_string, offsetof(Settings, firmware) },
        { "start", { "b" }, read_boolean, offsetof(Settings, start) },
        { "autostart", { "b" }, read_boolean, offsetof(Settings, autostart) },
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

static int read_value(sd_bus_message *m, const char *name, Settings *s, uint32_t *seen,
                      sd_bus_error *error) {
        const char *contents;
        const Key *key = NULL;
        int r;

        for (size_t i = 0; i < ELEMENTSOF(keys) && !key; i++)
                if (streq(keys[i].name, name)) {
                        if (*seen & (1U << i))
                                return invalid(error, name, "is given twice");
                        *seen |= 1U << i;
                        key = &keys[i];
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
        r = key->read(m, key->name, (char *) s + key->offset, error);
        if (r < 0)
                return r;
        return sd_bus_message_exit_container(m);
}

static int read_dictionary(sd_bus_message *m, Settings *s, sd_bus_error *error) {
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
                r = read_value(m, name, s, &seen, error);
                if (r < 0)
                        return r;
                r = sd_bus_message_exit_container(m);
                if (r < 0)
                        return r;
        }
        return r < 0 ? r : sd_bus_message_exit_container(m);
}

/* A name is a host name, a file name and part of a unit name, and must not be taken for a UUID. */
static int check_name(const char *name, sd_bus_error *error) {
        size_t n;

        if (!name)
                return invalid(error, "name", "is missing; every VM needs one");
        n = strlen(name);
        if (n > NAME_MAX_LENGTH)
                return sd_bus_error_setf(error, SD_BUS_ERROR_INVALID_ARGS,
                                         "name: is %zu bytes long; at most %d are allowed", n,
                                         NAME_MAX_LENGTH);
        for (size_t i = 0; i < n; i++)
                if (!isascii(name[i]) || !(isalnum(name[i]) || (i > 0 && strchr("-_.", name[i]))))
                        return invalid(
                                error, "name",
                                "may have letters, digits, '-', '_' and '.' only, and begins "
                                "with a letter or digit");
        if (n == 36 && strspn(name, "0123456789abcdefABCDEF-") == n)
                return invalid(error, "name", "looks like a UUID; choose another one");
        return 0;
}

static int check_memory(uint64_t memory, sd_bus_error *error) {
        struct sysinfo info;

        if (memory < MEMORY_MIN)
                return sd_bus_error_setf(error, SD_BUS_ERROR_INVALID_ARGS,
                                         "memory: %llu bytes are too few; the least is %lluM",
                                         (unsigned long long) memory, MEMORY_MIN >> 20);
        if (sysinfo(&info) >= 0 && memory > (uint64_t) info.totalram * info.mem_unit)
                return sd_bus_error_setf(error, SD_BUS_ERROR_INVALID_ARGS,
                                         "memory: %lluM are more than this host has (%lluM)",
                                         (unsigned long long) memory >> 20,
                                         (unsigned long long) info.totalram * info.mem_unit >> 20);
        return 0;
}

static int check_printable(const char *key, const char *value, sd_bus_error *error) {
        for (const char *s = value; s && *s; s++)
                if (iscntrl((unsigned char) *s))
                        return invalid(error, key, "has a control character in it");
        return 0;
}

static int check_boot(const Settings *s, sd_bus_error *error) {
        if (s->disk && s->disk_size > 0)
                return invalid(error, "disk-size",
                               "makes a new disk, and 'disk' names one; give one "
                               "of them");
        if (!s->kernel && (s->initrd || s->cmdline))
                return invalid(error, s->initrd ? "initrd" : "cmdline", "needs a kernel");
        if (s->kernel && streq(s->firmware, "uefi"))
                return invalid(error, "firmware", "is of no use when a kernel is booted directly");
        if (!s->disk && s->disk_size == 0 && !s->cdrom && !s->kernel)
                return sd_bus_error_set(
                        error, SD_BUS_ERROR_INVALID_ARGS,
                        "There is nothing to boot from; give a disk, a disk-size and "
                        "a cdrom, or a kernel");
        if (s->cmdline && strlen(s->cmdline) > CMDLINE_MAX_LENGTH)
                return invalid(error, "cmdline", "is longer than the 2047 bytes that Linux takes");
        return 0;
}

static int check(const Settings *s, sd_bus_error *error) {
        const struct {
                const char *key, *value;
        } texts[] = {
                { "disk", s->disk },     { "cdrom", s->cdrom },     { "kernel", s->kernel },
                { "initrd", s->initrd }, { "cmdline", s->cmdline },
        };
        int r;

        r = check_name(s->name, error);
        if (r < 0)
                return r;
        r = check_memory(s->memory, error);
        if (r < 0)
                return r;
        if (s->vcpus < 1 || s->vcpus > VCPUS_MAX)
                return sd_bus_error_setf(error, SD_BUS_ERROR_INVALID_ARGS,
                                         "vcpus: is %u; 1 to %u are possible", s->vcpus, VCPUS_MAX);
        if (!streq(s->accelerator, "auto") && !streq(s->accelerator, "kvm") &&
            !streq(s->accelerator, "tcg"))
                return invalid(error, "accelerator", "must be 'auto', 'kvm' or 'tcg'");
        if (!streq(s->firmware, "bios") && !streq(s->firmware, "uefi"))
                return invalid(error, "firmware", "must be 'bios' or 'uefi'");
        for (size_t i = 0; i < ELEMENTSOF(texts); i++) {
                r = check_printable(texts[i].key, texts[i].value, error);
                if (r < 0)
                        return r;
        }
        return check_boot(s, error);
}

static int set_defaults(Settings *s) {
        if (!s->accelerator)
                s->accelerator = strdup("auto");
        if (!s->firmware)
                s->firmware = strdup("bios");
        return s->accelerator && s->firmware ? 0 : -ENOMEM;
}

int settings_read(sd_bus_message *m, Settings **ret, sd_bus_error *error) {
        _cleanup_(settings_freep) Settings *s = new0(Settings, 1);
        int r;

        if (!s)
                return -ENOMEM;
        s->memory = DEFAULT_MEMORY;
        s->vcpus = DEFAULT_VCPUS;
        s->start = true;

        r = read_dictionary(m, s, error);
        if (r < 0)
                return r;
        r = set_defaults(s);
        if (r < 0)
                return r;
        r = check(s, error);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(s);
        return 0;
}

Settings *settings_free(Settings *s) {
        if (!s)
                return NULL;
        forward_list_done(&s->forwards);
        free(s->name);
        free(s->disk);
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
