#!/bin/sh
# First process of the virtual machine, run by busybox from the initial memory file system.
# It puts the host's root (read-only, over virtio-9p) under an overlay, so that what is
# written stays in the machine, and runs one command there, which /job names.
export PATH=/bin
fail() { echo "oxcni-vm: $*" >/dev/console; [ -n "$STATUS" ] && echo "broken $*" >"$STATUS"; poweroff -f; }

mount -t proc proc /proc && mount -t sysfs sysfs /sys && mount -t devtmpfs dev /dev || fail "no proc, sys or dev"
for module in $(cat /modules.order); do
	insmod "/modules/$module" || fail "can't load $module"
done
. /job

# The ports' names arrive by a message of their own, shortly after their driver.
port() {
	tries=0
	while :; do
		for entry in /sys/class/virtio-ports/*/name; do
			[ -e "$entry" ] && [ "$(cat "$entry")" = "$1" ] || continue
			device=/dev/$(basename "$(dirname "$entry")")
			[ -e "$device" ] && { echo "$device"; return; }
		done
		tries=$((tries + 1)); [ $tries -gt 500 ] && fail "no port $1"
		usleep 10000
	done
}
STATUS=$(port oxcni.status)

mkdir -p /host /scratch /root
mount -t 9p -o trans=virtio,version=9p2000.L,cache=loose,msize=512000,ro host /host || fail "can't mount the host's root"
mount -t ext4 -o noatime,nobarrier /dev/vda /scratch || fail "can't mount the scratch disk"
mkdir -p /scratch/upper /scratch/work
mount -t overlay -o lowerdir=/host,upperdir=/scratch/upper,workdir=/scratch/work overlay /root || fail "can't mount the overlay"

mkdir -p "/root$RESULTS" "/root/usr/lib/modules/$RELEASE"
mount -t 9p -o trans=virtio,version=9p2000.L,msize=512000 results "/root$RESULTS" || fail "can't mount the results folder"
mount -o bind "/root$MODULES/lib/modules/$RELEASE" "/root/usr/lib/modules/$RELEASE" || fail "no modules"
mount -o move /dev /root/dev && mount -o move /proc /root/proc && mount -o move /sys /root/sys || fail "can't move mounts"
mount -t tmpfs -o mode=755 run /root/run
mkdir -p /root/dev/pts /root/dev/shm /root/run/oxcni-vm
mount -t devpts -o mode=620,ptmxmode=666 devpts /root/dev/pts
mount -t tmpfs shm /root/dev/shm
ln -sf /proc/self/fd /root/dev/fd
ln -sf /proc/self/fd/0 /root/dev/stdin
ln -sf /proc/self/fd/1 /root/dev/stdout
ln -sf /proc/self/fd/2 /root/dev/stderr
mount -t cgroup2 cgroup2 /root/sys/fs/cgroup
ip link set lo up
hostname oxcni-vm

cp /bin/busybox /second /command /job /root/run/oxcni-vm/
# systemd starts one service, which runs the second script. What it does besides as a machine starts is done
# already, or would be wrong here, such as emptying /tmp; units that a test starts get the journal of it.
mkdir -p /root/run/systemd/system /root/run/systemd/system-generators
cat /second.service >/root/run/systemd/system/oxcni-vm.service
for file in /root/lib/systemd/system/sysinit.target.wants/* /root/etc/systemd/system/sysinit.target.wants/* \
	/root/lib/systemd/system-generators/*; do
	kind=system
	case $file in
	*/systemd-journald.service | *'*') continue ;;
	*/system-generators/*) kind=system-generators ;;
	esac
	ln -s /dev/null "/root/run/systemd/$kind/$(basename "$file")"
done
# systemd takes a machine without an id for a new one, and enables all units; with this file, for a container.
rm -f /root/.dockerenv
[ -s /root/etc/machine-id ] || echo 0123456789abcdef0123456789abcdef >/root/etc/machine-id
exec switch_root /root /lib/systemd/systemd
