#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
#
# A daemon of a user without privileges: mounted, stopped and cleared by
# fusermount3.  Run by root it is the user nobody (fusermount3 wants one that has
# a name), and /dev/fuse is opened to all for its time; else it is the caller.
. "${top_srcdir:-$(dirname "$0")/..}/tests/lib.sh"
need_lunfs
need_cmd fusermount3

as_user=()
if [ "$(id -u)" -eq 0 ]; then
	need_cmd setpriv
	[ -u "$(type -P fusermount3)" ] || skip "fusermount3 is not setuid root"
	UID_OF_TEST=$(id -u nobody) || skip "there is no user nobody"
	as_user=(setpriv "--reuid=$UID_OF_TEST" "--regid=$UID_OF_TEST" --clear-groups)
	mode=$(stat -c %a /dev/fuse)
	trap 'rc=$?; set +e; trap - ERR; chmod "$mode" /dev/fuse; (exit "$rc"); finish' EXIT
	chmod 0666 /dev/fuse
	# The build directory may be closed to others.
	install -m 0755 "$LUNFS" "$T/lunfs"
	LUNFS=$T/lunfs
	chmod 0711 "$T"
	: >> "$T/lunfs.log"
	chown "$UID_OF_TEST:$UID_OF_TEST" "$MNT" "$POOL" "$STATE"
	chmod 0700 "$MNT"
	# Reports of sanitizers are the user's files.
	mkdir -m 0777 "$T/reports"
	for name in ASAN UBSAN TSAN; do
		export "${name}_OPTIONS=log_path=$T/reports/sanitizer"
	done
fi

# user CMD...: as the unprivileged user.
user()
{
	"${as_user[@]}" "$@"
}

truncate -s 1M "$T/lun0"
chmod 0644 "$T/lun0"
write_conf <<-END
	[element db0]
	url = file://$T/lun0
END
chmod 0644 "$CONF"

start()
{
	user timeout 60 "$LUNFS" -c "$CONF" "$MNT" < /dev/null >> "$T/lunfs.log" 2>&1 {never_fd}<&- ||
		fail "lunfs $MNT: exit code $?"
	lunfs_pid=$(lunfs_processes "$MNT")
	[ -n "$lunfs_pid" ] || fail "there is no daemon"
	lunfs_pids+=("$lunfs_pid")
	user ls "$MNT/elements" > /dev/null
}

mounts()
{
	grep -cF " $MNT " /proc/self/mountinfo || :
}

check_reports()
{
	local f
	for f in "$T"/reports/sanitizer.*; do
		[ ! -s "$f" ] || fail "a sanitizer reports: $(cat "$f")"
	done
}

note "a user mounts, looks, and stops"
start
user "$LUNFS" --stop "$MNT"
wait_until 10 ended "$lunfs_pid"
assert_eq 0 "$(mounts)" "mounts"
check_reports

note "a first start in a home that has no .local/state"
install -d -m 0700 "$T/home"
[ "$(id -u)" -ne 0 ] || chown "$UID_OF_TEST:$UID_OF_TEST" "$T/home"
cp "$CONF" "$T/kept.conf"
sed -i "/^state_dir/d; s,^path = .*,path = $T/home/pool," "$CONF"
export HOME=$T/home
unset XDG_STATE_HOME
user "$LUNFS" --check -c "$CONF" > /dev/null
assert_eq "" "$(ls -A "$T/home")" "what --check makes"
start
user test -s "$T/home/.local/state/lunfs/lunfs.db"
assert_eq 700 "$(stat -c %a "$T/home/.local")" "mode"
user "$LUNFS" --stop "$MNT"
wait_until 10 ended "$lunfs_pid"
chmod 0500 "$T/home"
rm -rf "$T/home/.local"
if ! user test -w "$T/home"; then
	must_fail user "$LUNFS" -c "$CONF" "$MNT"
	assert_match "state_dir $T/home/.*: making $T/home/.local: Permission denied" "$OUTPUT"
fi
cp "$T/kept.conf" "$CONF"
check_reports

if [ "$(id -u)" -eq 0 ]; then
	note "without allow_other even root is kept out, and told whose mount it is"
	start
	must_fail ls "$MNT"
	must_fail "$LUNFS" --stop "$MNT"
	assert_eq 1 "$RC" "exit code"
	assert_match "belongs to the user with uid $UID_OF_TEST" "$OUTPUT"
	must_fail "$LUNFS" -c "$CONF" "$MNT"
	assert_match "a LunFS mount of the user with uid $UID_OF_TEST is here" "$OUTPUT"
	user "$LUNFS" --stop "$MNT"
	wait_until 10 ended "$lunfs_pid"
fi

note "SIGTERM with a process in the mount: it goes, lazily"
start
user sh -c 'cd "$1" && echo in && exec sleep 1000' sh "$MNT" > "$T/in" {never_fd}<&- &
holder=$!
started_pids+=("$holder")
disown "$holder"
wait_until 10 file_has "$T/in" in
user kill -TERM "$lunfs_pid"
wait_until 20 ended "$lunfs_pid"
assert_eq 0 "$(mounts)" "mounts"
check_reports

note "a dead mount is cleared at the next start, with a process in it too"
kill -KILL "$holder"
start
user sh -c 'cd "$1" && echo inside && exec sleep 1000' sh "$MNT" > "$T/in" {never_fd}<&- &
holder=$!
started_pids+=("$holder")
disown "$holder"
wait_until 10 file_has "$T/in" inside
kill9_lunfs
start
assert_eq 1 "$(mounts)" "mounts"

note "fusermount3 -u ends the daemon"
user fusermount3 -u "$MNT"
wait_until 20 ended "$lunfs_pid"
assert_eq 0 "$(mounts)" "mounts"
check_reports

note "a directory that the user may not write to is refused"
must_fail user "$LUNFS" -c "$CONF" /usr
assert_eq 1 "$RC" "exit code"
assert_match "/usr: .*mounting needs a directory that you may write to" "$OUTPUT"

note "allow_other needs user_allow_other"
if grep -qx user_allow_other /etc/fuse.conf 2> /dev/null; then
	note "not tried: /etc/fuse.conf allows it"
else
	# shellcheck disable=SC2034 # read by write_conf
	daemon_conf="allow_other = yes" write_conf <<< ""
	must_fail user "$LUNFS" -c "$CONF" "$MNT"
	assert_match "allow_other = yes in \[daemon\].*user_allow_other in /etc/fuse.conf" "$OUTPUT"
fi
