/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* A seed for cloud-init: a small ISO 9660 image with the volume label "cidata", in which its
 * NoCloud data source finds the files user-data and meta-data
 * (https://docs.cloud-init.io, "NoCloud"). Blocks: call it on a worker. */

/* Writes one at path, which must not exist, readable and writable by the user alone. It is the same
 * to the byte for the same contents. There is no network-config: without it cloud-init has the
 * guest use DHCP.
 * Returns 0 or a negative errno (-EEXIST, -ENOENT, -EACCES, -ENOSPC, ...); no file of ours is left
 * then. */
int seed_image_write(const char *path, const char *user_data, const char *meta_data);
