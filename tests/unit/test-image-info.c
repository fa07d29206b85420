/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What qemu-img prints, and what it would never print. */

#include <errno.h>

#include "image-info.h"
#include "test.h"

TEST(an_image) {
        _cleanup_(image_info_freep) ImageInfo *info = NULL;

        CHECK_INT(image_info_parse("{\"virtual-size\": 10737418240, \"filename\": \"c.qcow2\","
                                   " \"format\": \"qcow2\", \"format-specific\": {\"type\":"
                                   " \"qcow2\", \"data\": {\"corrupt\": true, \"data-file\":"
                                   " \"d\"}}, \"full-backing-filename\": \"/a.qcow2\","
                                   " \"backing-filename\": \"a.qcow2\","
                                   " \"backing-filename-format\": \"raw\", \"encrypted\": true}",
                                   &info),
                  0);
        CHECK_STR(info->format, "qcow2");
        CHECK_INT(info->virtual_size, 10737418240);
        CHECK(info->corrupt && info->encrypted);
        CHECK_STR(info->data_file, "d");
        CHECK_STR(info->backing, "/a.qcow2");
        CHECK_STR(info->backing_format, "raw");
}

TEST(the_least) {
        _cleanup_(image_info_freep) ImageInfo *info = NULL;

        CHECK_INT(image_info_parse("{\"virtual-size\": 0, \"format\": \"raw\"}", &info), 0);
        CHECK(!info->corrupt && !info->encrypted && !info->backing && !info->backing_format &&
              !info->data_file);
}

TEST(what_is_no_image) {
        static const char *const texts[] = {
                "",
                "{",
                "null",
                "[]",
                "7",
                "\"raw\"",
                "{}",
                "{\"format\": \"raw\"}",
                "{\"virtual-size\": 1}",
                "{\"virtual-size\": -1, \"format\": \"raw\"}",
                "{\"virtual-size\": \"1\", \"format\": \"raw\"}",
                "{\"virtual-size\": 1.5, \"format\": \"raw\"}",
                "{\"virtual-size\": 1, \"format\": null}",
                "{\"virtual-size\": 1, \"format\": [\"raw\"]}",
        };

        for (size_t i = 0; i < sizeof(texts) / sizeof(*texts); i++) {
                ImageInfo *info = NULL;

                CHECK_INT(image_info_parse(texts[i], &info), -EBADMSG);
                CHECK(!info);
        }
}

TEST(types_that_do_not_fit_are_passed_over) {
        _cleanup_(image_info_freep) ImageInfo *info = NULL;

        CHECK_INT(image_info_parse("{\"virtual-size\": 1, \"format\": \"raw\","
                                   " \"format-specific\": [], \"backing-filename\": 7,"
                                   " \"encrypted\": \"yes\"}",
                                   &info),
                  0);
        CHECK(!info->backing && !info->encrypted);
}

TEST(a_measure) {
        uint64_t bytes;

        CHECK_INT(image_measure_parse("{\"required\": 1900544, \"fully-allocated\": 2}", &bytes),
                  0);
        CHECK_INT(bytes, 1900544);
        CHECK_INT(image_measure_parse("{}", &bytes), -EBADMSG);
        CHECK_INT(image_measure_parse("", &bytes), -EBADMSG);
}

TEST(progress) {
        static const struct {
                const char *output;
                double done;
        } cases[] = {
                { "", 0 },
                { "    (0.00/100%)\r", 0 },
                { "    (0.00/100%)\r    (12.50/100%)\r", 0.125 },
                { "    (12.50/100%)\r    (50.0", 0.125 },
                { "    (12.50/100%)\r    (", 0.125 },
                { "    (100.00/100%)\r\n", 1 },
                { "(", 0 },
                { "(%", 0 },
                { "(nan/100%)", 0 },
                { "(-5/100%)", 0 },
                { "(1e999/100%)", 0 },
        };

        for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++)
                CHECK(image_progress_parse(cases[i].output) == cases[i].done);
}

TEST_MAIN(an_image, the_least, what_is_no_image, types_that_do_not_fit_are_passed_over, a_measure,
          progress)
