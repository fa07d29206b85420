/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Disk images made with the real qemu-img, in a folder of their own. */

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <sys/eventfd.h>

#include "disk.h"
#include "image-info.h"
#include "test-files.h"

/* An empty file of this name. */
static const char *fresh(const char *name) {
        const char *path = in_root(name);

        write_file(path, "", 0);
        return path;
}

static int create(const char *path, uint64_t size, sd_bus_error *error) {
        return disk_create(path, path, size, error);
}

static ImageInfo *info_of(const char *path) {
        _cleanup_free_ char *json = NULL;
        ImageInfo *info = NULL;

        if (process_run((const char *const[]){ "qemu-img", "info", "--output=json", path, NULL },
                        &json, NULL) == 0)
                (void) image_info_parse(json, &info);
        return info;
}

TEST(an_empty_disk) {
        _cleanup_error_ sd_bus_error error = SD_BUS_ERROR_NULL;
        _cleanup_(image_info_freep) ImageInfo *info = NULL;
        const char *path = fresh("empty");
        struct stat st;

        CHECK_INT(create(path, (1 << 20) + 1, &error), 0);
        CHECK(!sd_bus_error_is_set(&error));
        CHECK_INT(stat(path, &st), 0);
        CHECK_INT(st.st_mode & 07777, 0600);
        info = info_of(path);
        CHECK_STR(info->format, "qcow2");
        CHECK_INT(info->virtual_size, (1 << 20) + 512); /* and a sector */
}

TEST(larger_than_the_free_space) {
        _cleanup_error_ sd_bus_error error = SD_BUS_ERROR_NULL;

        CHECK_INT(create(fresh("large"), 1ULL << 42, &error), 0);
}

TEST(sizes_that_cannot_be) {
        static const uint64_t sizes[] = { UINT64_MAX, (uint64_t) INT64_MAX + 1, INT64_MAX,
                                          INT64_MAX - 1024, 1ULL << 62 };

        for (size_t i = 0; i < ELEMENTSOF(sizes); i++) {
                _cleanup_error_ sd_bus_error error = SD_BUS_ERROR_NULL;

                CHECK_ERROR(create(fresh("huge"), sizes[i], &error), USERVM_ERROR_IMAGE_UNUSABLE);
                CHECK_MENTIONS(error.message, in_root("huge"));
        }
}

TEST(odd_names) {
        static const char *const names[] = { "-o",        "nbd:x", "a,b=c",      "json:{}",
                                             "two words", "%s%n",  "\xc3\xa4'\"" };

        for (size_t i = 0; i < ELEMENTSOF(names); i++) {
                _cleanup_error_ sd_bus_error error = SD_BUS_ERROR_NULL;
                _cleanup_(image_info_freep) ImageInfo *info = NULL, *overlay = NULL;

                CHECK_INT(create(fresh(names[i]), 1 << 20, &error), 0);
                info = info_of(in_root(names[i]));
                CHECK_STR(info->format, "qcow2");
                CHECK_INT(disk_create_overlay(fresh("over-odd"), "over-odd", in_root(names[i]),
                                              "qcow2", 1 << 20, &error),
                          0);
                overlay = info_of(in_root("over-odd"));
                CHECK_STR(overlay->backing, in_root(names[i]));
        }
}

TEST(without_qemu_img) {
        _cleanup_error_ sd_bus_error error = SD_BUS_ERROR_NULL;
        _cleanup_free_ char *path = strdup(getenv("PATH"));
        int r;

        setenv("PATH", root, 1);
        r = create(fresh("no-tool"), 1 << 20, &error);
        setenv("PATH", path, 1);
        CHECK_ERROR(r, USERVM_ERROR_NOT_SUPPORTED);
        CHECK_MENTIONS(error.message, "qemu-utils");
}

TEST(an_overlay) {
        _cleanup_error_ sd_bus_error error = SD_BUS_ERROR_NULL;
        _cleanup_(image_info_freep) ImageInfo *info = NULL;

        CHECK_INT(create(fresh("base"), 10ULL << 30, &error), 0);
        CHECK_INT(disk_create_overlay(fresh("overlay"), "overlay", in_root("base"), "qcow2",
                                      20ULL << 30, &error),
                  0);
        info = info_of(in_root("overlay"));
        CHECK_STR(info->backing, in_root("base"));
        CHECK_STR(info->backing_format, "qcow2");
        CHECK_INT(info->virtual_size, 20LL << 30);
}

static double last_done;
static int cancel_fd = -EBADF; /* written to at the first report */

static void note_progress(double done, uint64_t bytes, void *userdata) {
        if (bytes > 0)
                last_done = done;
        if (cancel_fd >= 0)
                (void) eventfd_write(cancel_fd, 1);
}

static void write_random(const char *path, size_t size) {
        _cleanup_close_ int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        static char block[1 << 20];
        uint64_t x = 88172645463325252ULL;

        for (size_t i = 0; i < sizeof(block) / sizeof(x); i++) {
                x ^= x << 13;
                x ^= x >> 7;
                x ^= x << 17;
                memcpy(block + i * sizeof(x), &x, sizeof(x));
        }
        for (size_t done = 0; done < size; done += sizeof(block))
                if (write(fd, block, sizeof(block)) != sizeof(block))
                        abort();
}

TEST(a_copy) {
        _cleanup_error_ sd_bus_error error = SD_BUS_ERROR_NULL;
        _cleanup_(image_info_freep) ImageInfo *info = NULL;
        const DiskProgress progress = { .report = note_progress, .cancel_fd = -EBADF };

        write_random(in_root("source"), 4 << 20);
        CHECK_INT(disk_copy(fresh("copy"), "copy", in_root("source"), "raw", 8 << 20, &progress,
                            &error),
                  0);
        CHECK(last_done == 1.0);
        info = info_of(in_root("copy"));
        CHECK_STR(info->format, "qcow2");
        CHECK_INT(info->virtual_size, 8 << 20);
        CHECK(!info->backing);
        CHECK_INT(qemu_img("resize", "-q", "--shrink", in_root("copy"), "4M", NULL), 0);
        CHECK_INT(qemu_img("compare", "-f", "raw", "-F", "qcow2", in_root("source"),
                           in_root("copy"), NULL),
                  0);
}

/* The whole chain is in it. */
TEST(a_copy_of_an_overlay) {
        _cleanup_error_ sd_bus_error error = SD_BUS_ERROR_NULL;
        _cleanup_(image_info_freep) ImageInfo *info = NULL;
        const DiskProgress progress = { .report = note_progress, .cancel_fd = -EBADF };

        CHECK_INT(disk_create_overlay(fresh("over"), "over", in_root("source"), "raw", 4 << 20,
                                      &error),
                  0);
        CHECK_INT(disk_copy(fresh("flat"), "flat", in_root("over"), "qcow2", 4 << 20, &progress,
                            &error),
                  0);
        info = info_of(in_root("flat"));
        CHECK(!info->backing);
        CHECK_INT(qemu_img("compare", "-f", "raw", "-F", "qcow2", in_root("source"),
                           in_root("flat"), NULL),
                  0);
}

TEST(a_copy_is_cancelled) {
        _cleanup_error_ sd_bus_error error = SD_BUS_ERROR_NULL;
        _cleanup_close_ int fd = eventfd(0, EFD_CLOEXEC);
        const DiskProgress progress = { .report = note_progress, .cancel_fd = fd };

        write_random(in_root("source2"), 64 << 20);
        cancel_fd = fd;
        CHECK_ERROR(disk_copy(fresh("cancelled"), "cancelled", in_root("source2"), "raw", 64 << 20,
                              &progress, &error),
                    USERVM_ERROR_CANCELLED);
        cancel_fd = -EBADF;
}

/* The file system of /proc never has room. */
TEST(no_room_for_a_copy) {
        _cleanup_error_ sd_bus_error error = SD_BUS_ERROR_NULL;
        const DiskProgress progress = { .report = note_progress, .cancel_fd = -EBADF };
        int r;

        setenv("XDG_DATA_HOME", "/proc", 1);
        r = disk_copy(fresh("no-room"), "no-room", in_root("source"), "raw", 4 << 20, &progress,
                      &error);
        setenv("XDG_DATA_HOME", in_root("data"), 1);
        CHECK_ERROR(r, USERVM_ERROR_IMAGE_UNUSABLE);
        CHECK_MENTIONS(error.message, "no room");
}

TEST(grows) {
        _cleanup_error_ sd_bus_error error = SD_BUS_ERROR_NULL;
        _cleanup_(image_info_freep) ImageInfo *info = NULL;

        CHECK_INT(create(fresh("grows"), 1 << 20, &error), 0);
        CHECK_INT(disk_resize(in_root("grows"), "qcow2", 3 << 20, &error), 0);
        info = info_of(in_root("grows"));
        CHECK_INT(info->virtual_size, 3 << 20);
        CHECK_ERROR(disk_resize(in_root("grows"), "qcow2", 2 << 20, &error),
                    USERVM_ERROR_IMAGE_UNUSABLE);
}

TEST_MAIN(begins_in_a_folder_of_its_own, an_empty_disk, larger_than_the_free_space,
          sizes_that_cannot_be, odd_names, without_qemu_img, an_overlay, a_copy,
          a_copy_of_an_overlay, a_copy_is_cancelled, no_room_for_a_copy, grows,
          leaves_nothing_behind)
