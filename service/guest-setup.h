/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* What a new guest is told about itself at its first boot: host name, a user who may log in, and
 * how. In the two languages that guests understand: cloud-init's (user-data and meta-data, for a
 * seed, see seed-image.h) and systemd's (credentials, for guests without cloud-init). Pure: no I/O
 * but the random salt of a password. */

#include "util.h"

/* {} is a set-up that sets nothing. All strings are owned. */
typedef struct GuestSetup {
        char *instance_id; /* the VM's UUID; another one makes cloud-init set up anew */
        char *hostname;    /* of one or more labels; or NULL: the image's own */
        char *user;        /* login name to make, "root" too; or NULL: the image's own users */
        char **ssh_keys;   /* lines of authorized_keys(5) for the user; NULL or empty: none */
        char *password;    /* of the user, hashed (crypt(5)), or NULL */
        char *user_data;   /* the caller's own, used as it is instead of ours, or NULL */
} GuestSetup;

/* What is in `user_data` at most, in bytes. */
#define GUEST_SETUP_USER_DATA_MAX (1U << 20)

/* Hashes a password as every guest understands it, sha512crypt, with a random salt. In a few
 * milliseconds. No copy of the password is left in memory.
 * Returns 0; -EINVAL with a sentence for the user in *ret_reason (to free), which begins with
 * "password: ": it is empty, longer than 256 bytes, or has a character that cannot be typed; or
 * another negative errno. */
int guest_setup_hash_password(const char *password, char **ret, char **ret_reason);

/* Checks what the caller gave, each value and whether they go together: a host name (RFC 1123), a
 * login name that useradd(8) and systemd take everywhere, SSH public keys, a user for keys and
 * password and keys or a password for the user, nothing of these beside user-data. The password is
 * checked before it is hashed, above.
 * Returns 0; -EINVAL with a sentence for the user in *ret_reason (to free), which begins with the
 * name of the setting (hostname, user, ssh-keys, user-data); -ENOMEM. */
int guest_setup_check(const GuestSetup *s, char **ret_reason);

/* The two files of a NoCloud seed: https://docs.cloud-init.io, "NoCloud". user-data is the caller's
 * own byte for byte, or a cloud-config; the user may become root without a password. meta-data has
 * instance ID and host name in any case. The set-up must have passed guest_setup_check() and have
 * an instance ID. Return 0 or -ENOMEM. */
int guest_setup_user_data(const GuestSetup *s, char **ret);
int guest_setup_meta_data(const GuestSetup *s, char **ret);

/* The same for systemd in the guest (252 or later), as strings of SMBIOS type 11,
 * "io.systemd.credential.binary:NAME=BASE64", see systemd.system-credentials(7). Some are secret.
 * The guest reads them at each boot, but only the host name is set each time. systemd before 256
 * sets no password but root's, and none gives one to a user who is in the image already.
 * Returns 0; -EOPNOTSUPP with user-data, which only cloud-init understands; -E2BIG when they are
 * more than SMBIOS tables can hold (some 200 Ed25519 keys); -ENOMEM. */
int guest_setup_credentials(const GuestSetup *s, char ***ret);

/* Frees what is in it, and empties it. */
void guest_setup_done(GuestSetup *s);

#define _cleanup_guest_setup_ _cleanup_(guest_setup_done)
