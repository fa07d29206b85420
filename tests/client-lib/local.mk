# libuservm's tests. The library is linked as others would, with its header alone. The example of
# the manual page is compiled as it stands there.

LIBRARY_TESTS = tests/client-lib/test-libuservm
check_PROGRAMS += $(LIBRARY_TESTS)
tests_client_lib_test_libuservm_SOURCES = \
	tests/client-lib/private-bus.c tests/client-lib/private-bus.h \
	tests/client-lib/test-libuservm.c tests/unit/test.h
tests_client_lib_test_libuservm_CPPFLAGS = $(AM_CPPFLAGS) -I$(top_srcdir)/client-lib \
                                           -I$(top_srcdir)/tests
tests_client_lib_test_libuservm_LDADD = libuservm.la $(SYSTEMD_LIBS)

LIBRARY_EXAMPLES = tests/client-lib/manual-example
EXTRA_PROGRAMS = tests/client-lib/manual-example tests/client-lib/glib-example
CLEANFILES += $(EXTRA_PROGRAMS) tests/client-lib/manual-example.c
nodist_tests_client_lib_manual_example_SOURCES = tests/client-lib/manual-example.c
tests_client_lib_manual_example_CPPFLAGS = -I$(top_srcdir)/client-lib
tests_client_lib_manual_example_LDADD = libuservm.la

tests/client-lib/manual-example.c: docs/libuservm.3
	$(AM_V_GEN)$(MKDIR_P) tests/client-lib && \
	$(SED) -n -e '/^\.Bd -literal/,/^\.Ed/{/^\./d;s/^\\&//;s/\\e/\\/g;p}' \
		$(srcdir)/docs/libuservm.3 >$@

if HAVE_GLIB
LIBRARY_EXAMPLES += tests/client-lib/glib-example
endif
tests_client_lib_glib_example_SOURCES = docs/examples/glib-main-loop.c
tests_client_lib_glib_example_CPPFLAGS = -I$(top_srcdir)/client-lib
tests_client_lib_glib_example_CFLAGS = $(AM_CFLAGS) $(GLIB_CFLAGS)
tests_client_lib_glib_example_LDADD = libuservm.la $(GLIB_LIBS)

TESTS += tests/client-lib/test-symbols
$(LIBRARY_TESTS:libuservm=libuservm.log): uservmd $(LIBRARY_EXAMPLES)

EXTRA_DIST += tests/client-lib/page.c tests/client-lib/test-symbols
