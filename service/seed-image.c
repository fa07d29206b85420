/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* libarchive writes the image, with the names of Rock Ridge and Joliet, because ISO 9660 itself
 * would have USER_DAT.;1 only. The label is in capitals in ISO 9660's descriptor and as it should
 * be in Joliet's, where blkid(8) takes it from; cloud-init knows both. "strict" keeps the files'
 * mode, so that a guest that leaves the image mounted shows them to root alone.
 *
 * On its way to the image the contents pass through a temporary file of libarchive's, in $TMPDIR or
 * /tmp, which is the user's alone and has no name by then. */

#include "seed-image.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>

#include "util.h"

#define OPTIONS "iso9660:volume-id=cidata,iso9660:rockridge=strict,iso9660:!pad"

DEFINE_CLEANUP(struct archive *, archive_write_free);
DEFINE_CLEANUP(struct archive_entry *, archive_entry_free);

static int archive_failure(struct archive *a) {
        int error = archive_errno(a);

        return error > 0 ? -error : -EIO;
}

static int add_file(struct archive *a, const char *name, const char *contents) {
        _cleanup_(archive_entry_freep) struct archive_entry *entry = archive_entry_new();
        size_t size = strlen(contents);

        if (!entry)
                return -ENOMEM;
        archive_entry_set_pathname(entry, name);
        archive_entry_set_filetype(entry, AE_IFREG);
        archive_entry_set_perm(entry, 0400);
        archive_entry_set_size(entry, (int64_t) size);
        if (archive_write_header(a, entry) != ARCHIVE_OK ||
            archive_write_data(a, contents, size) != (ssize_t) size)
                return archive_failure(a);
        return 0;
}

int seed_image_write(int fd, const char *user_data, const char *meta_data) {
        _cleanup_(archive_write_freep) struct archive *a = archive_write_new();
        int r;

        if (!a)
                return -ENOMEM;
        if (archive_write_set_format_iso9660(a) != ARCHIVE_OK ||
            archive_write_set_options(a, OPTIONS) != ARCHIVE_OK ||
            archive_write_open_fd(a, fd) != ARCHIVE_OK)
                return archive_failure(a);
        r = add_file(a, "meta-data", meta_data);
        if (r == 0)
                r = add_file(a, "user-data", user_data);
        /* after a failure, too: archive_write_free() alone would leak memory then */
        if (archive_write_close(a) != ARCHIVE_OK && r == 0)
                r = archive_failure(a);
        return r;
}
