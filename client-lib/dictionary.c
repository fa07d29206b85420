/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "dictionary.h"

#include <errno.h>

/* A service sends the keys in the same order all the time, and the tables have them in that one, so
 * the next is most often the one after the last. */
static const Key *find_key(const Key *keys, const Key *next, const char *name) {
        if (next->name && streq(next->name, name))
                return next;
        for (const Key *key = keys; key->name; key++)
                if (streq(key->name, name))
                        return key;
        return NULL;
}

int dictionary_read(sd_bus_message *m, const Key *keys, void *object) {
        const Key *next = keys, *key;
        const char *name;
        int r;

        r = sd_bus_message_enter_container(m, 'a', "{sv}");
        if (r < 0)
                return r;
        while ((r = sd_bus_message_enter_container(m, 'e', "sv")) > 0) {
                r = sd_bus_message_read_basic(m, 's', &name);
                if (r < 0)
                        return r;
                key = find_key(keys, next, name);
                r = key ? key->read(m, (char *) object + key->offset) : sd_bus_message_skip(m, "v");
                if (r < 0)
                        return r;
                next = key ? key + 1 : next;
                r = sd_bus_message_exit_container(m);
                if (r < 0)
                        return r;
        }
        if (r < 0)
                return r;
        return sd_bus_message_exit_container(m);
}

int read_basic(sd_bus_message *m, char type, void *ret) {
        const char contents[] = { type, '\0' };
        int r;

        r = sd_bus_message_enter_container(m, 'v', contents);
        if (r < 0)
                return r;
        r = sd_bus_message_read_basic(m, type, ret);
        if (r < 0)
                return r;
        return sd_bus_message_exit_container(m);
}

int read_string(sd_bus_message *m, void *member) {
        char **string = member, *copy;
        const char *value;
        int r;

        r = read_basic(m, 's', &value);
        if (r < 0)
                return r;
        copy = strdup(value);
        if (!copy)
                return -ENOMEM;
        free(*string);
        *string = copy;
        return 0;
}

int read_strings(sd_bus_message *m, void *member) {
        char ***strings = member, **list;
        int r;

        r = sd_bus_message_enter_container(m, 'v', "as");
        if (r < 0)
                return r;
        r = sd_bus_message_read_strv(m, &list);
        if (r < 0)
                return r;
        strv_free(*strings);
        *strings = list;
        r = strings_ensure((const char *const **) member); /* sd-bus has NULL for an empty one */
        if (r < 0)
                return r;
        return sd_bus_message_exit_container(m);
}

int read_uint16(sd_bus_message *m, void *member) {
        return read_basic(m, 'q', member);
}

int read_uint32(sd_bus_message *m, void *member) {
        return read_basic(m, 'u', member);
}

int read_uint64(sd_bus_message *m, void *member) {
        return read_basic(m, 't', member);
}

int read_double(sd_bus_message *m, void *member) {
        return read_basic(m, 'd', member);
}

int read_bool(sd_bus_message *m, void *member) {
        int r, value;

        r = read_basic(m, 'b', &value);
        if (r < 0)
                return r;
        *(bool *) member = value;
        return 0;
}

int list_append(void ***list, size_t *n, void *item) {
        void **items = reallocarray(*list, *n + 2, sizeof(*items));

        if (!items)
                return -ENOMEM;
        items[(*n)++] = item;
        items[*n] = NULL;
        *list = items;
        return 0;
}

static void list_free(void **list, void (*release)(void *object)) {
        for (void **item = list; item && *item; item++)
                release(*item);
        free(list);
}

static int read_items(sd_bus_message *m, int (*read)(sd_bus_message *m, void **ret),
                      void (*release)(void *object), void ***list, size_t *n) {
        void *item;
        int r;

        while ((r = sd_bus_message_at_end(m, false)) == 0) {
                r = read(m, &item);
                if (r < 0)
                        return r;
                r = list_append(list, n, item);
                if (r < 0) {
                        release(item);
                        return r;
                }
        }
        return r < 0 ? r : 0;
}

int dictionary_read_list(sd_bus_message *m, int (*read)(sd_bus_message *m, void **ret),
                         void (*release)(void *object), void ***ret, size_t *ret_n) {
        void **list = new0(void *, 1);
        size_t n = 0;
        int r;

        if (!list)
                return -ENOMEM;
        r = sd_bus_message_enter_container(m, 'a', "a{sv}");
        if (r >= 0)
                r = read_items(m, read, release, &list, &n);
        if (r >= 0)
                r = sd_bus_message_exit_container(m);
        if (r < 0) {
                list_free(list, release);
                return r;
        }
        *ret = list;
        *ret_n = n;
        return 0;
}

int strings_ensure(const char *const **strings) {
        if (!*strings)
                *strings = (const char *const *) new0(char *, 1);
        return *strings ? 0 : -ENOMEM;
}

int strings_copy(const char *const *strings, const char *const **ret) {
        _cleanup_(strv_freep) char **copy = NULL;
        size_t n = 0;

        while (strings[n])
                n++;
        copy = new0(char *, n + 1);
        if (!copy)
                return -ENOMEM;
        for (size_t i = 0; i < n; i++) {
                copy[i] = strdup(strings[i]);
                if (!copy[i])
                        return -ENOMEM;
        }
        *ret = (const char *const *) TAKE_PTR(copy);
        return 0;
}

bool strings_equal(const char *const *a, const char *const *b) {
        for (; *a && *b; a++, b++)
                if (!streq(*a, *b))
                        return false;
        return !*a && !*b;
}
