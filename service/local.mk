# uservmd. All but main.c is a library, so that the unit tests link what they test.

noinst_LIBRARIES += service/libservice.a
service_libservice_a_SOURCES = \
	service/autostart.c service/autostart.h \
	service/backlog.c service/backlog.h \
	service/client.c service/client.h \
	service/connection.c service/connection.h \
	service/create.c service/create.h \
	service/disk.c service/disk.h \
	service/disk-check.c service/disk-check.h \
	service/domain-build.c service/domain-build.h \
	service/domain-files.c service/domain-files.h \
	service/domain-forward.c service/domain-forward.h \
	service/domain-live.c service/domain-live.h \
	service/domain-xml.c service/domain-xml.h \
	service/error.c service/error.h \
	service/forward.c service/forward.h \
	service/guest-probe.c service/guest-probe.h \
	service/guest-setup.c service/guest-setup.h \
	service/guest-setup-check.c \
	service/guest-watch.c service/guest-watch.h \
	service/host.c service/host.h \
	service/host-port.c service/host-port.h \
	service/idle.c service/idle.h \
	service/image-info.c service/image-info.h \
	service/job.c service/job.h \
	service/job-bus.c service/job-bus.h \
	service/libvirt-event.c service/libvirt-event.h \
	service/log.c service/log.h \
	service/manager.c service/manager.h \
	service/manager-bus.c service/manager-bus.h \
	service/memory.c service/memory.h \
	service/network-watch.c service/network-watch.h \
	service/nic-plug.c service/nic-plug.h \
	service/nic-store.c service/nic-store.h \
	service/operation.c service/operation.h \
	service/passt.c service/passt.h \
	service/passt-forward.c \
	service/port-check.c service/port-check.h \
	service/process.c service/process.h \
	service/qemu-img.c service/qemu-img.h \
	service/runtime.c service/runtime.h \
	service/save.c service/save.h \
	service/seed-image.c service/seed-image.h \
	service/settings.c service/settings.h \
	service/settings-check.c \
	service/size.c service/size.h \
	service/storage.c service/storage.h \
	service/utf8.c service/utf8.h \
	service/util.h \
	service/vm.c service/vm.h \
	service/vm-bus.c service/vm-bus.h \
	service/vm-config.c service/vm-config.h \
	service/vm-forward.c service/vm-forward.h \
	service/vm-log.c service/vm-log.h \
	service/vm-lifecycle.c service/vm-lifecycle.h \
	service/vm-network.c service/vm-network-start.c service/vm-network.h \
	service/vm-snapshot.c service/vm-snapshot.h \
	service/worker.c service/worker.h \
	service/xml.c service/xml.h

libexec_PROGRAMS += uservmd
uservmd_SOURCES = service/main.c
uservmd_LDADD = service/libservice.a $(LIBS_SERVICE)
