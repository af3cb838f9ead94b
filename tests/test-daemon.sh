#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
#
# The daemon's life: its command line, its start, and every way it can end.
. "${top_srcdir:-$(dirname "$0")/..}/tests/lib.sh"
need_lunfs
need_root
need_cmd setsid

truncate -s 4M "$T/lun0"
write_conf <<-END
	[element db0]
	url = file://$T/lun0
	access = exclusive
END
DATA=$MNT/elements/db0/data

data_readable()
{
	[ "$(head -c 4096 "$DATA" | wc -c)" -eq 4096 ]
}

mounts()
{
	grep -cF " $MNT " /proc/self/mountinfo || :
}

# hold CMD...: runs it in a session of its own until the test's end; $holder.
hold()
{
	setsid "$@" < /dev/null > "$T/holder.out" 2>&1 {never_fd}<&- &
	holder=$!
	started_pids+=("$holder")
	disown "$holder"
}

# Sits in the mount with its working directory, and has data open and mapped.
hold_mount()
{
	cat > "$T/hold.py" <<-END
		import mmap, os, signal, sys
		os.chdir(sys.argv[1])
		fd = os.open("elements/db0/data", os.O_RDONLY)
		m = mmap.mmap(fd, 4096, mmap.MAP_SHARED, mmap.PROT_READ)
		m[0]
		print("holding", flush=True)
		signal.pause()
	END
	need_cmd python3
	hold python3 "$T/hold.py" "$MNT"
	wait_until 10 file_has "$T/holder.out" holding
}

end_holder()
{
	kill -KILL "$holder"
	wait_until 10 ended "$holder"
}

# ---- the command line ----

note "wrong usage: exit code 2, a sentence, and where to look"
must_fail "$LUNFS"
assert_eq 2 "$RC" "exit code"
assert_match 'MOUNTPOINT is missing.*see lunfs --help' "$OUTPUT"
must_fail "$LUNFS" -o default_permissions "$MNT"
assert_eq 2 "$RC" "exit code"
assert_match '-o default_permissions: LunFS checks permissions itself' "$OUTPUT"
"$LUNFS" --help | grep '^usage: lunfs ' > /dev/null
"$LUNFS" --version | grep -E '^lunfs [0-9]' > /dev/null

note "--check tells what is there, and mounts, locks and makes nothing"
rmdir "$STATE"
assert_eq "$CONF: ok: 1 element, 1 pool, 0 access points, 0 settings" \
	"$("$LUNFS" --check -c "$CONF")"
[ ! -e "$STATE" ] || fail "--check made $STATE"
[ -z "$(ls -A "$POOL")" ] || fail "--check left something in the pool"

note "the example of a configuration is good"
"$LUNFS" --check -c "$top_srcdir/contrib/lunfs.conf.example" | grep ': ok: 2 elements, 1 pool,' > /dev/null

note "--check names file, line and remedy of each problem"
printf '[elment db0]\nurl = file:///x\n[daemon]\nio_timeuot = 3\n' > "$T/bad.conf"
must_fail "$LUNFS" --check -c "$T/bad.conf"
assert_eq 1 "$RC" "exit code"
assert_match "$T/bad.conf:1: .*elment.*element" "$OUTPUT"
assert_match "$T/bad.conf:4: .*io_timeuot.*io_timeout" "$OUTPUT"
: > "$T/file"
printf '[daemon]\nstate_dir = %s\n[pool p]\ntype = dir\npath = %s\n' \
	"$STATE" "$T/file/pool" > "$T/bad.conf"
must_fail "$LUNFS" --check -c "$T/bad.conf"
assert_match "$T/bad.conf:3: \[pool p\] path = $T/file/pool: .*[Nn]ot a directory" "$OUTPUT"
printf '[daemon]\nstate_dir = %s\n[pool p]\ntype = dir\npath = %s\n' \
	"$STATE" "$T/nothing/pool" > "$T/bad.conf"
must_fail "$LUNFS" --check -c "$T/bad.conf"
assert_match "$T/nothing: No such file or directory: make that directory first" "$OUTPUT"

# ---- a start that fails ----

note "a start that fails exits 1, says why and leaves nothing mounted"
printf '[daemon]\nio_timeuot = 3\n' > "$T/bad.conf"
must_fail "$LUNFS" -c "$T/bad.conf" "$MNT"
assert_eq 1 "$RC" "exit code"
assert_match "$T/bad.conf:2: " "$OUTPUT"
must_fail "$LUNFS" -c "$T/nothing.conf" "$MNT"
assert_match "$T/nothing.conf: " "$OUTPUT"
must_fail "$LUNFS" -c "$CONF" "$T/nothing"
assert_match "$T/nothing: No such file or directory: make the directory first" "$OUTPUT"
must_fail "$LUNFS" -c "$CONF" "$T/file"
assert_match "$T/file: not a directory" "$OUTPUT"
assert_eq 0 "$(mounts)" "mounts"

# ---- readiness ----

note "when lunfs returns, the tree is there and nothing of the caller is held"
text=$("$LUNFS" -c "$CONF" "$MNT" 2>&1 9> "$T/inherited")
lunfs_pid=$(lunfs_processes "$MNT")
lunfs_pids+=("$lunfs_pid")
assert_eq "" "$text" "output"
ls "$MNT/elements" > /dev/null
wait_until 20 data_readable
ls -l "/proc/$lunfs_pid/fd" > "$T/fds"
if grep -F "$T/inherited" "$T/fds"; then
	fail "the daemon keeps a descriptor of its caller"
fi
assert_eq / "$(readlink "/proc/$lunfs_pid/cwd")" "working directory"
assert_eq "$lunfs_pid" "$(ps -o sid= -p "$lunfs_pid" | tr -d ' ')" "session"

note "a second daemon is refused: at the same mountpoint, with the same state, with the same pool"
must_fail "$LUNFS" -c "$CONF" "$MNT"
assert_match "$MNT: LunFS is already mounted here \(process $lunfs_pid\)" "$OUTPUT"
assert_match "lunfs --stop $MNT" "$OUTPUT"
mkdir "$T/mnt2" "$T/state2"
must_fail "$LUNFS" -c "$CONF" "$T/mnt2"
assert_eq 1 "$RC" "exit code"
assert_match "$STATE" "$OUTPUT"
sed "s|^state_dir = .*|state_dir = $T/state2|" "$CONF" > "$T/second.conf"
must_fail "$LUNFS" -c "$T/second.conf" "$T/mnt2"
assert_match "$POOL" "$OUTPUT"
if grep -qF " $T/mnt2 " /proc/self/mountinfo; then
	fail "a refused daemon left a mount"
fi
ls "$MNT/elements" > /dev/null

# ---- --stop ----

note "--stop refuses while data is open, names the element, and changes nothing"
exec {data_fd}< "$DATA"
must_fail "$LUNFS" --stop "$MNT"
assert_eq 1 "$RC" "exit code"
assert_match 'db0' "$OUTPUT"
assert_match '--force' "$OUTPUT"
data_readable
if ended "$lunfs_pid"; then
	fail "the daemon has ended"
fi

note "--stop --force goes on; what was open is dead"
stop_lunfs --force
must_fail head -c 1 "/proc/self/fd/$data_fd"
exec {data_fd}<&-
assert_eq 0 "$(mounts)" "mounts"

note "--stop of what is no LunFS mount"
must_fail "$LUNFS" --stop "$MNT"
assert_eq 1 "$RC" "exit code"
assert_match "$MNT: no LunFS is mounted here" "$OUTPUT"
must_fail "$LUNFS" --stop "$T/nothing"
assert_match "No such file or directory" "$OUTPUT"
must_fail "$LUNFS" --stop /proc
assert_match "/proc: no LunFS is mounted here" "$OUTPUT"

note "--stop through a symbolic link and with a slash at the end"
start_lunfs
ln -s mnt "$T/link"
stop_lunfs "$T/link/"
assert_eq 0 "$(mounts)" "mounts"

# ---- killed ----

note "the mount of a killed daemon is cleared at the next start"
start_lunfs
kill9_lunfs
must_fail ls "$MNT"
start_lunfs
wait_until 20 data_readable
assert_eq 1 "$(mounts)" "mounts"

note "also with a process in it"
hold_mount
kill9_lunfs
start_lunfs
wait_until 20 data_readable
assert_eq 1 "$(mounts)" "mounts"
end_holder

note "--stop clears it and says so"
kill9_lunfs
text=$("$LUNFS" --stop "$MNT")
assert_match "$MNT: its daemon was gone already.*cleared" "$text"
assert_eq 0 "$(mounts)" "mounts"

# ---- SIGTERM, SIGINT, umount ----

note "SIGTERM ends it though the mount is in use; a parked read gets ENOTCONN"
start_lunfs
wait_until 20 data_readable
mkdir "$MNT/groups/g"
hold_mount
in_use=$holder
hold cat "$MNT/groups/g/wait/Synchronized"
# Its read is in flight: it sleeps in the kernel's FUSE client.
wait_until 10 grep -q fuse "/proc/$holder/wchan" "/proc/$holder/stack"
kill -TERM "$lunfs_pid"
wait_until 20 ended "$lunfs_pid"
assert_eq 0 "$(mounts)" "mounts"
wait_until 10 ended "$holder"
assert_match 'not connected' "$(cat "$T/holder.out")"
check_sanitizers
holder=$in_use
end_holder

note "the tree is as it was, and umount ends the daemon"
start_lunfs
[ -d "$MNT/groups/g" ] || fail "groups/g is gone"
umount "$MNT"
wait_until 20 ended "$lunfs_pid"
check_sanitizers

note "so does an abort of the connection; its dead mount goes with it"
mkdir "$T/connections"
if mount -t fusectl none "$T/connections" 2> /dev/null; then
	start_lunfs
	device=$(awk -v m="$MNT" '$5 == m { sub(/.*:/, "", $3); print $3 }' /proc/self/mountinfo)
	echo 1 > "$T/connections/$device/abort"
	wait_until 20 ended "$lunfs_pid"
	assert_eq 0 "$(mounts)" "mounts"
	umount "$T/connections"
	check_sanitizers
else
	note "not tried: fusectl cannot be mounted"
fi

note "in the foreground: messages on stderr, SIGINT ends it with 0"
: > "$T/lunfs.log"
"$LUNFS" -f -c "$CONF" "$MNT" > "$T/lunfs.log" 2>&1 < /dev/null {never_fd}<&- &
lunfs_pid=$!
lunfs_pids+=("$lunfs_pid")
wait_until 20 grep -qF "$MNT: mounted" "$T/lunfs.log"
kill -INT "$lunfs_pid"
RC=0
wait "$lunfs_pid" || RC=$?
assert_eq 0 "$RC" "exit code"
grep -qF "$MNT: ended" "$T/lunfs.log"
assert_eq 0 "$(mounts)" "mounts"
check_sanitizers

# ---- SIGHUP ----

note "SIGHUP reads the configuration again, takes over what it can and reports"
start_lunfs_foreground
wait_until 20 grep -qF "$MNT: mounted" "$T/lunfs.log"
kill -HUP "$lunfs_pid"
wait_until 10 grep -qF "$CONF: read again: nothing has changed" "$T/lunfs.log"
cp "$CONF" "$T/good.conf"
truncate -s 1M "$T/lun1" "$T/lun1b"
printf '[element db1]\nurl = file://%s/lun1\n' "$T" >> "$CONF"
kill -HUP "$lunfs_pid"
wait_until 10 grep -qF "[element db1] added" "$T/lunfs.log"
wait_until 10 file_has "$MNT/elements/db1/OperationalStatus" OK
sed -i "s|$T/lun1\$|$T/lun1b|" "$CONF"
exec 8< "$MNT/elements/db1/data"
kill -HUP "$lunfs_pid"
wait_until 10 grep -qF "[element db1] has changed and is left as it was" "$T/lunfs.log"
file_has "$MNT/elements/db1/url" "file://$T/lun1"
exec 8<&-
released() { ! grep -q . <(getfattr --only-values -n user.lunfs.handles "$MNT" 2> /dev/null); }
wait_until 10 released
kill -HUP "$lunfs_pid"
wait_until 10 grep -qF "[element db1] taken over" "$T/lunfs.log"
file_has "$MNT/elements/db1/url" "file://$T/lun1b"
# What an open element can take over.
exec 8< "$MNT/elements/db1/data"
echo "write_cache = through" >> "$CONF"
kill -HUP "$lunfs_pid"
taken_over_twice() { [ "$(grep -cF "[element db1] taken over" "$T/lunfs.log")" -eq 2 ]; }
wait_until 10 taken_over_twice
exec 8<&-
wait_until 10 released
# One that is used stays, in Error, and works again when it is put back.
cp "$CONF" "$T/with-db1.conf"
mkdir "$MNT/groups/r" "$MNT/groups/c"
echo db1 > "$MNT/groups/r/members"
echo "SourceGroup=r SyncType=Clone" > "$MNT/groups/c/spec"
timeout 20 cat "$MNT/groups/c/wait/Synchronized"
cp "$T/good.conf" "$CONF"
kill -HUP "$lunfs_pid"
wait_until 10 file_has "$MNT/elements/db1/OperationalStatus" Error
grep -q "no longer configured" "$MNT/elements/db1/error"
# At once, not after io_timeout.
must_fail timeout 10 dd if="$MNT/elements/db1/data" of=/dev/null bs=4k count=1
assert_match "Input/output error" "$OUTPUT" "data of an element that is not configured"
cp "$T/with-db1.conf" "$CONF"
kill -HUP "$lunfs_pid"
wait_until 10 file_has "$MNT/elements/db1/OperationalStatus" OK
timeout 20 cmp "$MNT/elements/db1/data" "$T/lun1b"
cp "$T/good.conf" "$CONF"
kill -HUP "$lunfs_pid"
wait_until 10 file_has "$MNT/elements/db1/OperationalStatus" Error
echo ReturnToResourcePool > "$MNT/groups/c/control"
rmdir "$MNT/groups/c" "$MNT/groups/r"
# Idle now, it goes with the next one.
kill -HUP "$lunfs_pid"
wait_until 10 gone "$MNT/elements/db1"
echo "io_timeout = 40" > "$T/daemon.conf"
sed "/^\[daemon\]/r $T/daemon.conf" "$T/good.conf" > "$CONF"
kill -HUP "$lunfs_pid"
wait_until 10 grep -qF "[daemon] has changed: that needs a restart" "$T/lunfs.log"
echo 'nonsense' >> "$CONF"
kill -HUP "$lunfs_pid"
wait_until 10 grep -qF "the configuration in force stays" "$T/lunfs.log"
grep -qE "$CONF:[0-9]+: " "$T/lunfs.log"
cp "$T/good.conf" "$CONF"
stop_lunfs

# ---- a pool that is not mounted ----

note "a pool that has lost its file system: no start, and nothing of it is given up"
start_lunfs
mkdir "$MNT/groups/kept"
echo "SourceElement=db0 SyncType=Snapshot" > "$MNT/groups/kept/spec"
dd if="$MNT/groups/kept/images/db0" of="$T/kept" bs=1M status=none
echo overwritten | dd of="$DATA" conv=notrunc,fsync status=none
stop_lunfs
mv "$POOL" "$T/unmounted"
mkdir "$POOL"
must_fail timeout 30 "$LUNFS" -c "$CONF" "$MNT"
assert_match "pool pool0: $POOL has no lunfs.pool.*2 images and points .*mount" "$OUTPUT"
assert_eq "" "$(ls -A "$POOL")" "what was made where nothing is mounted"
rmdir "$POOL"
must_fail timeout 30 "$LUNFS" -c "$CONF" "$MNT"
mv "$T/unmounted" "$POOL"
start_lunfs
assert_eq Synchronized "$(cat "$MNT/groups/kept/CopyState")"
cmp "$T/kept" "$MNT/groups/kept/images/db0"
stop_lunfs
# What is lost for good can be given up.
rm -rf "$POOL"
mkdir "$POOL"
: > "$POOL/lunfs.pool"
start_lunfs
assert_eq Broken "$(cat "$MNT/groups/kept/CopyState")"
echo ReturnToResourcePool > "$MNT/groups/kept/control"
rmdir "$MNT/groups/kept"
stop_lunfs

# ---- one that does not answer ----

note "a daemon that does not answer holds up neither a start nor --stop"
start_lunfs
kill -STOP "$lunfs_pid"
must_fail timeout 30 "$LUNFS" -c "$CONF" "$MNT"
assert_eq 1 "$RC" "exit code"
assert_match 'does not answer' "$OUTPUT"
must_fail timeout 30 "$LUNFS" --stop "$MNT"
assert_eq 1 "$RC" "exit code"
assert_match 'does not answer' "$OUTPUT"
kill -CONT "$lunfs_pid"
stop_lunfs

# ---- systemd ----

note "systemd is told of readiness and end"
if ! ldd "$LUNFS" | grep libsystemd > /dev/null || ! type -P python3 > /dev/null; then
	note "not tried: built without libsystemd, or there is no python3"
	exit 0
fi
cat > "$T/notify.py" <<-END
	import socket, sys
	s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
	s.bind(sys.argv[1])
	while True:
	    print(s.recv(4096).decode(), flush=True)
END
run_in_background python3 "$T/notify.py" "$T/notify" > "$T/notify.out"
wait_until 10 test -S "$T/notify"
NOTIFY_SOCKET=$T/notify start_lunfs_foreground
wait_until 10 grep -qx READY=1 "$T/notify.out"
stop_lunfs
wait_until 10 grep -qx STOPPING=1 "$T/notify.out"
