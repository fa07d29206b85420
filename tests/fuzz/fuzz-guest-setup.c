/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What a guest is told about itself. Lines: host name, user, password, user-data, each empty if
 * there is none; then SSH keys. */

#include "guest-setup.h"

#include <errno.h>
#include <json-c/json.h>

#include "fuzz.h"
#include "message.h"

static char *optional(char *text) {
        if (*text)
                return text;
        free(text);
        return NULL;
}

static void read_setup(FuzzInput *input, GuestSetup *s) {
        size_t n = 0;

        s->instance_id = strdup("00000000-0000-4000-8000-000000000001");
        INVARIANT(s->instance_id);
        s->hostname = optional(fuzz_line(input));
        s->user = optional(fuzz_line(input));
        s->password = optional(fuzz_line(input));
        s->user_data = optional(fuzz_line(input));
        while (input->left > 0) {
                s->ssh_keys = reallocarray(s->ssh_keys, n + 2, sizeof(char *));
                INVARIANT(s->ssh_keys);
                s->ssh_keys[n++] = fuzz_line(input);
                s->ssh_keys[n] = NULL;
        }
}

/* Callers are told in words that D-Bus can carry, if what they said was. */
static bool can_be_said(const GuestSetup *s) {
        bool can = message_can_carry(s->hostname ?: "") && message_can_carry(s->user ?: "") &&
                   message_can_carry(s->password ?: "") && message_can_carry(s->user_data ?: "");

        for (char **key = s->ssh_keys; key && *key; key++)
                can = can && message_can_carry(*key);
        return can;
}

static json_object *get(json_object *object, const char *key) {
        json_object *value;

        INVARIANT(json_object_object_get_ex(object, key, &value));
        return value;
}

static void check_string(json_object *object, const char *key, const char *expected) {
        if (expected)
                INVARIANT(streq(json_object_get_string(get(object, key)), expected));
        else
                INVARIANT(!json_object_object_get_ex(object, key, NULL));
}

static void check_keys(json_object *object, char **keys) {
        json_object *array = get(object, "ssh_authorized_keys");
        size_t n = 0;

        for (; keys && keys[n]; n++)
                INVARIANT(n < json_object_array_length(array) &&
                          streq(json_object_get_string(json_object_array_get_idx(array, n)),
                                keys[n]));
        INVARIANT(json_object_array_length(array) == n);
}

/* JSON is YAML if it is printable, and its only line breaks are those between the values. */
static json_object *parse(const char *text) {
        json_object *object = json_tokener_parse(text);

        for (const unsigned char *c = (const unsigned char *) text; *c; c++)
                INVARIANT((*c >= ' ' && *c != 0x7f) || *c == '\n');
        INVARIANT(json_object_is_type(object, json_type_object));
        return object;
}

static void check_user_data(const GuestSetup *s) {
        _cleanup_free_ char *text = NULL;
        json_object *config;
        const char *json;

        INVARIANT(guest_setup_user_data(s, &text) == 0);
        if (s->user_data) {
                INVARIANT(streq(text, s->user_data));
                return;
        }
        json = startswith(text, "#cloud-config\n");
        INVARIANT(json);
        config = parse(json);
        check_string(config, "hostname", s->hostname);
        if (s->user && !streq(s->user, "root")) {
                check_string(get(config, "user"), "name", s->user);
                check_keys(get(config, "user"), s->ssh_keys);
        } else if (s->user)
                check_keys(config, s->ssh_keys);
        json_object_put(config);
}

static void check_meta_data(const GuestSetup *s) {
        _cleanup_free_ char *text = NULL;
        json_object *data;

        INVARIANT(guest_setup_meta_data(s, &text) == 0);
        data = parse(text);
        check_string(data, "instance-id", s->instance_id);
        check_string(data, "local-hostname", s->hostname);
        json_object_put(data);
}

static void check_credentials(const GuestSetup *s) {
        _cleanup_(strv_freep) char **credentials = NULL;
        size_t size = 0;
        int r;

        r = guest_setup_credentials(s, &credentials);
        if (s->user_data) {
                INVARIANT(r == -EOPNOTSUPP);
                return;
        }
        INVARIANT(r == 0 || r == -E2BIG);
        for (char **c = credentials; c && *c; c++) {
                const char *name = startswith(*c, "io.systemd.credential.binary:");
                const char *value = name ? strchr(name, '=') : NULL;

                INVARIANT(value && strspn(value + 1, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqr"
                                                     "stuvwxyz0123456789+/=") == strlen(value + 1));
                size += strlen(*c) + 1;
        }
        INVARIANT(size <= 32768);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        FuzzInput input = fuzz_input(data, size);
        _cleanup_guest_setup_ GuestSetup s = {};
        _cleanup_free_ char *reason = NULL;
        int r;

        read_setup(&input, &s);
        r = guest_setup_check(&s, &reason);
        if (r < 0) {
                INVARIANT(r == -EINVAL && !isempty(reason));
                INVARIANT(!can_be_said(&s) || message_can_carry(reason));
                return 0;
        }
        INVARIANT(!reason);
        /* The password is a hash by now, and user-data is from D-Bus. */
        if (!can_be_said(&s))
                return 0;
        check_user_data(&s);
        check_meta_data(&s);
        check_credentials(&s);
        return 0;
}
