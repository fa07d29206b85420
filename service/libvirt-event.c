/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* libvirt calls these functions from every thread that uses a connection (a worker that waits for
 * a reply switches the socket's write interest on and off), while sd-event belongs to the main
 * thread. So a call only notes what is wanted, under a mutex, and the main thread brings the event
 * source in line: at once if it is the caller, else woken by an eventfd.
 *
 * libvirt forbids calling the free callback from within the removal (it may hold its locks then),
 * so a removed watch stays in the list, silent, until the main thread sweeps it out. Its file
 * descriptor stays open until then: libvirt closes it when the free callback drops the last
 * reference. */

#include "libvirt-event.h"

#include <errno.h>
#include <libvirt/libvirt.h>
#include <pthread.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <time.h>

#include "util.h"

typedef struct Watch {
        struct Watch *next;
        int id;
        int fd;       /* -1: a timeout */
        int wanted;   /* events of a handle (VIR_EVENT_HANDLE_*), or milliseconds, -1: off */
        bool changed; /* the event source has to follow */
        bool removed;
        union {
                virEventHandleCallback handle;
                virEventTimeoutCallback timeout;
        } callback;
        void *opaque;
        virFreeCallback free_opaque;
        sd_event_source *source; /* main thread only */
} Watch;

static struct {
        pthread_mutex_t mutex;
        pthread_t main_thread;
        sd_event *event;
        int fd;
        int last_id;
        Watch *watches;
} loop = { .mutex = PTHREAD_MUTEX_INITIALIZER, .fd = -EBADF };

static uint32_t events_to_epoll(int events) {
        return (events & VIR_EVENT_HANDLE_READABLE ? EPOLLIN : 0) |
               (events & VIR_EVENT_HANDLE_WRITABLE ? EPOLLOUT : 0) |
               (events & VIR_EVENT_HANDLE_ERROR ? EPOLLERR : 0) |
               (events & VIR_EVENT_HANDLE_HANGUP ? EPOLLHUP : 0);
}

static int events_from_epoll(uint32_t events) {
        return (events & EPOLLIN ? VIR_EVENT_HANDLE_READABLE : 0) |
               (events & EPOLLOUT ? VIR_EVENT_HANDLE_WRITABLE : 0) |
               (events & EPOLLERR ? VIR_EVENT_HANDLE_ERROR : 0) |
               (events & EPOLLHUP ? VIR_EVENT_HANDLE_HANGUP : 0);
}

static int on_io(sd_event_source *source, int fd, uint32_t revents, void *userdata) {
        Watch *w = userdata;
        bool call;

        pthread_mutex_lock(&loop.mutex);
        call = !w->removed && w->wanted != 0;
        pthread_mutex_unlock(&loop.mutex);

        if (call)
                w->callback.handle(w->id, fd, events_from_epoll(revents), w->opaque);
        return 0;
}

static int on_time(sd_event_source *source, uint64_t usec, void *userdata) {
        Watch *w = userdata;
        bool call;

        pthread_mutex_lock(&loop.mutex);
        call = !w->removed && w->wanted >= 0;
        if (call)
                sd_event_source_set_time_relative(source, (uint64_t) w->wanted * 1000);
        pthread_mutex_unlock(&loop.mutex);

        if (call)
                w->callback.timeout(w->id, w->opaque);
        return 0;
}

/* Brings the event source in line with what is wanted. Main thread, mutex held. */
static int watch_apply_handle(Watch *w) {
        int r;

        if (w->removed || w->wanted == 0)
                return w->source ? sd_event_source_set_enabled(w->source, SD_EVENT_OFF) : 0;
        if (!w->source)
                return sd_event_add_io(loop.event, &w->source, w->fd, events_to_epoll(w->wanted),
                                       on_io, w);
        r = sd_event_source_set_io_events(w->source, events_to_epoll(w->wanted));
        if (r < 0)
                return r;
        return sd_event_source_set_enabled(w->source, SD_EVENT_ON);
}

static int watch_apply_timeout(Watch *w) {
        uint64_t usec = (uint64_t) w->wanted * 1000;
        int r;

        if (w->removed || w->wanted < 0)
                return w->source ? sd_event_source_set_enabled(w->source, SD_EVENT_OFF) : 0;
        if (!w->source) {
                r = sd_event_add_time_relative(loop.event, &w->source, CLOCK_MONOTONIC, usec, 1000,
                                               on_time, w);
                if (r < 0)
                        return r;
        } else {
                r = sd_event_source_set_time_relative(w->source, usec);
                if (r < 0)
                        return r;
        }
        return sd_event_source_set_enabled(w->source, SD_EVENT_ON);
}

static void watch_apply(Watch *w) {
        /* It fails without memory only; libvirt's interface has no way to say so later on. */
        if (w->fd >= 0)
                (void) watch_apply_handle(w);
        else
                (void) watch_apply_timeout(w);
        w->changed = false;
}

/* Notes that a watch changed. Mutex held. */
static void watch_changed(Watch *w) {
        uint64_t one = 1;

        w->changed = true;
        if (pthread_equal(pthread_self(), loop.main_thread)) {
                watch_apply(w);
                if (!w->removed)
                        return;
        }
        (void) !write(loop.fd, &one, sizeof(one));
}

static Watch *watch_find(int id) {
        for (Watch *w = loop.watches; w; w = w->next)
                if (w->id == id && !w->removed)
                        return w;
        return NULL;
}

/* Takes one removed watch out of the list, or returns NULL. */
static Watch *take_removed(void) {
        for (Watch **p = &loop.watches; *p; p = &(*p)->next)
                if ((*p)->removed) {
                        Watch *w = *p;

                        *p = w->next;
                        return w;
                }
        return NULL;
}

static int on_changed(sd_event_source *source, int fd, uint32_t revents, void *userdata) {
        uint64_t n;

        (void) !read(fd, &n, sizeof(n));

        pthread_mutex_lock(&loop.mutex);
        for (Watch *w = loop.watches; w; w = w->next)
                if (w->changed)
                        watch_apply(w);
        for (Watch *w; (w = take_removed());) {
                pthread_mutex_unlock(&loop.mutex);
                sd_event_source_disable_unref(w->source);
                if (w->free_opaque)
                        w->free_opaque(w->opaque);
                free(w);
                pthread_mutex_lock(&loop.mutex);
        }
        pthread_mutex_unlock(&loop.mutex);
        return 0;
}

static int add(const Watch *values) {
        Watch *w = new0(Watch, 1);
        int id;

        if (!w)
                return -1;
        *w = *values;

        pthread_mutex_lock(&loop.mutex);
        id = w->id = ++loop.last_id;
        w->next = loop.watches;
        loop.watches = w;
        watch_changed(w);
        pthread_mutex_unlock(&loop.mutex);
        return id;
}

static void update(int id, int wanted) {
        Watch *w;

        pthread_mutex_lock(&loop.mutex);
        w = watch_find(id);
        /* A timeout that is set again starts anew, even with the same value. */
        if (w && (w->wanted != wanted || w->fd < 0)) {
                w->wanted = wanted;
                watch_changed(w);
        }
        pthread_mutex_unlock(&loop.mutex);
}

static int remove_watch(int id) {
        Watch *w;

        pthread_mutex_lock(&loop.mutex);
        w = watch_find(id);
        if (w) {
                w->removed = true;
                watch_changed(w);
        }
        pthread_mutex_unlock(&loop.mutex);
        return w ? 0 : -1;
}

static int add_handle(int fd, int events, virEventHandleCallback callback, void *opaque,
                      virFreeCallback free_opaque) {
        return add(&(Watch){ .fd = fd,
                             .wanted = events,
                             .callback.handle = callback,
                             .opaque = opaque,
                             .free_opaque = free_opaque });
}

static int add_timeout(int milliseconds, virEventTimeoutCallback callback, void *opaque,
                       virFreeCallback free_opaque) {
        return add(&(Watch){ .fd = -1,
                             .wanted = milliseconds,
                             .callback.timeout = callback,
                             .opaque = opaque,
                             .free_opaque = free_opaque });
}

int libvirt_event_register(sd_event *event) {
        int r;

        loop.main_thread = pthread_self();
        loop.event = event;
        loop.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        if (loop.fd < 0)
                return -errno;
        r = sd_event_add_io(event, NULL, loop.fd, EPOLLIN, on_changed, NULL);
        if (r < 0)
                return r;

        virEventRegisterImpl(add_handle, update, remove_watch, add_timeout, update, remove_watch);
        return 0;
}
