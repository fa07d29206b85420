/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What callers give is taken or refused; what guests are told is read back as they read it: JSON by
 * json-c, credentials decoded. */

#include <crypt.h>
#include <errno.h>
#include <json-c/json.h>
#include <stdio.h>

#include "guest-setup.h"
#include "test.h"

#define UUID "38160745-2f98-4ac2-9cc5-829bae5de191"
#define ED25519 "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAINKjTzLGiGRcO3gdfqEd7BSv1DtU8qbNUsyTxWbCxmrF"

/* More than a value has in real life. */
#define NASTY                                                                                      \
        "\"'`$(reboot) : - # }} {{ ]] [[ | > & * ! % @ \\ \\n \\\" , ? ~ null <b> \xc3\xa4 "       \
        "\xe2\x82\xac \xf0\x9f\x98\x80 \xc2\x85 \xe2\x80\xa8 \xef\xbb\xbf \x7f \x01 "              \
        "\n#cloud-config"                                                                          \
        "\n  - x: y\n\r\ttab"

static inline void json_free(json_object *json) {
        json_object_put(json);
}
DEFINE_CLEANUP(json_object *, json_free);
#define _cleanup_json_ _cleanup_(json_freep)

/* Room for a long text of a test, made by repeat(). */
static char *repeat(const char *text, size_t n) {
        char *s = malloc(n * strlen(text) + 1), *end = s;

        *end = '\0';
        while (n-- > 0)
                end = stpcpy(end, text);
        return s;
}

/* ---- passwords ---- */

TEST(hashes_a_password_as_crypt_verifies_it) {
        static const char *const passwords[] = { "x", "correct horse", "\xc3\xa4\xe2\x82\xac",
                                                 "$6$salt$hash", " : \\ ' \" " };

        for (size_t i = 0; i < ELEMENTSOF(passwords); i++) {
                _cleanup_free_ char *hash = NULL, *other = NULL, *reason = NULL, *longer = NULL;
                struct crypt_data data = {};

                CHECK_INT(guest_setup_hash_password(passwords[i], &hash, &reason), 0);
                CHECK(!reason);
                CHECK(startswith(hash, "$6$") && !strchr(hash, ':'));
                CHECK_STR(crypt_r(passwords[i], hash, &data), hash);

                CHECK(asprintf(&longer, "%sx", passwords[i]) > 0);
                CHECK(!streq(crypt_r(longer, hash, &data), hash));
                CHECK_INT(guest_setup_hash_password(passwords[i], &other, &reason), 0);
                CHECK(!streq(hash, other)); /* another salt */
        }
}

TEST(refuses_passwords_that_no_login_takes) {
        _cleanup_free_ char *longest = repeat("p", 256), *too_long = repeat("p", 257);
        const char *const passwords[][2] = {
                { "", "is empty" },
                { "two\nlines", "control character" },
                { "\x7f", "control character" },
                { "bell\a", "control character" },
                { too_long, "257 bytes" },
        };
        _cleanup_free_ char *hash = NULL, *no_reason = NULL;

        CHECK_INT(guest_setup_hash_password(longest, &hash, &no_reason), 0);
        for (size_t i = 0; i < ELEMENTSOF(passwords); i++) {
                _cleanup_free_ char *reason = NULL;
                char *unset = NULL;

                CHECK_INT(guest_setup_hash_password(passwords[i][0], &unset, &reason), -EINVAL);
                CHECK(!unset);
                CHECK(startswith(reason, "password: "));
                CHECK(strstr(reason, passwords[i][1]));
        }
}

/* ---- checks ---- */

/* Whether a set-up is refused with a reason that begins and goes on like this; NULL: it is taken.
 */
static bool check_says(const GuestSetup *s, const char *key, const char *says) {
        _cleanup_free_ char *reason = NULL;
        int r = guest_setup_check(s, &reason);

        if (says ? r == -EINVAL && reason && startswith(reason, key) && strstr(reason, says)
                 : r == 0 && !reason)
                return true;
        printf("# returned %d: %s\n", r, reason ?: "(no reason)");
        return false;
}

TEST(checks_host_names) {
        _cleanup_free_ char *label = repeat("a", 63), *too_long = repeat("a", 64);
        _cleanup_free_ char *longest = repeat(".abcdefg", 8), *all_too_long = repeat(".abcdefg", 9);
        const struct {
                const char *name, *says;
        } cases[] = {
                { "web", NULL },
                { "Web-1.Example.org", NULL },
                { "1", NULL },
                { label, NULL },
                { longest + 1, NULL },
                { too_long, "more than 63 bytes" },
                { all_too_long + 1, "Linux takes at most 64" },
                { "", "is empty" },
                { ".", "a dot too many" },
                { "web.", "a dot too many" },
                { ".web", "a dot too many" },
                { "a..b", "a dot too many" },
                { "-web", "begins or ends with '-'" },
                { "web-", "begins or ends with '-'" },
                { "a.-b", "begins or ends with '-'" },
                { "my_web", "only" },
                { "web server", "only" },
                { "web\n", "only" },
                { "web%", "only" },
                { "\xc3\xa4", "only" },
        };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++)
                CHECK(check_says(&(GuestSetup){ .hostname = (char *) cases[i].name },
                                 "hostname: ", cases[i].says));
}

TEST(checks_login_names) {
        _cleanup_free_ char *longest = repeat("u", 31), *too_long = repeat("u", 32);
        const struct {
                const char *name, *says;
        } cases[] = {
                { "u", NULL },
                { "root", NULL },
                { "_web-1", NULL },
                { longest, NULL },
                { too_long, "32 bytes" },
                { "", "0 bytes" },
                { "Alice", "lower case" },
                { "1st", "lower case" },
                { "-rf", "lower case" },
                { "a.b", "lower case" },
                { "a b", "lower case" },
                { "a:b", "lower case" },
                { "a\nb", "lower case" },
                { "machine$", "lower case" },
                { "\xc3\xa4", "lower case" },
        };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                GuestSetup s = { .user = (char *) cases[i].name, .password = (char *) "$6$s$h" };

                CHECK(check_says(&s, "user: ", cases[i].says));
        }
}

static bool key_says(const char *key, const char *says) {
        char *keys[] = { (char *) ED25519, (char *) key, NULL };

        return check_says(&(GuestSetup){ .user = (char *) "u", .ssh_keys = keys },
                          "ssh-keys: number 2 ", says);
}

TEST(takes_ssh_public_keys) {
        static const char *const keys[] = {
                ED25519,
                ED25519 " user@host",
                "  " ED25519 "\twith a comment: # and \"quotes\" and \xc3\xa4 ",
                /* clang-format off */
                "ssh-rsa "
                "AAAAB3NzaC1yc2EAAAADAQABAAABAQDRnFKBFgVpp3H4H8OCN3eJAjgGBx/bnC40qQzM948eJbnI"
                "kQaBNfwsxO6a23IkFPUMuBhaEXXOWMSMOb1IkXPyt9YacscYupC/HGSxhYZ3sKXatSvRcJR9C6jc"
                "8M7q4sEZa83vmWMamqLB0K/57LbnHsuqbefWFcfhttimTEsqSFM3fQFTIKefXiziTWxyM1+XvOX1"
                "sRj/HGnWQObtK526OG9yg7RUXLqG4GjmMfMCqsQBqTYZy6/7YkNKEhAciGZ5ul5m/kSwPsBOwB7T"
                "Ws8YPgFV6bGWwGaC7QmE3xcdeEjkw9REloL+GBRDkBWvIAkZpjSHoh98EXgntxWa0BCl test",
                "ecdsa-sha2-nistp256 "
                "AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBMivso1lPoxX30fHvrL98Wqn"
                "DBKXdsuteZdgAMstV4sVsyrmBwbiRF5U+qkK7kH8SuWvVwJKv2wYLEPwNL+n7kI=",
                "ecdsa-sha2-nistp384 "
                "AAAAE2VjZHNhLXNoYTItbmlzdHAzODQAAAAIbmlzdHAzODQAAABhBGi2kDwUNWsXfFawcRCiAHEn"
                "f2poaGaqB6LyPkMxpFXyGX59hYixUDrDizeisYV/rE6qxrh0WwkdGw5X83YrPKSwUH6FI8PSd28i"
                "pvQpHaoDi9C4/jg8WFga2Ccq4ScX/A== test",
                "ecdsa-sha2-nistp521 "
                "AAAAE2VjZHNhLXNoYTItbmlzdHA1MjEAAAAIbmlzdHA1MjEAAACFBACjTtOgO90UQnNXTTGwbIf9"
                "0H7X5Srqwid8QPTajXl+T3h2vQ4gpeyTvQoR5SW50g1QVpVcpVsJ62MlfoNBOCLIvQEhE6TxrLah"
                "qQs/SyXPBcyDvvFGJHiI6hAK/Xm8NFKQ8CtaFtnjdrpmEGgLmatZTw8avOwbx26VjCnEi5IVWG0y"
                "4Q== test",
                "sk-ssh-ed25519@openssh.com "
                "AAAAGnNrLXNzaC1lZDI1NTE5QG9wZW5zc2guY29tAAAAIGtra2tra2tra2tra2tra2tra2tra2tr"
                "a2tra2tra2trAAAABHNzaDo= test",
                "sk-ecdsa-sha2-nistp256@openssh.com "
                "AAAAInNrLWVjZHNhLXNoYTItbmlzdHAyNTZAb3BlbnNzaC5jb20AAAAIbmlzdHAyNTYAAABBBGtr"
                "a2tra2tra2tra2tra2tra2tra2tra2tra2tra2tra2tra2tra2tra2tra2tra2tra2tra2tra2tr"
                "a2tra2sAAAAEc3NoOg== test",
                /* clang-format on */
                "restrict,pty " ED25519,
                "command=\"echo \\\"ssh-rsa is # not a key\\\"\",no-pty  " ED25519 " test",
                "from=\"*.example.org,!bad host\" " ED25519,
        };

        for (size_t i = 0; i < ELEMENTSOF(keys); i++)
                CHECK(key_says(keys[i], NULL));
}

TEST(refuses_what_is_not_an_ssh_public_key) {
        _cleanup_free_ char *padding = repeat(" ", 16384), *too_long = NULL;
        static const struct {
                const char *key, *says;
        } cases[] = {
                { "", "empty line or a comment" },
                { " \t", "empty line or a comment" },
                { "\n", "empty line or a comment" },
                { "# mine", "empty line or a comment" },
                { "~/.ssh/id_ed25519.pub", "is not an SSH public key" },
                { "ssh-ed25519", "is damaged" },
                { "ssh-ed25519 ", "is damaged" },
                { "ssh-ed25519 user@host", "is damaged" },
                { "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAINKjTzLGiGRcO3gdfqEd7BSv1DtU8qbNUsyTxWbC",
                  "is damaged" }, /* cut off */
                { ED25519 "AAAA", "is damaged" },
                { ED25519 "=", "is damaged" },
                { "ssh-ed25519 "
                  "AAAAC3NzaC1lZDI1NTE5AAAAINKjTzLGiGRcO3gd_qEd7BSv1DtU8qbNUsyTxWbCxmrF",
                  "is damaged" },
                { "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5", "is damaged" }, /* type alone */
                { "ssh-ed25519 AAAA", "is damaged" },
                { "ssh-ed25519 ====", "is damaged" },
                { "ssh-ed25519 /////w==", "is damaged" }, /* a length of 4 GiB */
                { "ssh-rsa AAAAC3NzaC1lZDI1NTE5AAAAINKjTzLGiGRcO3gdfqEd7BSv1DtU8qbNUsyTxWbCxmrF",
                  "is damaged" }, /* says another type inside */
                { "ssh-ed25519AAAAC3NzaC1lZDI1NTE5AAAAINKjTzLGiGRcO3gdfqEd7BSv1DtU8qbNUsyTxWbCxmrF",
                  "is not an SSH public key" },
                { "AAAAC3NzaC1lZDI1NTE5AAAAINKjTzLGiGRcO3gdfqEd7BSv1DtU8qbNUsyTxWbCxmrF",
                  "is not an SSH public key" },
                { "command=\"unclosed " ED25519, "is not an SSH public key" },
                { "SSH-ED25519 AAAA", "is not an SSH public key" },
                { ED25519 "\n" ED25519, "has a line break" },
                { ED25519 " test\r", "has a line break" },
                { ED25519 " test\x7f", "has a line break or another control character" },
                { "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEAAAAA\n",
                  "private key" },
                { "-----BEGIN RSA PRIVATE KEY-----", "private key" },
                { "-----BEGIN ENCRYPTED PRIVATE KEY-----", "private key" },
                { "PuTTY-User-Key-File-3: ssh-ed25519\nEncryption: none\n", "private key" },
                { "---- BEGIN SSH2 PUBLIC KEY ----\nAAAA\n---- END SSH2 PUBLIC KEY ----",
                  "not in OpenSSH's format" },
                { "-----BEGIN PUBLIC KEY-----\nMFkw\n", "not in OpenSSH's format" },
                { "ssh-ed25519-cert-v01@openssh.com "
                  "AAAAIHNzaC1lZDI1NTE5LWNlcnQtdjAxQG9wZW5zc2guY29t test",
                  "is a certificate" },
                { "ssh-dss AAAAB3NzaC1kc3M= test", "is a DSA key" },
        };

        CHECK(asprintf(&too_long, "%s%s", ED25519, padding) > 0);
        CHECK(key_says(too_long, "is longer than 16384 bytes"));
        for (size_t i = 0; i < ELEMENTSOF(cases); i++)
                CHECK(key_says(cases[i].key, cases[i].says));
}

TEST(checks_what_goes_together) {
        _cleanup_free_ char *largest = repeat("#", GUEST_SETUP_USER_DATA_MAX);
        _cleanup_free_ char *too_large = repeat("#", GUEST_SETUP_USER_DATA_MAX + 1);
        char *keys[] = { (char *) ED25519, NULL }, *no_keys[] = { NULL };
        char *u = (char *) "u", *h = (char *) "h", *p = (char *) "$6$s$h", *empty = (char *) "";

        CHECK(check_says(&(GuestSetup){}, "", NULL));
        CHECK(check_says(&(GuestSetup){ .hostname = h, .ssh_keys = no_keys }, "", NULL));
        CHECK(check_says(&(GuestSetup){ .user = u, .ssh_keys = keys, .password = p }, "", NULL));
        CHECK(check_says(&(GuestSetup){ .hostname = h, .user_data = largest }, "", NULL));

        CHECK(check_says(&(GuestSetup){ .user = u }, "user: ", "nobody could log in as u"));
        CHECK(check_says(&(GuestSetup){ .user = u, .ssh_keys = no_keys },
                         "user: ", "nobody could log in as u"));
        CHECK(check_says(&(GuestSetup){ .ssh_keys = keys }, "user: ", "whose the SSH key is"));
        CHECK(check_says(&(GuestSetup){ .password = p }, "user: ", "whose the password is"));
        CHECK(check_says(&(GuestSetup){ .user_data = empty }, "user-data: ", "is empty"));
        CHECK(check_says(&(GuestSetup){ .user_data = too_large },
                         "user-data: ", "at most 1048576"));
        CHECK(check_says(&(GuestSetup){ .user_data = h, .user = u, .ssh_keys = keys },
                         "user-data: ", "takes the place"));
        CHECK(check_says(&(GuestSetup){ .user_data = h, .password = p },
                         "user-data: ", "takes the place"));
        CHECK(check_says(&(GuestSetup){ .user_data = h, .ssh_keys = keys },
                         "user-data: ", "takes the place"));
}

/* ---- cloud-init ---- */

/* The value at a path of keys and array indices, "chpasswd/users/0/name", or NULL. */
static json_object *at(json_object *json, const char *path) {
        json_object *value = NULL;
        _cleanup_free_ char *pointer = NULL;

        if (asprintf(&pointer, "/%s", path) < 0 || json_pointer_get(json, pointer, &value) < 0)
                return NULL;
        return value;
}

static const char *string_at(json_object *json, const char *path) {
        json_object *value = at(json, path);

        return json_object_is_type(value, json_type_string) ? json_object_get_string(value) : NULL;
}

static json_object *parse_cloud_config(const char *text) {
        char *json = text ? startswith(text, "#cloud-config\n") : NULL;

        return json ? json_tokener_parse(json) : NULL;
}

/* Whether the value is an array of just these strings. */
static bool is_list(json_object *json, char *const *strings) {
        size_t n = 0;

        for (; strings[n]; n++)
                if (!streq_ptr(json_object_get_string(json_object_array_get_idx(json, n)),
                               strings[n]))
                        return false;
        return json_object_is_type(json, json_type_array) && json_object_array_length(json) == n;
}

TEST(writes_a_cloud_config_for_a_user) {
        char *keys[] = { (char *) ED25519 " a", (char *) ED25519 " b", NULL };
        GuestSetup s = {
                .hostname = (char *) "web.example.org",
                .user = (char *) "alice",
                .ssh_keys = keys,
                .password = (char *) "$6$salt$hash",
        };
        _cleanup_json_ json_object *config = NULL;
        _cleanup_free_ char *text = NULL;

        CHECK_INT(guest_setup_user_data(&s, &text), 0);
        config = parse_cloud_config(text);
        CHECK(config);
        CHECK_INT(json_object_object_length(config), 6);
        CHECK_STR(string_at(config, "hostname"), "web.example.org");
        CHECK_STR(string_at(config, "manage_etc_hosts"), "localhost");
        CHECK_STR(string_at(config, "write_files/0/path"), "/etc/ssh/sshd_config.d/40-uservm.conf");
        CHECK_STR(string_at(config, "write_files/0/content"), "PasswordAuthentication yes\n");
        CHECK(!at(config, "ssh_pwauth")); /* it would start sshd anew */

        CHECK_INT(json_object_object_length(at(config, "user")), 3);
        CHECK_STR(string_at(config, "user/name"), "alice");
        CHECK_STR(string_at(config, "user/sudo"), "ALL=(ALL) NOPASSWD:ALL");
        CHECK(is_list(at(config, "user/ssh_authorized_keys"), keys));

        CHECK_STR(string_at(config, "runcmd/0/3"), "alice");
        CHECK_STR(string_at(config, "chpasswd/users/0/name"), "alice");
        CHECK_STR(string_at(config, "chpasswd/users/0/password"), "$6$salt$hash");
        CHECK_STR(string_at(config, "chpasswd/users/0/type"), "hash");
        CHECK(!at(config, "chpasswd/users/1"));
        CHECK(json_object_is_type(at(config, "chpasswd/expire"), json_type_boolean));
        CHECK(!json_object_get_boolean(at(config, "chpasswd/expire")));
}

TEST(writes_a_cloud_config_for_root) {
        char *keys[] = { (char *) ED25519, NULL };
        GuestSetup s = { .user = (char *) "root", .ssh_keys = keys };
        _cleanup_json_ json_object *config = NULL;
        _cleanup_free_ char *text = NULL;

        CHECK_INT(guest_setup_user_data(&s, &text), 0);
        config = parse_cloud_config(text);
        CHECK_INT(json_object_object_length(config), 2);
        CHECK(json_object_is_type(at(config, "disable_root"), json_type_boolean));
        CHECK(!json_object_get_boolean(at(config, "disable_root")));
        CHECK(is_list(at(config, "ssh_authorized_keys"), keys));
}

TEST(leaves_out_of_a_cloud_config_what_is_not_given) {
        static const struct {
                GuestSetup s;
                const char *json;
        } cases[] = {
                { {}, "{ }" },
                { { .hostname = (char *) "h" },
                  "{ \"hostname\": \"h\", \"manage_etc_hosts\": \"localhost\" }" },
                { { .user = (char *) "root", .password = (char *) "$6$s$h" },
                  "{ \"disable_root\": false, \"ssh_authorized_keys\": [ ], "
                  "\"chpasswd\": { \"users\": [ { \"name\": \"root\", \"password\": \"$6$s$h\", "
                  "\"type\": \"hash\" } ], \"expire\": false }, \"write_files\": [ { \"path\": "
                  "\"/etc/ssh/sshd_config.d/40-uservm.conf\", \"content\": "
                  "\"PasswordAuthentication yes\\n\" } ] }" },
        };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                _cleanup_json_ json_object *config = NULL;
                _cleanup_free_ char *text = NULL;

                CHECK_INT(guest_setup_user_data(&cases[i].s, &text), 0);
                config = parse_cloud_config(text);
                CHECK_STR(json_object_to_json_string_ext(
                                  config, JSON_C_TO_STRING_SPACED | JSON_C_TO_STRING_NOSLASHESCAPE),
                          cases[i].json);
        }
}

TEST(keeps_every_value_in_its_field) {
        _cleanup_free_ char *very_long = repeat("\"}]\n# \\", 100000);
        char *const values[] = { (char *) NASTY, very_long,        (char *) "",
                                 (char *) "\\",  (char *) "{{x}}", (char *) "\xff\xc3\xe2\x82" };

        for (size_t i = 0; i < ELEMENTSOF(values); i++) {
                char *keys[] = { values[i], values[i], NULL };
                GuestSetup s = {
                        .instance_id = values[i],
                        .hostname = values[i],
                        .user = values[i],
                        .ssh_keys = keys,
                        .password = values[i],
                };
                _cleanup_json_ json_object *config = NULL, *data = NULL;
                _cleanup_free_ char *user_data = NULL, *meta_data = NULL;

                CHECK_INT(guest_setup_user_data(&s, &user_data), 0);
                config = parse_cloud_config(user_data);
                CHECK(config);
                CHECK_INT(json_object_object_length(config), 6);
                CHECK_STR(string_at(config, "hostname"), values[i]);
                CHECK_STR(string_at(config, "user/name"), values[i]);
                CHECK_STR(string_at(config, "chpasswd/users/0/password"), values[i]);
                CHECK(is_list(at(config, "user/ssh_authorized_keys"), keys));
                CHECK_STR(string_at(config, "runcmd/0/3"), values[i]);

                CHECK_INT(guest_setup_meta_data(&s, &meta_data), 0);
                data = json_tokener_parse(meta_data);
                CHECK_INT(json_object_object_length(data), 2);
                CHECK_STR(string_at(data, "instance-id"), values[i]);
                CHECK_STR(string_at(data, "local-hostname"), values[i]);
        }
}

/* YAML 1.1 breaks lines at U+0085, U+2028 and U+2029, and has no DEL, no byte order mark and no
 * surrogates. */
TEST(escapes_what_json_has_and_yaml_has_not) {
        char *keys[] = { (char *) NASTY, NULL };
        GuestSetup s = { .user = (char *) "u", .ssh_keys = keys };
        _cleanup_free_ char *text = NULL;

        CHECK_INT(guest_setup_user_data(&s, &text), 0);
        for (const char *c = text; *c; c++) {
                CHECK((unsigned char) *c >= ' ' || *c == '\n');
                CHECK(*c != 0x7f);
        }
        CHECK(strstr(text,
                     "\\u00e4 \\u20ac \xf0\x9f\x98\x80 \\u0085 \\u2028 \\ufeff \\u007f \\u0001"));
}

TEST(uses_the_callers_user_data_as_it_is) {
        GuestSetup s = {
                .instance_id = (char *) UUID,
                .hostname = (char *) "web",
                .user_data = (char *) NASTY,
        };
        _cleanup_json_ json_object *data = NULL;
        _cleanup_free_ char *user_data = NULL, *meta_data = NULL;

        CHECK_INT(guest_setup_user_data(&s, &user_data), 0);
        CHECK_STR(user_data, NASTY);
        CHECK_INT(guest_setup_meta_data(&s, &meta_data), 0);
        data = json_tokener_parse(meta_data);
        CHECK_STR(json_object_to_json_string(data),
                  "{ \"instance-id\": \"" UUID "\", \"local-hostname\": \"web\" }");
}

/* ---- credentials ---- */

/* Decodes Base64 as RFC 4648 has it, in the simplest way. Returns NULL if it is not. */
static char *decode(const char *base64) {
        static const char digits[] =
                "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        char *text = calloc(1, strlen(base64) + 1), *out = text;
        unsigned bits = 0, n_bits = 0;

        for (const char *s = base64; *s; s++) {
                const char *digit = strchr(digits, *s);

                if (*s == '=' && strspn(s, "=") == strlen(s) && strlen(s) <= 2)
                        break;
                if (!digit) {
                        free(text);
                        return NULL;
                }
                bits = bits << 6 | (unsigned) (digit - digits);
                n_bits += 6;
                if (n_bits >= 8)
                        *out++ = (char) (bits >> (n_bits -= 8) & 0xff);
        }
        if (strlen(base64) % 4 != 0) {
                free(text);
                return NULL;
        }
        return text;
}

/* The value of a credential among SMBIOS strings, decoded, or NULL. */
static char *credential(char **strings, const char *name) {
        _cleanup_free_ char *prefix = NULL;

        if (asprintf(&prefix, "io.systemd.credential.binary:%s=", name) < 0)
                return NULL;
        for (; *strings; strings++)
                if (startswith(*strings, prefix))
                        return decode(*strings + strlen(prefix));
        return NULL;
}

static size_t count(char *const *strings) {
        size_t n = 0;

        while (strings[n])
                n++;
        return n;
}

TEST(makes_credentials_for_a_user) {
        char *keys[] = { (char *) ED25519 " a", (char *) ED25519 " b", NULL };
        GuestSetup s = {
                .hostname = (char *) "web",
                .user = (char *) "alice",
                .ssh_keys = keys,
                .password = (char *) "$6$salt$hash",
        };
        _cleanup_(strv_freep) char **strings = NULL;
        _cleanup_free_ char *sysusers = NULL, *tmpfiles = NULL, *password = NULL, *dropin = NULL,
                            *written = NULL;
        char *line;

        CHECK_INT(guest_setup_credentials(&s, &strings), 0);
        CHECK_INT(count(strings), 4);
        sysusers = credential(strings, "sysusers.extra");
        CHECK_STR(sysusers, "u alice 1000 \"alice\" /home/alice /bin/bash\n");
        password = credential(strings, "passwd.hashed-password.alice");
        CHECK_STR(password, "$6$salt$hash");
        dropin = credential(strings, "systemd.unit-dropin.systemd-sysusers.service");
        CHECK_STR(dropin, "[Service]\nImportCredential=passwd.hashed-password.alice\n");

        tmpfiles = credential(strings, "tmpfiles.extra");
        CHECK(tmpfiles);
        CHECK(strstr(tmpfiles, "f+ /etc/hostname 0644 root root - web\\n\n"));
        line = strstr(tmpfiles, "f~ /home/alice/.ssh/authorized_keys :0600 :alice :alice - ");
        CHECK(line);
        line = strrchr(line, ' ') + 1;
        line[strcspn(line, "\n")] = '\0';
        written = decode(line);
        CHECK_STR(written, ED25519 " a\n" ED25519 " b\n");
}

TEST(makes_credentials_for_root) {
        char *keys[] = { (char *) ED25519, NULL };
        GuestSetup s = { .user = (char *) "root", .ssh_keys = keys, .password = (char *) "$6$s$h" };
        _cleanup_(strv_freep) char **strings = NULL;
        _cleanup_free_ char *written = NULL, *password = NULL;

        CHECK_INT(guest_setup_credentials(&s, &strings), 0);
        CHECK_INT(count(strings), 2);
        written = credential(strings, "ssh.authorized_keys.root");
        CHECK_STR(written, ED25519 "\n");
        password = credential(strings, "passwd.hashed-password.root");
        CHECK_STR(password, "$6$s$h");
}

TEST(makes_no_more_credentials_than_needed) {
        char *no_keys[] = { NULL };
        GuestSetup s = { .hostname = (char *) "web", .ssh_keys = no_keys };
        _cleanup_(strv_freep) char **none = NULL, **one = NULL;
        _cleanup_free_ char *tmpfiles = NULL;

        CHECK_INT(guest_setup_credentials(&(GuestSetup){}, &none), 0);
        CHECK_INT(count(none), 0);
        CHECK_INT(guest_setup_credentials(&s, &one), 0);
        CHECK_INT(count(one), 1);
        tmpfiles = credential(one, "tmpfiles.extra");
        CHECK_STR(tmpfiles, "f+ /etc/hostname 0644 root root - web\\n\n"
                            "w /proc/sys/kernel/hostname - - - - web\n");
}

TEST(encodes_values_of_every_length) {
        for (size_t n = 1; n < 70; n++) {
                _cleanup_free_ char *password = repeat("\xff", n), *value = NULL;
                GuestSetup s = { .user = (char *) "root", .password = password };
                _cleanup_(strv_freep) char **strings = NULL;

                CHECK_INT(guest_setup_credentials(&s, &strings), 0);
                value = credential(strings, "passwd.hashed-password.root");
                CHECK_STR(value, password);
        }
}

TEST(refuses_credentials_that_smbios_cannot_hold) {
        GuestSetup own = { .hostname = (char *) "web", .user_data = (char *) "#!/bin/sh\n" };
        char *keys[1000] = {};
        GuestSetup s = { .user = (char *) "u", .ssh_keys = keys };
        char **strings = NULL;
        size_t n = 0, size = 0;
        int r = 0;

        CHECK_INT(guest_setup_credentials(&own, &strings), -EOPNOTSUPP);
        CHECK(!strings);

        while (n < ELEMENTSOF(keys) - 1 && r == 0) {
                keys[n++] = (char *) ED25519;
                r = guest_setup_credentials(&s, &strings);
                if (r == 0) {
                        size = 0;
                        for (char **string = strings; *string; string++)
                                size += strlen(*string) + 1;
                        strv_free(strings);
                }
        }
        CHECK_INT(r, -E2BIG);
        CHECK(size > 32000 && size <= 32768);
}

TEST(is_empty_when_done) {
        GuestSetup s = { .hostname = strdup("h"), .user_data = strdup("u") };

        s.ssh_keys = new0(char *, 2);
        s.ssh_keys[0] = strdup(ED25519);
        guest_setup_done(&s);
        CHECK(!s.hostname && !s.user_data && !s.ssh_keys);
        guest_setup_done(&s);
}

TEST_MAIN(hashes_a_password_as_crypt_verifies_it, refuses_passwords_that_no_login_takes,
          checks_host_names, checks_login_names, takes_ssh_public_keys,
          refuses_what_is_not_an_ssh_public_key, checks_what_goes_together,
          writes_a_cloud_config_for_a_user, writes_a_cloud_config_for_root,
          leaves_out_of_a_cloud_config_what_is_not_given, keeps_every_value_in_its_field,
          escapes_what_json_has_and_yaml_has_not, uses_the_callers_user_data_as_it_is,
          makes_credentials_for_a_user, makes_credentials_for_root,
          makes_no_more_credentials_than_needed, encodes_values_of_every_length,
          refuses_credentials_that_smbios_cannot_hold, is_empty_when_done)
