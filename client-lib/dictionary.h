/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Reads dictionaries, a{sv}, into structures: a table says which key goes where. Keys that are not
 * in the table are passed over, which lets newer services talk to this library.
 *
 * All functions return -EBADMSG or sd-bus' -ENXIO if a message is not like uservmd's. */

#include <systemd/sd-bus.h>

#include "util.h"

/* A key, and the function that reads its variant into the member of the object at the offset. */
typedef struct Key {
        const char *name;
        int (*read)(sd_bus_message *m, void *member);
        size_t offset;
} Key;

/* Reads the dictionary that follows. The table ends with a key without a name. */
int dictionary_read(sd_bus_message *m, const Key *keys, void *object);

/* Reads a variant of a basic type, of which there are thousands in a list of VMs: without a string
 * of types that sd_bus_message_read(3) would take apart each time. */
int read_basic(sd_bus_message *m, char type, void *ret);

/* Each for a member of the type that its name says. Text and lists replace what is there. */
int read_string(sd_bus_message *m, void *member);
int read_strings(sd_bus_message *m, void *member); /* never NULL */
int read_uint16(sd_bus_message *m, void *member);
int read_uint32(sd_bus_message *m, void *member);
int read_uint64(sd_bus_message *m, void *member);
int read_double(sd_bus_message *m, void *member);
int read_bool(sd_bus_message *m, void *member);

/* Reads the array of dictionaries that follows: read makes an object of each, and release releases
 * one. The list ends with NULL. */
int dictionary_read_list(sd_bus_message *m, int (*read)(sd_bus_message *m, void **ret),
                         void (*release)(void *object), void ***ret, size_t *ret_n);

/* Appends to a list that ends with NULL. */
int list_append(void ***list, size_t *n, void *item);

/* An empty list in the place of none. */
int strings_ensure(const char *const **strings);

int strings_copy(const char *const *strings, const char *const **ret);
bool strings_equal(const char *const *a, const char *const *b);

/* Members that callers must not change are const, and freed all the same. */
static inline void free_const(const void *p) {
        free((void *) p);
}

static inline void strings_free(const char *const *strings) {
        strv_free((char **) strings);
}
