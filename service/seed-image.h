/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* A seed for cloud-init: a small ISO 9660 image with the volume label "cidata", in which its
 * NoCloud data source finds the files user-data and meta-data
 * (https://docs.cloud-init.io, "NoCloud"). Blocks: call it on a worker. */

/* Writes one to an empty file. There is no network-config: without it cloud-init has the guest use
 * DHCP. Returns 0 or a negative errno (-ENOSPC, ...). */
int seed_image_write(int fd, const char *user_data, const char *meta_data);
