#!/bin/sh
# The one service of the virtual machine: runs the command with its output on two ports, reports its exit code
# on a third, and switches the machine off.
here=/run/oxcni-vm
. "$here/job"
busybox() { "$here/busybox" "$@"; }
port() {
	for entry in /sys/class/virtio-ports/*/name; do
		read -r name <"$entry"
		[ "$name" = "$1" ] && { entry=${entry%/name}; echo "/dev/${entry##*/}"; return; }
	done
}
exec 3>"$(port oxcni.status)"
# The process that started the machine ends it at the time limit. This is for the case that it is gone.
(busybox sleep "$LIMIT"; busybox poweroff -f) 3>&- &
echo started >&3

if [ "$INTERACTIVE" = 1 ]; then
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
