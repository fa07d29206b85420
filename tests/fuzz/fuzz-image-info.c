/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What qemu-img prints. All of it, read as each of its kinds. */

#include "image-info.h"

#include <errno.h>

#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        FuzzInput input = fuzz_input(data, size);
        _cleanup_free_ char *text = fuzz_rest(&input);
        _cleanup_(image_info_freep) ImageInfo *info = NULL;
        uint64_t required;
        double progress;
        int r;

        r = image_info_parse(text, &info);
        INVARIANT(r == 0 || r == -EBADMSG);
        INVARIANT(r < 0 || (info->format && info->virtual_size <= INT64_MAX));

        r = image_measure_parse(text, &required);
        INVARIANT(r == 0 || r == -EBADMSG);
        INVARIANT(r < 0 || required <= INT64_MAX);

        progress = image_progress_parse(text);
        INVARIANT(progress >= 0 && progress <= 1);
        return 0;
}
