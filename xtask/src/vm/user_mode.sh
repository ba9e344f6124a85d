#!/bin/sh
# First process of user-mode Linux. It puts the host's root, which hostfs shows, under an overlay, so that what
# is written stays in the machine, and runs one command there. `settings`, beside it, names all that it needs.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
. "$(dirname "$0")/settings"
ROOT=/mnt/root

prepare() {
	mount -t proc proc /proc &&
		insmod "$MODULES/kernel/fs/overlayfs/overlay.ko" &&
		mount -t tmpfs -o mode=755 upper /mnt &&
		mkdir /mnt/upper /mnt/work "$ROOT" &&
		mount -t overlay -o lowerdir=/,upperdir=/mnt/upper,workdir=/mnt/work overlay "$ROOT" &&
		mkdir -p "$ROOT$FOLDER" "$ROOT$RESULTS" "$ROOT/usr/lib/modules" "$ROOT/old" &&
		mount -t hostfs -o "$FOLDER" hostfs "$ROOT$FOLDER" &&
		mount -t hostfs -o "$RESULTS" hostfs "$ROOT$RESULTS" &&
		mount -t proc proc "$ROOT/proc" &&
		mount -t sysfs sysfs "$ROOT/sys" &&
		mount -t cgroup2 cgroup2 "$ROOT/sys/fs/cgroup" &&
		mount -t tmpfs -o mode=755 run "$ROOT/run" &&
		mount -t devtmpfs dev "$ROOT/dev" &&
		mkdir "$ROOT/dev/pts" "$ROOT/dev/shm" "$ROOT/run/lock" &&
		mount -t devpts devpts "$ROOT/dev/pts" &&
		mount -t tmpfs shm "$ROOT/dev/shm" &&
		ln -s /proc/self/fd "$ROOT/dev/fd" &&
		ln -sfn "$MODULES" "$ROOT/usr/lib/modules/$RELEASE" &&
		# The kernel loads modules by modprobe(8) in this root.
		cd "$ROOT" && pivot_root . old && ip link set lo up
}

if prepare; then
	sh "$FOLDER/command" <&- >"$FOLDER/output" 2>&1
	echo $? >"$FOLDER/exit"
fi
sync
busybox poweroff -f
