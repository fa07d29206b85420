# systemd user units, D-Bus activation, and the process behind uservm@.service.

libexec_PROGRAMS += uservm-unit
uservm_unit_SOURCES = units/uservm-unit.c
uservm_unit_LDADD = service/libservice.a $(SYSTEMD_LIBS)

GENERATED_UNITS = units/uservmd.service units/uservm@.service
dist_userunit_DATA = units/uservmd.path
userunit_DATA = $(GENERATED_UNITS)
dbusservices_DATA = units/org.uservm1.service

EXTRA_DIST += units/uservmd.service.in units/uservm@.service.in units/org.uservm1.service.in
CLEANFILES += $(GENERATED_UNITS) $(dbusservices_DATA)

units/uservmd.service: units/uservmd.service.in
units/uservm@.service: units/uservm@.service.in
units/org.uservm1.service: units/org.uservm1.service.in
$(GENERATED_UNITS) $(dbusservices_DATA): Makefile
	$(AM_V_GEN)$(MKDIR_P) $(@D) && $(SUBSTITUTE) $(srcdir)/$@.in >$@

# Nobody has to enable it.
install-data-hook:
	$(MKDIR_P) $(DESTDIR)$(userunitdir)/paths.target.wants
	cd $(DESTDIR)$(userunitdir)/paths.target.wants && $(LN_S) -f ../uservmd.path uservmd.path

uninstall-hook:
	rm -f $(DESTDIR)$(userunitdir)/paths.target.wants/uservmd.path
