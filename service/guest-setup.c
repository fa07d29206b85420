/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What cloud-init and systemd are told, once it has been checked (guest-setup-check.c).
 *
 * cloud-init reads YAML, of which JSON is a part, so the documents are trees that json-c prints,
 * and no value can leave its field. Almost a part: YAML 1.1 takes some characters beyond ASCII for
 * line breaks, and cloud-init's parser refuses a document with certain others, so these are
 * escaped.
 *
 * The user is the image's own default user (debian, fedora, alpine) by another name: it has the
 * groups, the shell and the kind of locked password that the image's makers have chosen, and no
 * second user stands beside it. A fixed /bin/bash, say, would lock out of Alpine, which has none,
 * and so would an account locked in the usual way, because Alpine's sshd refuses these even with a
 * key. root is there already and is not made: the keys are the instance's, which are root's (and
 * the default user's) if disable_root is false. Nothing is said that cloud-init 22.4 does not know.
 *
 * systemd makes a user by systemd-sysusers(8), and home, keys, rights and host name by
 * systemd-tmpfiles(8), at each boot. So the lines do nothing to what is there already, but for the
 * host name: an image brings one, often that of the machine it was built on, so it is set each
 * time. As systemd has read it by then, the kernel is told as well. The number 1000 makes the user
 * an ordinary one, which systemd-sysusers would not do by itself.
 *
 * What systemd cannot do: give a password to a user who is there already, as root is in most
 * images; and before version 256 to anybody but root, because systemd-sysusers.service takes only
 * root's. Since 256 a credential can change that unit. Keys work everywhere. */

#include "guest-setup.h"

#include <errno.h>
#include <json-c/json.h>
#include <stdint.h>
#include <stdio.h>

/* QEMU does not start when all SMBIOS tables together are larger than 64 KiB, as their length has
 * 16 bits in the 32-bit entry point. Half of it is left to the tables of 255 CPUs and much memory.
 */
#define CREDENTIALS_SIZE_MAX (32U << 10)
#define CREDENTIALS_MAX 5

#define SUDO_RULE "ALL=(ALL) NOPASSWD:ALL"
/* The same for doas, which Alpine has instead. cloud-init's key for it is unknown to most versions,
 * which complain. The argument is the user. */
#define DOAS_COMMAND "! test -d /etc/doas.d || echo \"permit nopass $0\" >/etc/doas.d/uservm.conf"

/* sshd reads these when it starts, in the order of their names, and the first value counts: before
 * the one that cloud-init makes, 50-cloud-init.conf. */
#define SSHD_FILE "/etc/ssh/sshd_config.d/40-uservm.conf"

static inline void json_free(json_object *json) {
        json_object_put(json);
}
DEFINE_CLEANUP(json_object *, json_free);
#define _cleanup_json_ _cleanup_(json_freep)

void guest_setup_done(GuestSetup *s) {
        free(s->instance_id);
        free(s->hostname);
        free(s->user);
        strv_free(s->ssh_keys);
        free(s->password);
        free(s->user_data);
        *s = (GuestSetup){};
}

static bool is_root(const GuestSetup *s) {
        return streq_ptr(s->user, "root");
}

/* ---- cloud-init ---- */

/* Adds a value, which is the object's from then on. What could not be made, for lack of memory, is
 * NULL; it and what depends on it is left out, and remembered in failed. */
static void add(bool *failed, json_object *object, const char *key, json_object *value) {
        if (!object || !value || json_object_object_add(object, key, value) < 0) {
                json_object_put(value);
                *failed = true;
        }
}

/* As add(), for an array. */
static void append(bool *failed, json_object *array, json_object *value) {
        if (!array || !value || json_object_array_add(array, value) < 0) {
                json_object_put(value);
                *failed = true;
        }
}

static json_object *new_array(bool *failed, char *const *strings) {
        json_object *array = json_object_new_array();

        for (; strings && *strings; strings++)
                append(failed, array, json_object_new_string(*strings));
        return array;
}

static void add_default_user(bool *failed, json_object *config, const GuestSetup *s) {
        json_object *user = json_object_new_object(), *commands = json_object_new_array();

        add(failed, user, "name", json_object_new_string(s->user));
        add(failed, user, "sudo", json_object_new_string(SUDO_RULE));
        add(failed, user, "ssh_authorized_keys", new_array(failed, s->ssh_keys));
        add(failed, config, "user", user);

        append(failed, commands,
               new_array(failed, (char *[]){ (char *) "sh", (char *) "-c", (char *) DOAS_COMMAND,
                                             s->user, NULL }));
        add(failed, config, "runcmd", commands);
}

static void add_root(bool *failed, json_object *config, const GuestSetup *s) {
        add(failed, config, "disable_root", json_object_new_boolean(false));
        add(failed, config, "ssh_authorized_keys", new_array(failed, s->ssh_keys));
}

/* cloud-init writes it before sshd starts. Its own way, ssh_pwauth, is to start sshd once more,
 * when it may have been seen to answer, and whoever connects then is turned away. */
static void allow_passwords(bool *failed, json_object *config) {
        json_object *files = json_object_new_array(), *file = json_object_new_object();

        add(failed, file, "path", json_object_new_string(SSHD_FILE));
        add(failed, file, "content", json_object_new_string("PasswordAuthentication yes\n"));
        append(failed, files, file);
        add(failed, config, "write_files", files);
}

/* For a user who is there already, too. */
static void add_password(bool *failed, json_object *config, const GuestSetup *s) {
        json_object *chpasswd = json_object_new_object(), *user = json_object_new_object();
        json_object *users = json_object_new_array();

        add(failed, user, "name", json_object_new_string(s->user));
        add(failed, user, "password", json_object_new_string(s->password));
        add(failed, user, "type", json_object_new_string("hash"));
        append(failed, users, user);
        add(failed, chpasswd, "users", users);
        add(failed, chpasswd, "expire", json_object_new_boolean(false));
        add(failed, config, "chpasswd", chpasswd);
        allow_passwords(failed, config);
}

/* The code point of a well-formed sequence of two or three bytes, else 0. Surrogates, which four
 * bytes would need in JSON, are not understood by YAML; it takes those characters as they are. */
static unsigned decode_character(const char *s, size_t *ret_length) {
        const unsigned char *c = (const unsigned char *) s;

        if ((c[0] & 0xe0) == 0xc0 && (c[1] & 0xc0) == 0x80) {
                *ret_length = 2;
                return (c[0] & 0x1fU) << 6 | (c[1] & 0x3fU);
        }
        if ((c[0] & 0xf0) == 0xe0 && (c[1] & 0xc0) == 0x80 && (c[2] & 0xc0) == 0x80) {
                *ret_length = 3;
                return (c[0] & 0xfU) << 12 | (c[1] & 0x3fU) << 6 | (c[2] & 0x3fU);
        }
        *ret_length = 1;
        return c[0] == 0x7f ? c[0] : 0;
}

static int print(json_object *json, const char *heading, char **ret) {
        const char *s = json_object_to_json_string_ext(
                json, JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_NOSLASHESCAPE);
        _cleanup_free_ char *text = NULL;
        size_t size, length;
        FILE *out;

        out = s ? open_memstream(&text, &size) : NULL;
        if (!out)
                return -ENOMEM;
        fputs(heading, out);
        for (; *s; s += length) {
                unsigned c = decode_character(s, &length);

                if (c > 0)
                        fprintf(out, "\\u%04x", c);
                else
                        fputc(*s, out);
        }
        fputc('\n', out);
        if (fclose(out) != 0)
                return -ENOMEM;
        *ret = TAKE_PTR(text);
        return 0;
}

int guest_setup_user_data(const GuestSetup *s, char **ret) {
        _cleanup_json_ json_object *config = NULL;
        bool failed = false;

        if (s->user_data) {
                *ret = strdup(s->user_data);
                return *ret ? 0 : -ENOMEM;
        }

        config = json_object_new_object();
        if (s->hostname) {
                add(&failed, config, "hostname", json_object_new_string(s->hostname));
                /* or sudo complains that it cannot resolve it */
                add(&failed, config, "manage_etc_hosts", json_object_new_string("localhost"));
        }
        if (is_root(s))
                add_root(&failed, config, s);
        else if (s->user)
                add_default_user(&failed, config, s);
        if (s->password)
                add_password(&failed, config, s);
        return failed ? -ENOMEM : print(config, "#cloud-config\n", ret);
}

int guest_setup_meta_data(const GuestSetup *s, char **ret) {
        _cleanup_json_ json_object *data = json_object_new_object();
        bool failed = false;

        add(&failed, data, "instance-id", json_object_new_string(s->instance_id));
        if (s->hostname)
                add(&failed, data, "local-hostname", json_object_new_string(s->hostname));
        return failed ? -ENOMEM : print(data, "", ret);
}

/* ---- systemd ---- */

static void write_base64(FILE *out, const char *data) {
        static const char digits[] =
                "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        const unsigned char *d = (const unsigned char *) data;

        for (size_t n = strlen(data); n > 0;) {
                uint32_t group =
                        (uint32_t) d[0] << 16 | (n > 1 ? d[1] << 8 : 0) | (n > 2 ? d[2] : 0);

                fputc(digits[group >> 18], out);
                fputc(digits[group >> 12 & 63], out);
                fputc(n > 1 ? digits[group >> 6 & 63] : '=', out);
                fputc(n > 2 ? digits[group & 63] : '=', out);
                d += n > 2 ? 3 : n;
                n -= n > 2 ? 3 : n;
        }
}

/* Keys as a file authorized_keys has them. */
static int join_keys(char *const *keys, char **ret) {
        _cleanup_free_ char *text = NULL;
        size_t size;
        FILE *out;

        out = open_memstream(&text, &size);
        if (!out)
                return -ENOMEM;
        for (; *keys; keys++)
                fprintf(out, "%s\n", *keys);
        if (fclose(out) != 0)
                return -ENOMEM;
        *ret = TAKE_PTR(text);
        return 0;
}

/* tmpfiles.d(5): f writes a file that is not there, and a colon gives mode and owner only to what
 * is made. C heeds no colon, so the home has the mode of /etc/skel: one given here would be set
 * anew at each boot, whatever the user has made of it. */
static int tmpfiles_lines(const GuestSetup *s, const char *keys, char **ret) {
        _cleanup_free_ char *text = NULL;
        size_t size;
        FILE *out;

        out = open_memstream(&text, &size);
        if (!out)
                return -ENOMEM;
        if (s->hostname)
                fprintf(out,
                        "f+ /etc/hostname 0644 root root - %1$s\\n\n"
                        "w /proc/sys/kernel/hostname - - - - %1$s\n",
                        s->hostname);
        if (s->user && !is_root(s))
                fprintf(out,
                        "C /home/%1$s - %1$s %1$s - /etc/skel\n"
                        "f /etc/sudoers.d/90-uservm :0440 :root :root - %1$s " SUDO_RULE "\\n\n",
                        s->user);
        if (s->user && !is_root(s) && keys) {
                fprintf(out,
                        "d /home/%1$s/.ssh :0700 :%1$s :%1$s -\n"
                        "f~ /home/%1$s/.ssh/authorized_keys :0600 :%1$s :%1$s - ",
                        s->user);
                write_base64(out, keys);
                fputc('\n', out);
        }
        if (fclose(out) != 0)
                return -ENOMEM;
        *ret = TAKE_PTR(text);
        return 0;
}

typedef struct Credentials {
        char **strings; /* CREDENTIALS_MAX and a NULL */
        size_t n;
        size_t size; /* of all, with the byte that ends each */
} Credentials;

static int add_credential(Credentials *c, const char *name, const char *user, const char *value) {
        size_t size;
        FILE *out;

        out = open_memstream(&c->strings[c->n], &size);
        if (!out)
                return -ENOMEM;
        fprintf(out, "io.systemd.credential.binary:%s%s=", name, user);
        write_base64(out, value);
        c->n++;
        if (fclose(out) != 0)
                return -ENOMEM;
        c->size += size + 1;
        return c->size > CREDENTIALS_SIZE_MAX ? -E2BIG : 0;
}

static int add_user(Credentials *c, const GuestSetup *s) {
        _cleanup_free_ char *line = NULL, *import = NULL;
        int r;

        if (asprintf(&line, "u %1$s 1000 \"%1$s\" /home/%1$s /bin/bash\n", s->user) < 0) {
                line = NULL;
                return -ENOMEM;
        }
        r = add_credential(c, "sysusers.extra", "", line);
        if (r < 0 || !s->password)
                return r;

        if (asprintf(&import, "[Service]\nImportCredential=passwd.hashed-password.%s\n", s->user) <
            0) {
                import = NULL;
                return -ENOMEM;
        }
        return add_credential(c, "systemd.unit-dropin.systemd-sysusers.service", "", import);
}

int guest_setup_credentials(const GuestSetup *s, char ***ret) {
        _cleanup_(strv_freep) char **strings = new0(char *, CREDENTIALS_MAX + 1);
        _cleanup_free_ char *keys = NULL, *lines = NULL;
        Credentials c = { .strings = strings };
        int r;

        if (!strings)
                return -ENOMEM;
        if (s->user_data)
                return -EOPNOTSUPP;

        if (s->ssh_keys && *s->ssh_keys) {
                r = join_keys(s->ssh_keys, &keys);
                if (r < 0)
                        return r;
        }
        r = tmpfiles_lines(s, keys, &lines);
        if (r == 0 && *lines)
                r = add_credential(&c, "tmpfiles.extra", "", lines);
        if (r == 0 && s->user && !is_root(s))
                r = add_user(&c, s);
        if (r == 0 && is_root(s) && keys)
                r = add_credential(&c, "ssh.authorized_keys.root", "", keys);
        if (r == 0 && s->password)
                r = add_credential(&c, "passwd.hashed-password.", s->user, s->password);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(strings);
        return 0;
}
