#!/bin/sh
# First process of the virtual machine once the host's root is in place: runs the command with
# its output on two ports, reports its exit code on a third, and switches the machine off.
status=$1 interactive=$2 limit=$3
here=/run/oxcni-vm
busybox() { "$here/busybox" "$@"; }
port() {
	for entry in /sys/class/virtio-ports/*/name; do
		read -r name <"$entry"
		[ "$name" = "$1" ] && { entry=${entry%/name}; echo "/dev/${entry##*/}"; return; }
	done
}
exec 3>"$status"
busybox mount --make-rshared /
# The process that started the machine ends it at the time limit. This is for the case that it is gone.
(busybox sleep "$limit"; busybox poweroff -f) 3>&- &
echo started >&3

if [ "$interactive" = 1 ]; then
	busybox setsid -c /bin/sh "$here/command" <>/dev/hvc0 >&0 2>&1 3>&-
	code=$?
else
	# Pipes, not the ports themselves: what the command starts may open /dev/stdout again.
	busybox mkfifo "$here/stdout" "$here/stderr"
	"$here/busybox" cat "$here/stdout" >"$(port oxcni.stdout)" 3>&- & out=$!
	"$here/busybox" cat "$here/stderr" >"$(port oxcni.stderr)" 3>&- & err=$!
	busybox setsid /bin/sh "$here/command" </dev/null >"$here/stdout" 2>"$here/stderr" 3>&-
	code=$?
	# A process that the command started may hold the pipes open; what the command itself wrote arrives soon.
	(busybox sleep 2; busybox kill "$out" "$err") 2>/dev/null &
	wait "$out" "$err"
fi
echo "exit $code" >&3
busybox poweroff -f
