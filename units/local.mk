# systemd user units, D-Bus activation, and the process behind uservm@.service.

libexec_PROGRAMS += uservm-unit
uservm_unit_SOURCES = units/uservm-unit.c
uservm_unit_LDADD = service/libservice.a $(SYSTEMD_LIBS)

userunit_DATA = units/uservmd.service units/uservm@.service
dbusservices_DATA = units/org.uservm1.service

EXTRA_DIST += units/uservmd.service.in units/uservm@.service.in units/org.uservm1.service.in
CLEANFILES += $(userunit_DATA) $(dbusservices_DATA)

units/uservmd.service: units/uservmd.service.in
units/uservm@.service: units/uservm@.service.in
units/org.uservm1.service: units/org.uservm1.service.in
$(userunit_DATA) $(dbusservices_DATA): Makefile
	$(AM_V_GEN)$(MKDIR_P) $(@D) && $(SUBSTITUTE) $(srcdir)/$@.in >$@
