/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* sd-bus makes no message for a bus that is not connected to anything, so there is one that is
 * connected to a socket of ours, on which nobody answers. */

#include "message.h"

#include <errno.h>
#include <sys/socket.h>

#include "fuzz.h"

static sd_bus *get_bus(void) {
        static sd_bus *bus;
        int pair[2];

        if (!bus) {
                INVARIANT(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) >= 0);
                INVARIANT(sd_bus_new(&bus) >= 0);
                INVARIANT(sd_bus_set_fd(bus, pair[0], pair[0]) >= 0);
                INVARIANT(sd_bus_start(bus) >= 0);
        }
        return bus;
}

static sd_bus_message *message_new(void) {
        sd_bus_message *m;

        INVARIANT(sd_bus_message_new_method_call(get_bus(), &m, "org.uservm1", "/org/uservm1",
                                                 "org.uservm1.Manager", "CreateVM") >= 0);
        return m;
}

bool message_can_carry(const char *text) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = message_new();

        return sd_bus_message_append_basic(m, SD_BUS_TYPE_STRING, text) >= 0;
}

/* The length of the first complete type of a signature; sd-bus checks what is in it. */
static size_t type_length(const char *signature) {
        size_t depth = 0, n = 0;

        while (signature[n] == 'a')
                n++;
        do {
                if (!signature[n])
                        return n;
                depth += strchr("({", signature[n]) != NULL;
                depth -= depth > 0 && strchr(")}", signature[n]);
                n++;
        } while (depth > 0);
        return n;
}

static int append(sd_bus_message *m, const char *signature, char **words);

static bool is_end_of_array(char **words) {
        if (!startswith(*words, "; ") && !streq(*words, ";"))
                return false;
        strsep(words, " ");
        return true;
}

/* Appends what is in a container: values of one type as long as there are words, or one of each
 * type. */
static int append_contents(sd_bus_message *m, char type, const char *contents, char **words) {
        int r = 0;

        if (type == SD_BUS_TYPE_ARRAY) {
                while (r >= 0 && *words && !is_end_of_array(words))
                        r = append(m, contents, words);
                return r;
        }
        for (size_t n; r >= 0 && *contents; contents += n) {
                char one[256];

                n = type_length(contents);
                if (n >= sizeof(one))
                        return -EINVAL;
                *(char *) mempcpy(one, contents, n) = '\0';
                r = append(m, one, words);
        }
        return r;
}

static int append_container(sd_bus_message *m, char type, const char *contents, char **words) {
        int r;

        r = sd_bus_message_open_container(m, type, contents);
        if (r < 0)
                return r;
        r = append_contents(m, type, contents, words);
        if (r < 0)
                return r;
        return sd_bus_message_close_container(m);
}

static int append_basic(sd_bus_message *m, char type, const char *word) {
        union {
                uint64_t number;
                double d;
        } value = { .number = strtoull(word, NULL, 0) };

        if (strchr("sog", type))
                return sd_bus_message_append_basic(m, type, word);
        if (type == SD_BUS_TYPE_BOOLEAN)
                return sd_bus_message_append_basic(m, type, &(int){ value.number & 1 });
        /* The first bytes are the smaller numbers; there is no file descriptor to send. */
        return type == SD_BUS_TYPE_UNIX_FD ? -EINVAL : sd_bus_message_append_basic(m, type, &value);
}

/* Appends a value of one complete type. */
static int append(sd_bus_message *m, const char *signature, char **words) {
        char contents[256], *word;
        size_t n = strlen(signature);

        if (n == 0 || n >= sizeof(contents))
                return -EINVAL;
        if (*signature == SD_BUS_TYPE_ARRAY)
                return append_container(m, SD_BUS_TYPE_ARRAY, signature + 1, words);
        if (*signature == '(' || *signature == '{') {
                *(char *) mempcpy(contents, signature + 1, n > 2 ? n - 2 : 0) = '\0';
                return append_container(
                        m, *signature == '(' ? SD_BUS_TYPE_STRUCT : SD_BUS_TYPE_DICT_ENTRY,
                        contents, words);
        }

        word = strsep(words, " ") ?: (char *) "";
        if (*signature == SD_BUS_TYPE_VARIANT)
                return append_container(m, SD_BUS_TYPE_VARIANT, word, words);
        return append_basic(m, *signature, word);
}

static int append_entry(sd_bus_message *m, const char *key, char *line) {
        const char *signature = strsep(&line, " ") ?: "s";
        int r;

        r = sd_bus_message_open_container(m, SD_BUS_TYPE_DICT_ENTRY, "sv");
        if (r < 0)
                return r;
        r = sd_bus_message_append_basic(m, SD_BUS_TYPE_STRING, key);
        if (r < 0)
                return r;
        r = sd_bus_message_open_container(m, SD_BUS_TYPE_VARIANT, signature);
        if (r < 0)
                return r;
        r = streq(signature, "s") ? sd_bus_message_append_basic(m, SD_BUS_TYPE_STRING, line ?: "")
                                  : append(m, signature, &line);
        if (r < 0)
                return r;
        r = sd_bus_message_close_container(m);
        return r < 0 ? r : sd_bus_message_close_container(m);
}

static int append_lines(sd_bus_message *m, const char *text,
                        const char *(*key_for)(const char *word)) {
        FuzzInput input = { text, strlen(text) };
        int r;

        r = sd_bus_message_open_container(m, SD_BUS_TYPE_ARRAY, "{sv}");
        while (r >= 0 && input.left > 0) {
                _cleanup_free_ char *line = fuzz_line(&input);
                char *rest = line, *word = strsep(&rest, " ");

                r = append_entry(m, key_for(word), rest);
        }
        return r < 0 ? r : sd_bus_message_close_container(m);
}

sd_bus_message *message_from_text(const char *text, const char *(*key_for)(const char *word)) {
        sd_bus_message *m = message_new();

        if (append_lines(m, text, key_for) < 0 || sd_bus_message_seal(m, 1, 0) < 0)
                return sd_bus_message_unref(m);
        INVARIANT(sd_bus_message_rewind(m, /* complete= */ true) >= 0);
        return m;
}
