/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Images of all kinds, looked at with the real qemu-img. */

#include <errno.h>

#include "disk-check.h"
#include "test-files.h"

static int inspect(const char *path, char **ret_format, sd_bus_error *error) {
        _cleanup_(image_info_freep) ImageInfo *info = NULL;
        int r;

        r = disk_inspect(path, DISK_IN_PLACE, &(DiskUsers){}, &info, error);
        if (r >= 0)
                *ret_format = strdup(info->format);
        return r;
}

/* Inspects what must be refused and checks that the message has both parts. */
static void refused(const char *path, const char *name, const char *part) {
        _cleanup_error_ sd_bus_error error = SD_BUS_ERROR_NULL;
        char *format = NULL;

        CHECK_ERROR(inspect(path, &format, &error), name);
        CHECK(!format);
        CHECK_MENTIONS(error.message, path);
        CHECK_MENTIONS(error.message, part);
}

TEST(raw_image) {
        _cleanup_error_ sd_bus_error error = SD_BUS_ERROR_NULL;
        _cleanup_free_ char *format = NULL;

        write_zeros(in_root("raw"), 4096);
        CHECK_INT(inspect(in_root("raw"), &format, &error), 0);
        CHECK_STR(format, "raw");
}

TEST(what_is_no_image) {
        write_file(in_root("text"), "hello", 5);
        refused(in_root("text"), USERVM_ERROR_IMAGE_UNUSABLE, "5 bytes");
        write_file(in_root("empty"), "", 0);
        refused(in_root("empty"), USERVM_ERROR_IMAGE_UNUSABLE, "empty");
        refused(root, USERVM_ERROR_IMAGE_UNUSABLE, "folder");
        refused("/dev/null", USERVM_ERROR_IMAGE_UNUSABLE, "not a regular file");
        CHECK_INT(mkfifo(in_root("fifo"), 0600), 0);
        refused(in_root("fifo"), USERVM_ERROR_IMAGE_UNUSABLE, "not a regular file");
        refused(in_root("nothing"), USERVM_ERROR_IMAGE_NOT_FOUND, "no disk");
        refused(in_root("text/x"), USERVM_ERROR_IMAGE_NOT_FOUND, "no disk");
        refused("relative", SD_BUS_ERROR_INVALID_ARGS, "absolute");
        refused("", SD_BUS_ERROR_INVALID_ARGS, "absolute");
}

TEST(formats_that_are_not_taken) {
        CHECK_INT(qemu_img("create", "-q", "-f", "vmdk", in_root("x.vmdk"), "1M", NULL), 0);
        refused(in_root("x.vmdk"), USERVM_ERROR_IMAGE_UNUSABLE, "vmdk; only qcow2 and raw");
        refused(in_root("x.vmdk"), USERVM_ERROR_IMAGE_UNUSABLE, "qemu-img convert -O qcow2");
        CHECK_INT(qemu_img("create", "-q", "-f", "vdi", in_root("x.vdi"), "1M", NULL), 0);
        refused(in_root("x.vdi"), USERVM_ERROR_IMAGE_UNUSABLE, "vdi");
}

/* What is pasted into a shell is one word there. */
TEST(a_name_that_would_be_a_command) {
        _cleanup_error_ sd_bus_error error = SD_BUS_ERROR_NULL;
        _cleanup_free_ char *output = NULL, *command = NULL, *expected = NULL, *format = NULL;
        const char *path = in_root("a'$(exit)';b.vdi"), *offered;

        CHECK_INT(qemu_img("create", "-q", "-f", "vdi", path, "1M", NULL), 0);
        CHECK_ERROR(inspect(path, &format, &error), USERVM_ERROR_IMAGE_UNUSABLE);
        offered = strstr(error.message, "-O qcow2 ");
        CHECK(offered);
        CHECK(asprintf(&command, "printf '%%s\\n' %s", offered) > 0);
        CHECK(asprintf(&expected, "-O\nqcow2\n%s\nNEW.qcow2\n", path) > 0);
        CHECK_INT(process_run((const char *const[]){ "sh", "-c", command, NULL }, &output, NULL),
                  0);
        CHECK_STR(output, expected);
}

TEST(encrypted_image) {
        _cleanup_close_ int fd = -EBADF;

        /* crypt_method, the last of four bytes from 32: AES. (Making a LUKS image means to measure
         * the machine's speed first, which fails on a busy one.) */
        CHECK_INT(qemu_img("create", "-q", "-f", "qcow2", in_root("encrypted"), "1M", NULL), 0);
        fd = open(in_root("encrypted"), O_WRONLY | O_CLOEXEC);
        CHECK_INT(pwrite(fd, "\x01", 1, 32 + 3), 1);
        refused(in_root("encrypted"), USERVM_ERROR_IMAGE_UNUSABLE, "encrypted");
}

TEST(broken_qcow2) {
        char header[1024] = "QFI\xfb\0\0\0\x63"; /* version 99 */
        _cleanup_close_ int fd = -EBADF;

        write_file(in_root("future"), header, sizeof(header));
        refused(in_root("future"), USERVM_ERROR_IMAGE_UNUSABLE, "version");

        /* The second bit of incompatible_features, at byte 72: corrupt. */
        CHECK_INT(qemu_img("create", "-q", "-f", "qcow2", in_root("corrupt"), "1M", NULL), 0);
        fd = open(in_root("corrupt"), O_WRONLY | O_CLOEXEC);
        CHECK_INT(pwrite(fd, "\x02", 1, 72 + 7), 1);
        refused(in_root("corrupt"), USERVM_ERROR_IMAGE_UNUSABLE, "qemu-img check");
}

TEST(backing_chain) {
        _cleanup_error_ sd_bus_error error = SD_BUS_ERROR_NULL;
        _cleanup_free_ char *format = NULL;

        CHECK_INT(qemu_img("create", "-q", "-f", "qcow2", in_root("base"), "1M", NULL), 0);
        CHECK_INT(qemu_img("create", "-q", "-f", "qcow2", "-b", "base", "-F", "qcow2",
                           in_root("middle"), NULL),
                  0);
        CHECK_INT(qemu_img("create", "-q", "-f", "qcow2", "-b", in_root("middle"), "-F", "qcow2",
                           in_root("top"), NULL),
                  0);
        CHECK_INT(inspect(in_root("top"), &format, &error), 0);
        CHECK_STR(format, "qcow2");

        CHECK_INT(unlink(in_root("base")), 0);
        refused(in_root("middle"), USERVM_ERROR_IMAGE_UNUSABLE, in_root("base"));
        refused(in_root("top"), USERVM_ERROR_IMAGE_UNUSABLE, in_root("base"));
}

TEST(a_chain_that_goes_elsewhere) {
        CHECK_INT(mkdir(in_root("other"), 0700), 0);
        CHECK_INT(qemu_img("create", "-q", "-f", "qcow2", in_root("other/base"), "1M", NULL), 0);
        CHECK_INT(qemu_img("create", "-q", "-f", "qcow2", "-b", in_root("other/base"), "-F",
                           "qcow2", in_root("thief"), NULL),
                  0);
        refused(in_root("thief"), USERVM_ERROR_IMAGE_UNUSABLE, "in another folder");

        /* A raw image may be any file. */
        write_zeros(in_root("other/secret"), 512);
        CHECK_INT(qemu_img("rebase", "-u", "-F", "raw", "-b", in_root("other/secret"),
                           in_root("thief"), NULL),
                  0);
        refused(in_root("thief"), USERVM_ERROR_IMAGE_UNUSABLE, "in another folder");
        CHECK_INT(qemu_img("rebase", "-u", "-F", "raw", "-b", "nbd:localhost:1", in_root("thief"),
                           NULL),
                  0);
        refused(in_root("thief"), USERVM_ERROR_IMAGE_UNUSABLE, "not a file");
}

TEST(a_link_that_goes_elsewhere) {
        write_zeros(in_root("other/secret"), 512);
        CHECK_INT(symlink(in_root("other/secret"), in_root("beside")), 0);
        CHECK_INT(qemu_img("create", "-q", "-f", "qcow2", "-b", in_root("beside"), "-F", "raw",
                           in_root("linker"), NULL),
                  0);
        refused(in_root("linker"), USERVM_ERROR_IMAGE_UNUSABLE, "in another folder");
}

TEST(where_images_are_kept_is_not_elsewhere) {
        _cleanup_error_ sd_bus_error error = SD_BUS_ERROR_NULL;
        _cleanup_free_ char *format = NULL;

        CHECK_INT(mkdir(in_root("data"), 0700), 0);
        CHECK_INT(mkdir(in_root("data/libvirt"), 0700), 0);
        CHECK_INT(mkdir(in_root("data/libvirt/images"), 0700), 0);
        CHECK_INT(qemu_img("create", "-q", "-f", "qcow2", in_root("data/libvirt/images/base"), "1M",
                           NULL),
                  0);
        CHECK_INT(qemu_img("create", "-q", "-f", "qcow2", "-b", in_root("data/libvirt/images/base"),
                           "-F", "qcow2", in_root("on-it"), NULL),
                  0);
        CHECK_INT(inspect(in_root("on-it"), &format, &error), 0);
}

TEST(a_backing_file_of_no_noted_format) {
        _cleanup_close_ int fd = -EBADF;
        char header[4096];
        char *name;

        CHECK_INT(qemu_img("create", "-q", "-f", "qcow2", in_root("base2"), "1M", NULL), 0);
        CHECK_INT(qemu_img("create", "-q", "-f", "qcow2", "-b", in_root("base2"), "-F", "qcow2",
                           in_root("guess"), NULL),
                  0);
        /* The header extension of the format, 0xe2792aca, is made one that nobody knows. */
        fd = open(in_root("guess"), O_RDWR | O_CLOEXEC);
        CHECK_INT(pread(fd, header, sizeof(header), 0), sizeof(header));
        name = memmem(header, sizeof(header), "\xe2\x79\x2a\xca", 4);
        CHECK(name);
        CHECK_INT(pwrite(fd, "\x12\x34\x56\x78", 4, name - header), 4);
        refused(in_root("guess"), USERVM_ERROR_IMAGE_UNUSABLE, "qemu-img rebase");
}

TEST(data_in_another_file) {
        _cleanup_free_ char *option = NULL;

        CHECK(asprintf(&option, "data_file=%s", in_root("outside")) > 0);
        CHECK_INT(
                qemu_img("create", "-q", "-f", "qcow2", "-o", option, in_root("split"), "1M", NULL),
                0);
        refused(in_root("split"), USERVM_ERROR_IMAGE_UNUSABLE, "in another file");
}

/* A QEMU that writes has byte 101 of the file locked. */
TEST(image_in_use) {
        struct flock lock = { .l_type = F_RDLCK, .l_whence = SEEK_SET, .l_start = 101, .l_len = 1 };
        _cleanup_close_ int fd = -EBADF;

        CHECK_INT(qemu_img("create", "-q", "-f", "qcow2", in_root("used"), "1M", NULL), 0);
        fd = open(in_root("used"), O_RDWR | O_CLOEXEC);
        CHECK_INT(fcntl(fd, F_OFD_SETLK, &lock), 0);
        refused(in_root("used"), USERVM_ERROR_IMAGE_UNUSABLE, "in use by another program");
}

TEST(a_base_is_only_read) {
        _cleanup_error_ sd_bus_error error = SD_BUS_ERROR_NULL;
        _cleanup_(image_info_freep) ImageInfo *info = NULL;

        CHECK_INT(qemu_img("create", "-q", "-f", "qcow2", in_root("readonly"), "3M", NULL), 0);
        CHECK_INT(chmod(in_root("readonly"), 0400), 0);
        CHECK_INT(disk_inspect(in_root("readonly"), DISK_AS_BASE, &(DiskUsers){}, &info, &error),
                  0);
        CHECK_INT(info->virtual_size, 3 << 20);
}

/* The same file by another name is the same file. */
TEST(what_other_VMs_have) {
        DiskUsers users = {};
        const struct {
                const char *path;
                DiskUse use;
                const char *says; /* NULL: it is all right */
        } cases[] = {
                { "written", DISK_IN_PLACE, "a disk of VM 'writer'" },
                { "written", DISK_AS_BASE, "a disk of VM 'writer'" },
                { "link", DISK_AS_BASE, "a disk of VM 'writer'" },
                { "seen", DISK_IN_PLACE, "a disk of VM 'reader'" },
                { "seen", DISK_AS_BASE, NULL },
                { "under", DISK_IN_PLACE, "VM 'overlaid'" },
                { "under", DISK_AS_BASE, NULL },
                { "free", DISK_IN_PLACE, NULL },
        };

        write_zeros(in_root("written"), 512);
        write_zeros(in_root("seen"), 512);
        write_zeros(in_root("under"), 512);
        write_zeros(in_root("free"), 512);
        CHECK_INT(symlink("written", in_root("link")), 0);
        CHECK_INT(disk_users_add(&users, "writer", in_root("written"), true, false), 0);
        CHECK_INT(disk_users_add(&users, "reader", in_root("seen"), false, false), 0);
        CHECK_INT(disk_users_add(&users, "overlaid", in_root("under"), false, true), 0);
        CHECK_INT(disk_users_add(&users, "gone", in_root("nothing"), true, false), 0);

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                _cleanup_error_ sd_bus_error error = SD_BUS_ERROR_NULL;
                int r = disk_check_users(in_root(cases[i].path), cases[i].use, &users, &error);

                if (!cases[i].says) {
                        CHECK_INT(r, 0);
                        continue;
                }
                CHECK(r < 0);
                CHECK_STR(error.name, USERVM_ERROR_IMAGE_UNUSABLE);
                CHECK_MENTIONS(error.message, cases[i].says);
        }
        disk_users_done(&users);
}

/* As one would be that is to show a guest the disk of another, or the password in its seed. */
TEST(a_chain_that_ends_at_a_disk_of_another_VM) {
        _cleanup_error_ sd_bus_error error = SD_BUS_ERROR_NULL, other_error = SD_BUS_ERROR_NULL;
        _cleanup_(image_info_freep) ImageInfo *info = NULL;
        DiskUsers users = {};

        write_zeros(in_root("seed"), 4096);
        CHECK_INT(qemu_img("create", "-q", "-f", "qcow2", "-b", in_root("seed"), "-F", "raw",
                           in_root("peeper"), NULL),
                  0);
        CHECK_INT(qemu_img("create", "-q", "-f", "qcow2", "-b", in_root("peeper"), "-F", "qcow2",
                           in_root("peeper2"), NULL),
                  0);
        CHECK_INT(symlink(in_root("seed"), in_root("seed-link")), 0);
        CHECK_INT(disk_users_add(&users, "other", in_root("seed"), false, false), 0);
        CHECK_INT(disk_users_add(&users, "other", in_root("seed"), false, true), 0);
        CHECK_INT(disk_inspect(in_root("peeper2"), DISK_IN_PLACE, &users, &info, &error), 0);

        CHECK_INT(disk_users_add(&users, "web", in_root("seed-link"), true, false), 0);
        info = image_info_free(info);
        CHECK_ERROR(disk_inspect(in_root("peeper2"), DISK_IN_PLACE, &users, &info, &error),
                    USERVM_ERROR_IMAGE_UNUSABLE);
        CHECK_MENTIONS(error.message, "belongs to VM 'web'");
        CHECK(disk_inspect(in_root("peeper"), DISK_AS_BASE, &users, &info, &other_error) < 0);
        CHECK_MENTIONS(other_error.message, "belongs to VM 'web'");
        disk_users_done(&users);
}

TEST(permissions) {
        /* Root is refused nothing. */
        if (geteuid() == 0)
                return;

        write_zeros(in_root("locked"), 4096);
        CHECK_INT(chmod(in_root("locked"), 0), 0);
        refused(in_root("locked"), USERVM_ERROR_IMAGE_UNUSABLE, "permission to read");
        CHECK_INT(chmod(in_root("locked"), 0400), 0);
        refused(in_root("locked"), USERVM_ERROR_IMAGE_UNUSABLE, "permission to write");

        CHECK_INT(mkdir(in_root("closed"), 0700), 0);
        write_zeros(in_root("closed/raw"), 4096);
        CHECK_INT(chmod(in_root("closed"), 0), 0);
        refused(in_root("closed/raw"), USERVM_ERROR_IMAGE_UNUSABLE, "permission to search");
        CHECK_INT(chmod(in_root("closed"), 0700), 0);
}

TEST(readable_files) {
        _cleanup_error_ sd_bus_error error = SD_BUS_ERROR_NULL, missing = SD_BUS_ERROR_NULL;
        _cleanup_error_ sd_bus_error relative = SD_BUS_ERROR_NULL, folder = SD_BUS_ERROR_NULL;

        write_file(in_root("vmlinuz"), "kernel", 6);
        CHECK_INT(chmod(in_root("vmlinuz"), 0400), 0);
        CHECK_INT(disk_check_readable("kernel", in_root("vmlinuz"), &error), 0);
        CHECK_INT(disk_check_readable("cdrom", in_root("vmlinuz"), &error), 0);

        CHECK(disk_check_readable("initrd", in_root("nothing"), &missing) < 0);
        CHECK_STR(missing.name, USERVM_ERROR_IMAGE_NOT_FOUND);
        CHECK_MENTIONS(missing.message, "initrd");
        CHECK(disk_check_readable("cdrom", "a.iso", &relative) < 0);
        CHECK_STR(relative.name, SD_BUS_ERROR_INVALID_ARGS);
        CHECK_MENTIONS(relative.message, "cdrom");
        CHECK(disk_check_readable("kernel", root, &folder) < 0);
        CHECK_STR(folder.name, USERVM_ERROR_IMAGE_UNUSABLE);
}

TEST_MAIN(begins_in_a_folder_of_its_own, raw_image, what_is_no_image, formats_that_are_not_taken,
          a_name_that_would_be_a_command, encrypted_image, broken_qcow2, backing_chain,
          a_chain_that_goes_elsewhere, a_link_that_goes_elsewhere,
          where_images_are_kept_is_not_elsewhere, a_backing_file_of_no_noted_format,
          data_in_another_file, image_in_use, a_base_is_only_read, what_other_VMs_have,
          a_chain_that_ends_at_a_disk_of_another_VM, permissions, readable_files,
          leaves_nothing_behind)
