/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Keeps an idle daemon small. */

/* Gives back what is not needed to wait: free heap, and the code and constants of libraries, which
 * the kernel maps in again from its cache where they are used. Takes some 100 microseconds. */
void memory_trim(void);
