# libuservm. The third number of version-info is raised with every release, the first two when the
# interface grows (libtool's manual, "Updating library version information"); the soname stays
# libuservm.so.0, as the interface never shrinks.

lib_LTLIBRARIES += libuservm.la
libuservm_la_SOURCES = \
	client-lib/call.c \
	client-lib/dictionary.c client-lib/dictionary.h \
	client-lib/disk.c \
	client-lib/handle.c \
	client-lib/internal.h \
	client-lib/job.c \
	client-lib/objects.c \
	client-lib/operation.c \
	client-lib/operation-config.c \
	client-lib/settings.c \
	client-lib/value.c \
	client-lib/watch.c
libuservm_la_CFLAGS = $(AM_CFLAGS) -fvisibility=hidden
libuservm_la_LIBADD = $(SYSTEMD_LIBS)
libuservm_la_LDFLAGS = $(AM_LDFLAGS) -version-info 0:0:0 \
                       -Wl,--version-script=$(srcdir)/client-lib/libuservm.sym
EXTRA_libuservm_la_DEPENDENCIES = client-lib/libuservm.sym

include_HEADERS = client-lib/uservm.h
pkgconfigdir = $(libdir)/pkgconfig
pkgconfig_DATA = client-lib/libuservm.pc

EXTRA_DIST += client-lib/libuservm.sym
