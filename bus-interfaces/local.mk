# The D-Bus API, for people and for tools: tests hold the running service against these files.

dbusinterfaces_DATA = bus-interfaces/org.uservm1.Job.xml bus-interfaces/org.uservm1.Manager.xml \
                      bus-interfaces/org.uservm1.VM.xml

EXTRA_DIST += $(dbusinterfaces_DATA)
