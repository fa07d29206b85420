/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Images are written to memory, and read back with libarchive and by looking at the bytes. */

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include "seed-image.h"
#include "test.h"
#include "util.h"

#define USER_DATA "#cloud-config\n{}\n"
#define META_DATA "{ \"instance-id\": \"x\" }\n"
#define SECTOR 2048

/* An image of these contents in memory, or the errno of what failed. */
static int new_image(const char *user_data, const char *meta_data) {
        int fd = memfd_create("seed.iso", MFD_CLOEXEC), r;

        r = fd < 0 ? -errno : seed_image_write(fd, user_data, meta_data);
        if (r >= 0)
                return fd;
        close(fd);
        return r;
}

typedef struct Contents {
        char *user_data, *meta_data;
        int n_files;
        mode_t modes; /* of all files */
} Contents;

static void contents_done(Contents *c) {
        free(c->user_data);
        free(c->meta_data);
}

static void read_file(struct archive *a, struct archive_entry *entry, Contents *c) {
        const char *name = archive_entry_pathname(entry);
        size_t size = (size_t) archive_entry_size(entry);
        char **place = streq_ptr(name, "user-data")   ? &c->user_data
                       : streq_ptr(name, "meta-data") ? &c->meta_data
                                                      : NULL;

        c->n_files++;
        c->modes |= archive_entry_perm(entry);
        if (!place || *place)
                return;
        *place = calloc(1, size + 1);
        if (archive_read_data(a, *place, size) != (ssize_t) size)
                printf("# %s\n", archive_error_string(a));
}

/* Reads an image with libarchive: by the names of Rock Ridge or, with "!rockridge", of Joliet. */
static Contents read_image(int fd, const char *option) {
        struct archive *a = archive_read_new();
        struct archive_entry *entry;
        Contents c = {};

        lseek(fd, 0, SEEK_SET);
        archive_read_support_format_iso9660(a);
        if (archive_read_set_options(a, option) != ARCHIVE_OK ||
            archive_read_open_fd(a, fd, SECTOR) != ARCHIVE_OK)
                printf("# %s\n", archive_error_string(a));
        while (archive_read_next_header(a, &entry) == ARCHIVE_OK)
                if (archive_entry_filetype(entry) == AE_IFREG)
                        read_file(a, entry, &c);
        archive_read_free(a);
        return c;
}

TEST(holds_what_was_written) {
        static const size_t sizes[] = { 1,      SECTOR - 1, SECTOR,       SECTOR + 1,
                                        123456, 1 << 20,    (1 << 20) + 1 };
        static const char *const options[] = { "iso9660:!joliet", "iso9660:!rockridge" };

        for (size_t i = 0; i < ELEMENTSOF(sizes); i++) {
                _cleanup_free_ char *user_data = calloc(1, sizes[i] + 1);
                _cleanup_close_ int fd = -EBADF;

                for (size_t k = 0; k < sizes[i]; k++)
                        user_data[k] = (char) (k % 255 + 1); /* every byte but NUL */
                fd = new_image(user_data, META_DATA);
                CHECK(fd >= 0);
                for (size_t o = 0; o < ELEMENTSOF(options); o++) {
                        _cleanup_(contents_done) Contents c = read_image(fd, options[o]);

                        CHECK_INT(c.n_files, 2);
                        CHECK(streq_ptr(c.user_data, user_data));
                        CHECK(streq_ptr(c.meta_data, META_DATA));
                }
        }
}

/* ISO 9660's volume descriptor is in sector 16 and Joliet's in 17, the label at byte 40 of each, in
 * UCS-2 in Joliet's. */
TEST(is_labelled_cidata) {
        static const char label[] = "\0c\0i\0d\0a\0t\0a\0 ";
        _cleanup_close_ int fd = new_image(USER_DATA, META_DATA);
        char descriptors[2][SECTOR];

        CHECK(fd >= 0);
        CHECK_INT(pread(fd, descriptors, sizeof(descriptors), 16 * SECTOR), sizeof(descriptors));
        CHECK(memcmp(descriptors[0], "\1CD001", 6) == 0);
        CHECK(memcmp(descriptors[0] + 40, "CIDATA ", 7) == 0);
        CHECK(memcmp(descriptors[1], "\2CD001", 6) == 0);
        CHECK(memcmp(descriptors[1] + 40, label, sizeof(label) - 1) == 0);
}

TEST(shows_its_files_to_root_alone_where_mounted) {
        _cleanup_close_ int fd = new_image(USER_DATA, META_DATA);
        _cleanup_(contents_done) Contents c = {};

        CHECK(fd >= 0);
        c = read_image(fd, "iso9660:!joliet");
        CHECK_INT(c.modes, 0400);
}

TEST(is_as_small_as_can_be) {
        _cleanup_close_ int fd = new_image(USER_DATA, META_DATA);

        CHECK(fd >= 0);
        CHECK(lseek(fd, 0, SEEK_END) <= 64 * SECTOR);
}

TEST(says_what_failed) {
        _cleanup_close_ int full = open("/dev/full", O_WRONLY | O_CLOEXEC);
        _cleanup_close_ int unwritable = open("/dev/null", O_RDONLY | O_CLOEXEC);

        CHECK(full >= 0 && unwritable >= 0);
        CHECK_INT(seed_image_write(full, USER_DATA, META_DATA), -ENOSPC);
        CHECK_INT(seed_image_write(unwritable, USER_DATA, META_DATA), -EBADF);
        setenv("TMPDIR", "/nonexistent", 1);
        CHECK_INT(new_image(USER_DATA, META_DATA), -ENOENT);
        unsetenv("TMPDIR");
}

/* As on a full disk: no file can become larger, neither the image nor libarchive's own. */
TEST(may_run_out_of_space_at_any_point) {
        struct rlimit unlimited, limit;

        signal(SIGXFSZ, SIG_IGN);
        CHECK_INT(getrlimit(RLIMIT_FSIZE, &unlimited), 0);
        limit = unlimited;
        for (limit.rlim_cur = 0; limit.rlim_cur <= 28 * SECTOR; limit.rlim_cur += SECTOR) {
                int r;

                setrlimit(RLIMIT_FSIZE, &limit);
                r = new_image(USER_DATA, META_DATA);
                setrlimit(RLIMIT_FSIZE, &unlimited);
                CHECK_INT(r, -EFBIG);
        }
}

TEST_MAIN(holds_what_was_written, is_labelled_cidata, shows_its_files_to_root_alone_where_mounted,
          is_as_small_as_can_be, says_what_failed, may_run_out_of_space_at_any_point)
