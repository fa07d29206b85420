/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What libvirt says that a host can do. The XML of its capabilities. */

#include <errno.h>

#include "domain-xml.h"
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        FuzzInput input = fuzz_input(data, size);
        _cleanup_free_ char *xml = fuzz_rest(&input), *arch = NULL;
        _cleanup_(strv_freep) char **types = NULL;
        bool q35;
        int r;

        r = capabilities_parse(xml, &arch, &types, &q35);
        INVARIANT(r == 0 || r == -EBADMSG || r == -ENODEV);
        INVARIANT((r == 0) == (arch && types));
        return 0;
}
