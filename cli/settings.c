/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The options are the settings of CreateVM, one for one, and what their values may be is for the
 * service to say. Only what the service cannot know is done here: which directory a relative path
 * is relative to, and what is in files that are read for it. */

#include "settings.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>

#include "input.h"
#include "output.h"
#include "util.h"

/* Neither the file nor its directory need be there: the service complains with better words. */
static int absolute_path(const char *path, char **ret_path) {
        _cleanup_free_ char *directory = NULL;

        if (path[0] == '/' || isempty(path)) {
                *ret_path = strdup(path);
                return *ret_path ? 0 : -ENOMEM;
        }
        directory = getcwd(NULL, 0);
        if (!directory)
                return -errno;
        if (asprintf(ret_path, "%s/%s", streq(directory, "/") ? "" : directory, path) < 0)
                return -ENOMEM;
        return 0;
}

typedef int (*SetText)(uservm_settings *s, const char *value);

/* Does nothing if the option is not there. */
static int set_text(const Arguments *arguments, const char *name, uservm_settings *s, SetText set) {
        const char *value = option_value(arguments, name);

        return value ? set(s, value) : 0;
}

static int set_path(const Arguments *arguments, const char *name, uservm_settings *s, SetText set) {
        const char *value = option_value(arguments, name);
        _cleanup_free_ char *path = NULL;
        int r;

        if (!value)
                return 0;
        r = absolute_path(value, &path);
        return r < 0 ? r : set(s, path);
}

static int set_kernel(const Arguments *arguments, uservm_settings *s) {
        const char *kernel = option_value(arguments, "kernel");
        const char *initrd = option_value(arguments, "initrd");
        _cleanup_free_ char *kernel_path = NULL, *initrd_path = NULL;
        int r;

        if (!kernel)
                return 0;
        r = absolute_path(kernel, &kernel_path);
        if (r >= 0 && initrd)
                r = absolute_path(initrd, &initrd_path);
        if (r < 0)
                return r;
        return uservm_settings_set_kernel(s, kernel_path, initrd_path,
                                          option_value(arguments, "cmdline"));
}

static int set_texts(const Arguments *arguments, uservm_settings *s) {
        static const struct {
                const char *name;
                SetText set;
        } texts[] = {
                { "memory", uservm_settings_set_memory_text },
                { "disk-size", uservm_settings_set_disk_size_text },
                { "accelerator", uservm_settings_set_accelerator },
                { "firmware", uservm_settings_set_firmware },
                { "hostname", uservm_settings_set_hostname },
                { "user", uservm_settings_set_user },
                { "guest-setup", uservm_settings_set_guest_setup },
        }, paths[] = {
                { "image", uservm_settings_set_image },
                { "disk", uservm_settings_set_disk },
                { "cdrom", uservm_settings_set_cdrom },
        };
        int r = 0;

        for (size_t i = 0; r >= 0 && i < ELEMENTSOF(texts); i++)
                r = set_text(arguments, texts[i].name, s, texts[i].set);
        for (size_t i = 0; r >= 0 && i < ELEMENTSOF(paths); i++)
                r = set_path(arguments, paths[i].name, s, paths[i].set);
        return r < 0 ? r : set_kernel(arguments, s);
}

static int set_switches(const Arguments *arguments, uservm_settings *s) {
        int r = 0;

        if (option_given(arguments, "copy"))
                r = uservm_settings_set_copy(s, true);
        if (r >= 0 && option_given(arguments, "no-start"))
                r = uservm_settings_set_start(s, false);
        if (r >= 0 && option_given(arguments, "autostart"))
                r = uservm_settings_set_autostart(s, true);
        return r;
}

/* Further disks */

/* Takes what there is up to the next comma. Two commas are one that belongs to it, as with qemu(1)
 * and virt-install(1). */
static char *next_part(char **rest) {
        char *part = *rest, *from = part, *to = part;

        for (; *from && !(from[0] == ',' && from[1] != ','); from++) {
                if (*from == ',')
                        from++;
                *to++ = *from;
        }
        *rest = *from ? from + 1 : NULL;
        *to = '\0';
        return part;
}

/* Returns 1 if there is no such part. */
static int set_disk_part(uservm_disk_settings *d, const char *part) {
        _cleanup_free_ char *path = NULL;
        const char *value;
        int r;

        if (streq(part, "copy"))
                return uservm_disk_settings_set_copy(d, true);
        if ((value = startswith(part, "size=")))
                return uservm_disk_settings_set_size_text(d, value);
        if ((value = startswith(part, "path="))) {
                r = absolute_path(value, &path);
                return r < 0 ? r : uservm_disk_settings_set_disk(d, path);
        }
        if ((value = startswith(part, "image="))) {
                r = absolute_path(value, &path);
                return r < 0 ? r : uservm_disk_settings_set_image(d, path);
        }
        return 1;
}

/* As all functions from here on: complains. */
static Exit add_disk(const Arguments *arguments, const char *value, uservm_settings *s,
                     bool *copies) {
        _cleanup_free_ char *copy = strdup(value);
        uservm_disk_settings *d;
        char *rest = copy, *part;
        int r;

        r = copy ? uservm_settings_add_disk(s, &d) : -ENOMEM;
        while (r >= 0 && rest) {
                part = next_part(&rest);
                r = set_disk_part(d, part);
                if (r > 0)
                        return usage_error(arguments->command,
                                           "--add-disk takes path=FILE, size=SIZE, or image=FILE "
                                           "with size=SIZE and copy, with commas in between, not "
                                           "'%s'",
                                           part);
                if (streq(part, "copy"))
                        *copies = true;
        }
        return input_failed(r);
}

/* What may be repeated. */
static Exit add_all(const Arguments *arguments, uservm_settings *s, bool *copies) {
        Exit e = EXIT_OK;

        for (size_t i = 0; e == EXIT_OK && i < arguments->n_given; i++) {
                const char *name = arguments->given[i].option->name;
                const char *value = arguments->given[i].value;

                if (streq(name, "publish"))
                        e = input_failed(uservm_settings_add_forward(s, value));
                else if (streq(name, "add-disk"))
                        e = add_disk(arguments, value, s, copies);
                else if (streq(name, "ssh-key"))
                        e = input_ssh_keys(value, s);
        }
        return e;
}

Exit settings_fill(const Arguments *arguments, uservm_settings *s, bool *ret_copies) {
        const char *user_data = option_value(arguments, "user-data");
        const char *password = option_value(arguments, "password-file");
        bool copies = option_given(arguments, "copy");
        uint64_t vcpus = 0;
        Exit e;
        int r;

        e = option_number(arguments, "vcpus", 1, UINT32_MAX, &vcpus);
        if (e != EXIT_OK)
                return e;
        r = set_texts(arguments, s);
        if (r >= 0)
                r = set_switches(arguments, s);
        if (r >= 0 && vcpus > 0)
                r = uservm_settings_set_vcpus(s, (uint32_t) vcpus);
        e = input_failed(r);
        if (e == EXIT_OK)
                e = add_all(arguments, s, &copies);
        if (e == EXIT_OK && user_data)
                e = input_user_data(user_data, s);
        if (e == EXIT_OK && password)
                e = input_password(password, s);
        *ret_copies = copies;
        return e;
}
