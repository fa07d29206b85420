/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What a caller may say about the guest, and the hash of a password.
 *
 * A mistake here shows itself a boot later, as a login that fails without a word why. So what can
 * be known to be wrong is refused: a login name that some distribution's useradd would not take, a
 * public key that is damaged (its Base64 is a list of fields with their lengths, the first of them
 * the type once more: RFC 4253, 6.6), a private key, a key for nobody, a user who could not log in.
 *
 * Not checked: whether the guest has a user or group of this name already, or understands the
 * user-data; only the guest knows. */

#include <crypt.h>
#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>

#include "guest-setup.h"

/* sha512crypt with its 5000 rounds: the strongest that every guest of the last years understands.
 * yescrypt is unknown to musl (Alpine) and RHEL 8, bcrypt to glibc's own libcrypt. Who can read the
 * hash in the seed can read the guest's disk as well. */
#define PASSWORD_METHOD "$6$"

/* What musl's crypt() takes. */
#define PASSWORD_MAX 256

#define LABEL_MAX 63    /* RFC 1123 */
#define HOSTNAME_MAX 64 /* Linux: sethostname(2) */
#define USER_MAX 31     /* systemd, and the room for it in utmp */
#define KEY_MAX 16384   /* OpenSSH: SSH_MAX_PUBKEY_BYTES */

static const char *const key_types[] = {
        "ssh-ed25519",
        "ssh-rsa",
        "ecdsa-sha2-nistp256",
        "ecdsa-sha2-nistp384",
        "ecdsa-sha2-nistp521",
        "sk-ssh-ed25519@openssh.com",
        "sk-ecdsa-sha2-nistp256@openssh.com",
};

/* Sets the reason. Returns -EINVAL, or -ENOMEM. */
_printf_(2, 3) static int refuse(char **ret_reason, const char *format, ...) {
        va_list ap;
        int n;

        va_start(ap, format);
        n = vasprintf(ret_reason, format, ap);
        va_end(ap);
        if (n < 0) {
                *ret_reason = NULL;
                return -ENOMEM;
        }
        return -EINVAL;
}

static bool has_control_character(const char *s) {
        for (; *s; s++)
                if ((unsigned char) *s < ' ' || *s == 0x7f)
                        return true;
        return false;
}

/* ---- password ---- */

static int check_password(const char *password, char **ret_reason) {
        size_t n = strlen(password);

        if (n == 0)
                return refuse(ret_reason,
                              "password: is empty; leave it out for a login by key only");
        if (n > PASSWORD_MAX)
                return refuse(ret_reason, "password: is %zu bytes long; guests take at most %d", n,
                              PASSWORD_MAX);
        if (has_control_character(password))
                return refuse(ret_reason,
                              "password: has a line break or another control character, "
                              "which cannot be typed at a login");
        return 0;
}

int guest_setup_hash_password(const char *password, char **ret, char **ret_reason) {
        _cleanup_free_ char *salt = NULL;
        void *data = NULL;
        char *hash;
        int r, size = 0;

        *ret_reason = NULL;
        r = check_password(password, ret_reason);
        if (r < 0)
                return r;

        salt = crypt_gensalt_ra(PASSWORD_METHOD, 0, NULL, 0);
        if (!salt)
                return -errno;
        hash = crypt_ra(password, salt, &data, &size);
        if (!hash)
                r = -errno;
        else {
                *ret = strdup(hash);
                r = *ret ? 0 : -ENOMEM;
        }
        if (data)
                explicit_bzero(data, size);
        free(data);
        return r;
}

/* ---- names ---- */

static int check_hostname(const char *name, char **ret_reason) {
        size_t n = strlen(name), label;

        if (n > HOSTNAME_MAX)
                return refuse(ret_reason, "hostname: is %zu bytes long; Linux takes at most %d", n,
                              HOSTNAME_MAX);
        for (const char *s = name;; s += label + 1) {
                label = strcspn(s, ".");
                if (label == 0)
                        return refuse(ret_reason,
                                      "hostname: \"%s\" is empty, or has a dot too many", name);
                if (label > LABEL_MAX)
                        return refuse(ret_reason,
                                      "hostname: \"%s\" has more than %d bytes between its dots",
                                      name, LABEL_MAX);
                for (size_t i = 0; i < label; i++)
                        if (!isascii(s[i]) || !(isalnum(s[i]) || s[i] == '-'))
                                return refuse(
                                        ret_reason,
                                        "hostname: \"%s\" may have the letters a to z, digits, "
                                        "'-', and '.' between its parts only",
                                        name);
                if (s[0] == '-' || s[label - 1] == '-')
                        return refuse(ret_reason,
                                      "hostname: \"%s\" has a part that begins or ends with '-'",
                                      name);
                if (!s[label])
                        return 0;
        }
}

static int check_user(const char *name, char **ret_reason) {
        size_t n = strlen(name);

        if (n == 0 || n > USER_MAX)
                return refuse(ret_reason, "user: is %zu bytes long; a login name has 1 to %d", n,
                              USER_MAX);
        if (strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_-") != n || isdigit(*name) ||
            *name == '-')
                return refuse(ret_reason,
                              "user: \"%s\" is not a login name that every guest takes; use lower "
                              "case letters, digits, '_' and '-', and begin with a letter or '_'",
                              name);
        return 0;
}

/* ---- SSH keys ---- */

static int base64_value(char c) {
        if (c >= 'A' && c <= 'Z')
                return c - 'A';
        if (c >= 'a' && c <= 'z')
                return c - 'a' + 26;
        if (c >= '0' && c <= '9')
                return c - '0' + 52;
        return c == '+' ? 62 : c == '/' ? 63 : -1;
}

/* Decodes n characters into data, which has room for as many bytes. Returns how many, or -1. */
static ssize_t base64_decode(const char *s, size_t n, uint8_t *data) {
        uint32_t bits = 0;
        ssize_t size = 0;
        size_t padding = 0;

        if (n == 0 || n % 4 != 0)
                return -1;
        while (padding < 2 && s[n - padding - 1] == '=')
                padding++;
        for (size_t i = 0; i < n - padding; i++) {
                int value = base64_value(s[i]);

                if (value < 0)
                        return -1;
                bits = bits << 6 | (uint32_t) value;
                if (i % 4 > 0)
                        data[size++] = (uint8_t) (bits >> (6 - i % 4 * 2));
        }
        return size;
}

/* Whether the data are whole fields, of which the first says the type: RFC 4253, 6.6. */
static bool is_key_data(const uint8_t *data, size_t size, const char *type, size_t type_length) {
        size_t n_fields = 0, length;

        for (size_t at = 0; at < size; at += 4 + length, n_fields++) {
                if (size - at < 4)
                        return false;
                length = (size_t) data[at] << 24 | (size_t) data[at + 1] << 16 |
                         (size_t) data[at + 2] << 8 | data[at + 3];
                if (length > size - at - 4)
                        return false;
                if (n_fields == 0 && (length != type_length || memcmp(data + 4, type, length) != 0))
                        return false;
        }
        return n_fields >= 2;
}

static bool is_word(const char *s, size_t n, const char *word) {
        return strlen(word) == n && strncmp(s, word, n) == 0;
}

static bool is_key_type(const char *s, size_t n) {
        for (size_t i = 0; i < ELEMENTSOF(key_types); i++)
                if (is_word(s, n, key_types[i]))
                        return true;
        return false;
}

static size_t word_length(const char *s) {
        return strcspn(s, " \t");
}

static const char *next_word(const char *s) {
        s += word_length(s);
        return s + strspn(s, " \t");
}

/* What comes after the options of authorized_keys(5), which have blanks in quotes only. */
static const char *skip_options(const char *s) {
        bool quoted = false;

        for (; *s && (quoted || (*s != ' ' && *s != '\t')); s++)
                if (s[0] == '\\' && s[1] == '"')
                        s++;
                else if (*s == '"')
                        quoted = !quoted;
        return s + strspn(s, " \t");
}

/* A whole file in the place of a line of authorized_keys, or a line of another kind. */
static int check_ssh_key_form(const char *key, size_t number, char **ret_reason) {
        if (strstr(key, "PRIVATE KEY") || startswith(key, "PuTTY-User-Key-File"))
                return refuse(ret_reason,
                              "ssh-keys: number %zu is a private key, which must not leave its "
                              "owner; give the public one, from the file that ends in .pub",
                              number);
        if (startswith(key, "----"))
                return refuse(ret_reason,
                              "ssh-keys: number %zu is not in OpenSSH's format; convert it with "
                              "ssh-keygen -i (see ssh-keygen(1), -m)",
                              number);
        if (key[strspn(key, " \t\r\n")] == '\0' || *key == '#')
                return refuse(ret_reason,
                              "ssh-keys: number %zu is an empty line or a comment; leave it out",
                              number);
        if (strlen(key) > KEY_MAX)
                return refuse(ret_reason, "ssh-keys: number %zu is longer than %d bytes", number,
                              KEY_MAX);
        for (const char *s = key; *s; s++)
                if (((unsigned char) *s < ' ' && *s != '\t') || *s == 0x7f)
                        return refuse(ret_reason,
                                      "ssh-keys: number %zu has a line break or another control "
                                      "character; give each line as a value of its own",
                                      number);
        return 0;
}

/* Finds the type of the key, the first word or the first after the options. */
static int find_key_type(const char *key, size_t number, const char **ret, char **ret_reason) {
        const char *type = key + strspn(key, " \t");

        if (!is_key_type(type, word_length(type)))
                type = skip_options(type);
        if (is_key_type(type, word_length(type))) {
                *ret = type;
                return 0;
        }
        if (strstr(key, "-cert-v01@openssh.com"))
                return refuse(ret_reason,
                              "ssh-keys: number %zu is a certificate, which does not let anybody "
                              "in by itself; give the public key, from the file without \"-cert\"",
                              number);
        if (strstr(key, "ssh-dss"))
                return refuse(
                        ret_reason,
                        "ssh-keys: number %zu is a DSA key, which OpenSSH takes no more; make "
                        "another one: ssh-keygen -t ed25519",
                        number);
        return refuse(ret_reason,
                      "ssh-keys: number %zu is not an SSH public key; give what is in a file like "
                      "~/.ssh/id_ed25519.pub, \"ssh-ed25519 AAAA...\"",
                      number);
}

static int check_ssh_key(const char *key, size_t number, char **ret_reason) {
        _cleanup_free_ uint8_t *data = NULL;
        const char *type = NULL, *base64;
        size_t n;
        ssize_t size;
        int r;

        r = check_ssh_key_form(key, number, ret_reason);
        if (r < 0)
                return r;
        r = find_key_type(key, number, &type, ret_reason);
        if (r < 0)
                return r;

        base64 = next_word(type);
        n = word_length(base64);
        data = new0(uint8_t, n + 1);
        if (!data)
                return -ENOMEM;
        size = base64_decode(base64, n, data);
        if (size < 0 || !is_key_data(data, (size_t) size, type, word_length(type)))
                return refuse(
                        ret_reason,
                        "ssh-keys: number %zu is damaged after \"%.*s\"; copy the whole line, "
                        "and nothing else",
                        number, (int) word_length(type), type);
        return 0;
}

/* ---- all ---- */

static bool has_keys(const GuestSetup *s) {
        return s->ssh_keys && *s->ssh_keys;
}

static int check_user_data(const GuestSetup *s, char **ret_reason) {
        size_t n = strlen(s->user_data);

        if (n == 0)
                return refuse(ret_reason, "user-data: is empty; leave it out instead");
        if (n > GUEST_SETUP_USER_DATA_MAX)
                return refuse(ret_reason, "user-data: is %zu bytes long; at most %u are allowed", n,
                              GUEST_SETUP_USER_DATA_MAX);
        if (s->user || has_keys(s) || s->password)
                return refuse(ret_reason, "user-data: takes the place of what user, ssh-keys and "
                                          "password would set up; give it or them");
        return 0;
}

int guest_setup_check(const GuestSetup *s, char **ret_reason) {
        int r = 0;

        *ret_reason = NULL;
        if (s->hostname)
                r = check_hostname(s->hostname, ret_reason);
        if (r == 0 && s->user)
                r = check_user(s->user, ret_reason);
        for (size_t i = 0; r == 0 && s->ssh_keys && s->ssh_keys[i]; i++)
                r = check_ssh_key(s->ssh_keys[i], i + 1, ret_reason);
        if (r < 0)
                return r;

        if (s->user_data)
                return check_user_data(s, ret_reason);
        if ((has_keys(s) || s->password) && !s->user)
                return refuse(ret_reason, "user: is missing; say whose %s is",
                              has_keys(s) ? "the SSH key" : "the password");
        if (s->user && !has_keys(s) && !s->password)
                return refuse(ret_reason,
                              "user: nobody could log in as %s; give ssh-keys or a password too",
                              s->user);
        return 0;
}
