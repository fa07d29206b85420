/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What can be said of the settings of CreateVM without asking anybody: single values, values that
 * need each other or exclude each other, and what is meant by those that are not there. */

#include <ctype.h>
#include <errno.h>
#include <pwd.h>
#include <sys/sysinfo.h>

#include "domain-live.h"
#include "error.h"
#include "settings.h"

/* Less than this does not even boot a kernel. */
#define MEMORY_MIN (16ULL << 20)
/* What q35 takes without an IOMMU for interrupt remapping (8-bit APIC IDs). */
#define VCPUS_MAX 255U
/* A host name label is at most this long (RFC 1035), and the name becomes the guest's host name. */
#define NAME_MAX_LENGTH 63
/* x86 Linux takes at most this as its command line. */
#define CMDLINE_MAX_LENGTH 2047

static int invalid(sd_bus_error *error, const char *key, const char *reason) {
        return sd_bus_error_setf(error, SD_BUS_ERROR_INVALID_ARGS, "%s: %s", key, reason);
}

/* A name is a host name, a file name and part of a unit name, and must not be taken for a UUID. */
int settings_check_name(const char *name, sd_bus_error *error) {
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
        if (streq(name, "driver")) /* NAME.pid would be the lock of libvirt's daemon */
                return invalid(error, "name", "is one that libvirt needs for itself");
        if (n == 36 && strspn(name, "0123456789abcdefABCDEF-") == n)
                return invalid(error, "name", "looks like a UUID; choose another one");
        return 0;
}

int settings_check_memory(uint64_t memory, sd_bus_error *error) {
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

int settings_check_vcpus(uint32_t vcpus, sd_bus_error *error) {
        if (vcpus >= 1 && vcpus <= VCPUS_MAX)
                return 0;
        return sd_bus_error_setf(error, SD_BUS_ERROR_INVALID_ARGS,
                                 "vcpus: is %u; 1 to %u are possible", vcpus, VCPUS_MAX);
}

static int check_disk(const DiskSettings *d, sd_bus_error *error) {
        int r;

        if (d->disk && d->image)
                return invalid(error, "image",
                               "is what a new disk is made of, and 'disk' is one that is used as "
                               "it is; give one of them");
        if (d->disk && d->size > 0)
                return invalid(error, "disk-size",
                               "makes a new disk, and 'disk' names one; give one of them");
        if (d->copy && !d->image)
                return invalid(error, "copy", "needs an image to copy");
        if (!d->disk && !d->image && d->size == 0)
                return invalid(error, "disks",
                               "one of them has neither a disk, an image nor a size");
        r = check_printable("disk", d->disk, error);
        return r < 0 ? r : check_printable("image", d->image, error);
}

static int check_boot(const Settings *s, sd_bus_error *error) {
        int r;

        for (size_t i = 0; i < s->n_disks; i++) {
                r = check_disk(&s->disks[i], error);
                if (r < 0)
                        return r;
        }
        if (!s->kernel && (s->initrd || s->cmdline))
                return invalid(error, s->initrd ? "initrd" : "cmdline", "needs a kernel");
        if (s->kernel && streq(s->firmware, "uefi"))
                return invalid(error, "firmware", "is of no use when a kernel is booted directly");
        if (s->n_disks == 0 && !s->cdrom && !s->kernel)
                return sd_bus_error_set(
                        error, SD_BUS_ERROR_INVALID_ARGS,
                        "There is nothing to boot from; give an image, a disk, a disk-size and "
                        "a cdrom, or a kernel");
        if (s->cmdline && strlen(s->cmdline) > CMDLINE_MAX_LENGTH)
                return invalid(error, "cmdline", "is longer than the 2047 bytes that Linux takes");
        return 0;
}

/* The guest's set-up */

static int refuse_setup(char *reason, sd_bus_error *error) {
        return sd_bus_error_set(error, SD_BUS_ERROR_INVALID_ARGS, reason);
}

/* The password is not needed any more when there is its hash. */
static int hash_password(Settings *s, sd_bus_error *error) {
        _cleanup_free_ char *reason = NULL;
        int r;

        if (!s->password)
                return 0;
        r = guest_setup_hash_password(s->password, &s->setup.password, &reason);
        explicit_bzero(s->password, strlen(s->password));
        free(TAKE_PTR(s->password));
        return r == -EINVAL ? refuse_setup(reason, error) : r;
}

/* The user of this process, whom ssh(1) logs in as when it is not told otherwise. */
static int own_user(char **ret) {
        struct passwd storage, *user = NULL;
        char buffer[4096];

        if (getpwuid_r(getuid(), &storage, buffer, sizeof(buffer), &user) != 0 || !user)
                return -ENXIO;
        *ret = strdup(user->pw_name);
        return *ret ? 0 : -ENOMEM;
}

static int set_setup_defaults(Settings *s, sd_bus_error *error) {
        GuestSetup *g = &s->setup;
        int r;

        if (!s->guest_setup)
                s->guest_setup = strdup("cloud-init");
        if (!s->guest_setup)
                return -ENOMEM;
        if (!g->hostname) {
                r = domain_live_hostname(s->name, &g->hostname);
                if (r < 0)
                        return r;
        }
        if (!g->user && (g->password || (g->ssh_keys && *g->ssh_keys))) {
                r = own_user(&g->user);
                if (r == -ENXIO)
                        return invalid(error, "user", "is missing, and yours has no name");
                if (r < 0)
                        return r;
        }
        return 0;
}

static bool has_setup(const Settings *s) {
        const GuestSetup *g = &s->setup;

        return s->guest_setup || s->password || g->hostname || g->user || g->ssh_keys ||
               g->user_data;
}

static int check_setup(Settings *s, sd_bus_error *error) {
        _cleanup_free_ char *reason = NULL;
        int r;

        if (!has_setup(s))
                return 0;
        if (s->guest_setup && !streq(s->guest_setup, "cloud-init") &&
            !streq(s->guest_setup, "credentials"))
                return invalid(error, "guest-setup", "must be 'cloud-init' or 'credentials'");
        r = hash_password(s, error);
        if (r < 0)
                return r;
        r = set_setup_defaults(s, error);
        if (r < 0)
                return r;
        r = guest_setup_check(&s->setup, &reason);
        if (r == -EINVAL)
                return refuse_setup(reason, error);
        if (r < 0)
                return r;
        if (s->setup.user_data && streq(s->guest_setup, "credentials"))
                return invalid(error, "user-data",
                               "is for cloud-init, and cannot be in credentials");
        return 0;
}

static int set_defaults(Settings *s) {
        if (!s->accelerator)
                s->accelerator = strdup("auto");
        if (!s->firmware)
                s->firmware = strdup("bios");
        return s->accelerator && s->firmware ? 0 : -ENOMEM;
}

int settings_check(Settings *s, sd_bus_error *error) {
        const struct {
                const char *key, *value;
        } texts[] = {
                { "cdrom", s->cdrom },
                { "kernel", s->kernel },
                { "initrd", s->initrd },
                { "cmdline", s->cmdline },
        };
        int r;

        r = set_defaults(s);
        if (r >= 0)
                r = settings_check_name(s->name, error);
        if (r >= 0)
                r = settings_check_memory(s->memory, error);
        if (r < 0)
                return r;
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
        r = check_boot(s, error);
        return r < 0 ? r : check_setup(s, error);
}
