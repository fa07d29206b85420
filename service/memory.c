/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* libvirt's client library brings some forty libraries along, for TLS, SSH, HTTP and Kerberos, none
 * of which a connection to the session daemon uses; loading and relocating them leaves 14 MB mapped
 * all the same. Segments that cannot be written hold nothing of ours: dropping their pages loses
 * nothing, and what is used comes back with a minor fault. */

#include "memory.h"

#include <link.h>
#include <malloc.h>
#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

static int drop_segments(struct dl_phdr_info *object, size_t size, void *userdata) {
        uintptr_t page = (uintptr_t) sysconf(_SC_PAGESIZE);

        for (int i = 0; i < object->dlpi_phnum; i++) {
                const ElfW(Phdr) *segment = &object->dlpi_phdr[i];
                uintptr_t start, end;

                if (segment->p_type != PT_LOAD || (segment->p_flags & PF_W))
                        continue;
                start = (object->dlpi_addr + segment->p_vaddr) & ~(page - 1);
                end = object->dlpi_addr + segment->p_vaddr + segment->p_memsz;
                /* The kernel's own object (vDSO) refuses, and is one page. */
                (void) madvise((void *) start, end - start, MADV_DONTNEED);
        }
        return 0;
}

void memory_trim(void) {
        malloc_trim(0);
        dl_iterate_phdr(drop_segments, NULL);
}
