/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The settings of CreateVM, on their way from D-Bus to libvirt, and the options of other methods.
 * Lines as in message.h. A key that is none stands for one of CreateVM's, unless it begins with
 * '?'. */

#include "settings.h"

#include "domain-build.h"
#include "error.h"
#include "fuzz.h"
#include "message.h"

static const char *const keys[] = {
        "name",      "memory",      "vcpus",    "disk",     "image",     "copy",
        "disk-size", "disks",       "cdrom",    "kernel",   "initrd",    "cmdline",
        "hostname",  "user",        "ssh-keys", "password", "user-data", "guest-setup",
        "forwards",  "accelerator", "firmware", "start",    "autostart",
};

static const char *key_for(const char *word) {
        unsigned sum = 0;

        if (*word == '?')
                return word + 1;
        for (size_t i = 0; i < ELEMENTSOF(keys); i++)
                if (streq(keys[i], word))
                        return keys[i];
        while (*word)
                sum += (unsigned char) *word++;
        return keys[sum % ELEMENTSOF(keys)];
}

/* Who calls is told what is wrong, in words that D-Bus can carry. */
static void check_error(const sd_bus_error *error) {
        INVARIANT(sd_bus_error_has_name(error, SD_BUS_ERROR_INVALID_ARGS) ||
                  sd_bus_error_has_name(error, USERVM_ERROR_INVALID_FORWARD));
        INVARIANT(!isempty(error->message));
        INVARIANT(message_can_carry(error->message));
}

static void check_text(const char *text) {
        INVARIANT(!text || *text);
        for (const char *c = text; c && *c; c++)
                INVARIANT((unsigned char) *c >= ' ' && *c != 0x7f);
}

static void check_disks(const Settings *s) {
        INVARIANT(s->n_disks <= DISKS_MAX);
        for (size_t i = 0; i < s->n_disks; i++) {
                const DiskSettings *d = &s->disks[i];

                check_text(d->disk);
                check_text(d->image);
                INVARIANT(!d->disk || (!d->image && d->size == 0));
                INVARIANT(d->disk || d->image || d->size > 0);
                INVARIANT(d->image || !d->copy);
        }
        INVARIANT(s->n_disks > 0 || s->cdrom || s->kernel);
}

static void check_setup(const GuestSetup *g) {
        check_text(g->hostname);
        check_text(g->user);
        check_text(g->password);
        for (char **key = g->ssh_keys; key && *key; key++)
                INVARIANT(!strpbrk(*key, "\r\n"));
        INVARIANT(!g->user_data || !g->user);
        INVARIANT(!g->password || g->user);
}

static void check_values(const Settings *s) {
        INVARIANT(s->name && s->accelerator && s->firmware);
        check_text(s->name);
        INVARIANT(strlen(s->name) <= 63 && !strchr(s->name, '/') && s->name[0] != '.');
        INVARIANT(s->memory >= 16U << 20 && s->vcpus <= 255);
        check_disks(s);
        check_text(s->cdrom);
        check_text(s->kernel);
        check_text(s->initrd);
        check_text(s->cmdline);
        INVARIANT(!s->password);
        check_setup(&s->setup);
        for (size_t i = 0; i < s->forwards.n; i++)
                for (size_t j = 0; j < i; j++)
                        INVARIANT(!forward_conflicts(&s->forwards.items[i], &s->forwards.items[j]));
}

/* As the caller does, who finds a port for a forward that has none yet; here they are left out. */
static void copy_forwards(const ForwardList *forwards, ForwardList *ret) {
        for (size_t i = 0; i < forwards->n; i++)
                if (forwards->items[i].host.start > 0)
                        INVARIANT(forward_list_append(ret, &forwards->items[i]) == 0);
}

/* A disk is used in place, or has a path of the service's. */
static size_t build_disks(const Settings *s, DomainBuildDisk disks[static DISKS_MAX]) {
        for (size_t i = 0; i < s->n_disks; i++) {
                const DiskSettings *d = &s->disks[i];

                disks[i] = (DomainBuildDisk){ d->disk ?: "/disk", "qcow2",
                                              d->copy ? NULL : d->image, !d->disk };
        }
        return s->n_disks;
}

/* What is accepted here must be possible to be written down. */
static void check_domain(const Settings *s) {
        _cleanup_forward_list_ ForwardList forwards = {};
        _cleanup_free_ char *xml = NULL;
        DomainBuildDisk disks[DISKS_MAX];
        const DomainBuild b = {
                .name = s->name,
                .uuid = "00000000-0000-4000-8000-000000000001",
                .type = "kvm",
                .arch = "x86_64",
                .memory = s->memory,
                .vcpus = s->vcpus ?: 1,
                .uefi = streq(s->firmware, "uefi"),
                .disks = disks,
                .n_disks = build_disks(s, disks),
                .cdrom = s->cdrom,
                .kernel = s->kernel,
                .initrd = s->initrd,
                .cmdline = s->cmdline,
                .passt = true,
                .forwards = &forwards,
        };

        copy_forwards(&s->forwards, &forwards);
        INVARIANT(domain_build(&b, &xml) == 0);
}

static void read_settings(sd_bus_message *m) {
        _cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
        _cleanup_(settings_freep) Settings *s = NULL;

        if (settings_read(m, &s, &error) < 0) {
                check_error(&error);
                return;
        }
        INVARIANT(!sd_bus_error_is_set(&error));
        INVARIANT(sd_bus_message_at_end(m, /* complete= */ true) > 0);
        check_values(s);
        check_domain(s);
}

static void read_options(sd_bus_message *m) {
        _cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
        bool start = true, force = false;

        if (options_read(m, &error, "start", &start, "force", &force, NULL) < 0)
                check_error(&error);
        else
                INVARIANT(sd_bus_message_at_end(m, /* complete= */ true) > 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        FuzzInput input = fuzz_input(data, size);
        _cleanup_free_ char *text = fuzz_rest(&input);
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = message_from_text(text, key_for);

        if (!m)
                return 0;
        read_settings(m);
        INVARIANT(sd_bus_message_rewind(m, /* complete= */ true) >= 0);
        read_options(m);
        return 0;
}
