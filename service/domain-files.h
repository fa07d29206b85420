/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Looks at the files that libvirt's session driver keeps of its domains, because they show what no
 * event of libvirt tells: that a start has begun, that one was given up, that a saved state was
 * removed, that some changes were stored; and what libvirt itself cannot be asked for while a
 * domain is being started. */

#include <systemd/sd-event.h>

#include "util.h"

/* Where libvirt notes those that are active, below the runtime folder. */
#define DOMAIN_FILES_RUNNING "libvirt/qemu/run"

typedef struct DomainFiles DomainFiles;

/* Something may have changed about the domain of this name; NULL: about any. live: not about its
 * stored definition alone. */
typedef void (*domain_file_func_t)(const char *name, bool live, void *userdata);

/* libvirt's daemon makes the folders when it starts, so this is to be called anew when there is a
 * connection to it; a folder that is not there is not watched. Returns 0 or a negative errno.
 * Main thread. */
int domain_files_new(sd_event *event, domain_file_func_t func, void *userdata, DomainFiles **ret);
DomainFiles *domain_files_free(DomainFiles *d);
DEFINE_CLEANUP(DomainFiles *, domain_files_free);

/* The live and the stored XML (of one that is not persistent, the live one twice) of the active
 * domain of this name. Returns 0, or a negative errno, -EBADMSG if it is not what is expected. */
int domain_files_read(const char *name, char **ret_live_xml, char **ret_stored_xml);

/* Whether the saved state of the domain of this name is what was written before something cut the
 * save short: libvirt marks the file as whole when it is (qemuSaveImageCreate()), and after a loss
 * of power it may have no content at all. */
bool domain_files_is_save_incomplete(const char *name);

/* Where libvirt has QEMU write what it has to say of the domain of this name, its last words
 * included. Returns 0 or a negative errno. */
int domain_files_log_path(const char *name, char **ret);

/* Calls func for each domain that libvirt has noted as active, by name. */
void domain_files_each_active(domain_file_func_t func, void *userdata);

/* If libvirt's daemon does not run: removes what it has noted of domains whose QEMU it had not
 * started yet when it was killed. The next one would take them for running, for ever: it neither
 * looks for their QEMU, because they have none, nor lets anybody end them (libvirt 11.3,
 * qemuProcessReconnectHelper() and the job that is noted). The stored definitions stay. To be
 * called before that next one is started. Any thread. */
void domain_files_forget_unborn(void);
