# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=bash
#
# What end-to-end tests share.  A test begins with
#
#	. "${top_srcdir:-$(dirname "$0")/..}/tests/lib.sh"
#	need_lunfs
#	start_tgtd
#	add_target 1
#	add_lun 1 1 64M
#	write_conf <<-END
#		[element db0]
#		url = $(lun_url 1 1)
#	END
#	start_lunfs
#
# and ends when the last line has passed: every command that fails ends the
# test (set -e), and whatever it started is ended, unmounted and deleted then.
#
# $T		private directory, $T/lun-TID-LUN the LUNs' files
# $MNT		mount point		$CONF		the configuration
# $POOL		directory of pool0	$STATE		state_dir
# $TGT_PORT	port of tgtd		$OUTPUT, $RC	of the last must_fail
#
# LUNFS_TEST_KEEP=1 leaves $T behind.

set -Eeu -o pipefail
export LC_ALL=C

top_srcdir=${top_srcdir:-$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)}
top_builddir=${top_builddir:-$top_srcdir}
LUNFS=${LUNFS:-$top_builddir/lunfs}
IQN=iqn.2026-01.org.lunfs.test

T=$(mktemp -d "${TMPDIR:-/tmp}/lunfs-test.XXXXXX")
T=$(readlink -f "$T")
MNT=$T/mnt
CONF=$T/lunfs.conf
POOL=$T/pool
STATE=$T/state
mkdir "$MNT" "$POOL" "$STATE"
mkfifo "$T/never"
exec {never_fd}<>"$T/never"	# reading it with a timeout waits without a process

tgtd_pid=
lunfs_pids=()
started_pids=()		# proxies and what run_in_background started
tgtd_env=()		# environment of tgtd
tgt_setup=()		# what tgtadm was told, for restart_tgtd
declare -A proxy_port
OUTPUT=
RC=0

# Sanitizers of the daemon report here; finish() looks.
export ASAN_OPTIONS="log_path=$T/sanitizer:abort_on_error=0:${ASAN_OPTIONS:-}"
export UBSAN_OPTIONS="log_path=$T/sanitizer:print_stacktrace=1:${UBSAN_OPTIONS:-}"
export TSAN_OPTIONS="log_path=$T/sanitizer:${TSAN_OPTIONS:-}"

# ---- outcome ----

note()
{
	echo "# $*"
}

fail()
{
	echo "FAIL: $*" >&2
	local i
	for ((i = 1; i < ${#BASH_SOURCE[@]}; i++)); do
		echo "  at ${BASH_SOURCE[i]##*/}:${BASH_LINENO[i - 1]} (${FUNCNAME[i]})" >&2
	done
	exit 1
}

skip()
{
	echo "SKIP: $*"
	exit 77
}

# assert_eq EXPECTED ACTUAL [WHAT]
assert_eq()
{
	[ "$1" = "$2" ] || fail "${3:-value}: expected \"$1\", got \"$2\""
}

# assert_match REGEX ACTUAL [WHAT]: an extended regular expression, anywhere in it.
assert_match()
{
	[[ "$2" =~ $1 ]] || fail "${3:-value}: \"$2\" does not match \"$1\""
}

# must_fail CMD...: the command has to fail; what it said is in $OUTPUT.
must_fail()
{
	RC=0
	OUTPUT=$("$@" 2>&1) || RC=$?
	[ "$RC" -ne 0 ] || fail "should have failed: $*"
}

# put FILE TEXT: one write(), as cat and cp do it.  Fails as the write fails.
put()
{
	cat > "$1" <<< "$2"
}

# must_refuse FILE TEXT ERROR: the write fails with that error's text.
must_refuse()
{
	must_fail put "$1" "$2"
	[[ "$OUTPUT" == *"$3"* ]] || fail "$1: expected \"$3\", got \"$OUTPUT\""
}

# wait_until SECONDS CMD...: polls until the command succeeds.
wait_until()
{
	local seconds=$1 deadline
	shift
	deadline=$((SECONDS + seconds + 1))
	until "$@" > "$T/wait_until.out" 2>&1; do
		if [ "$SECONDS" -ge "$deadline" ]; then
			cat "$T/wait_until.out" >&2
			fail "not within $seconds s: $*"
		fi
		read -rt 0.05 -u "$never_fd" || :
	done
}

# file_has FILE TEXT: the whole content, for wait_until.
file_has()
{
	local content
	content=$(cat "$1") && echo "$1: $content" && [ "$content" = "$2" ]
}

file_matches()
{
	grep -E -- "$2" "$1"
}

gone()
{
	[ ! -e "$1" ]
}

ended()
{
	! kill -0 "$1" 2> /dev/null || [ "$(sed 's/.*) //' "/proc/$1/stat" | cut -c1)" = Z ]
}

# ---- what a test needs ----

need_cmd()
{
	local c
	for c in "$@"; do
		type -P "$c" > /dev/null || skip "$c is not installed"
	done
}

need_root()
{
	[ "$(id -u)" -eq 0 ] || skip "needs root"
}

need_tgtd()
{
	need_root
	need_cmd tgtd tgtadm
}

need_fuse()
{
	[ -c /dev/fuse ] || skip "there is no /dev/fuse"
	{ : <> /dev/fuse; } 2> /dev/null || skip "/dev/fuse cannot be opened"
}

need_loop()
{
	need_root
	need_cmd losetup
	[ -c /dev/loop-control ] || skip "there is no /dev/loop-control"
	losetup -f > /dev/null 2>&1 || skip "there is no free loop device"
}

need_lunfs()
{
	need_fuse
	[ -x "$LUNFS" ] || skip "$LUNFS is not built"
}

# The iSCSI driver of QEMU is a package of its own in Debian.
need_qemu_iscsi()
{
	need_cmd qemu-img qemu-io
	case $(qemu-img info iscsi://127.0.0.1:1/x/1 2>&1 || :) in
	*Unknown\ protocol*) skip "QEMU has no iSCSI driver (qemu-block-extra)" ;;
	esac
}

# ---- the target ----

tgt()
{
	TGT_IPC_SOCKET=$T/tgt tgtadm -C "$tgt_control" --lld iscsi "$@"
}

# Does tgtd own its port?  It lives on without, when another has it.
tgtd_has_port()
{
	tgt --op show --mode portal | grep "^Portal: 127.0.0.1:$TGT_PORT," > /dev/null
}

tgtd_decided()
{
	ended "$tgtd_pid" || tgt --op show --mode system | grep "State: ready" > /dev/null
}

launch_tgtd()
{
	env "${tgtd_env[@]}" "TGT_IPC_SOCKET=$T/tgt" tgtd -f -C "$tgt_control" \
		--iscsi "portal=127.0.0.1:$TGT_PORT" >> "$T/tgtd.log" 2>&1 {never_fd}<&- &
	tgtd_pid=$!
	disown "$tgtd_pid"
	wait_until 10 tgtd_decided
}

# start_tgtd: on a free port of 127.0.0.1, below the ephemeral ones.
start_tgtd()
{
	local try
	need_tgtd
	for try in 1 2 3 4 5 6 7 8 9 10; do
		TGT_PORT=$((10000 + RANDOM % 20000))
		tgt_control=$((1 + RANDOM % 32766))
		launch_tgtd
		if tgtd_has_port; then
			return
		fi
		note "port $TGT_PORT is taken (try $try)"
		kill_tgtd
	done
	fail "tgtd found no free port"
}

# tgtd lives on after SIGTERM while it has sessions, so it is always SIGKILL.
kill_tgtd()
{
	[ -n "$tgtd_pid" ] || return 0
	kill -CONT "$tgtd_pid" 2> /dev/null || :
	kill -KILL "$tgtd_pid" 2> /dev/null || :
	wait_until 10 ended "$tgtd_pid"
	tgtd_pid=
	rm -f "$T/tgt.$tgt_control" "$T/tgt.$tgt_control.lock"
}

stop_tgtd()
{
	kill_tgtd
}

freeze_tgtd()
{
	kill -STOP "$tgtd_pid"
}

thaw_tgtd()
{
	kill -CONT "$tgtd_pid"
}

# restart_tgtd: the same port, targets and LUNs.
restart_tgtd()
{
	local line deadline=$((SECONDS + 10))
	kill_tgtd
	launch_tgtd
	# A killed one that was writing holds the port until its threads have ended.
	until tgtd_has_port; do
		[ "$SECONDS" -lt "$deadline" ] || fail "port $TGT_PORT was taken while tgtd was away"
		kill_tgtd
		launch_tgtd
	done
	for line in "${tgt_setup[@]}"; do
		eval "tgt $line"
	done
}

# tgt_do ARGS...: tells tgtadm, and again after a restart.
tgt_do()
{
	tgt "$@"
	tgt_setup+=("$(printf '%q ' "$@")")
}

# add_target TID [--digest] [--chap USER PASSWORD] [--mutual USER PASSWORD]
# --digest: header digests, for initiators that offer them.
add_target()
{
	local tid=$1
	shift
	tgt_do --op new --mode target --tid "$tid" -T "$IQN:t$tid"
	tgt_do --op update --mode target --tid "$tid" \
		--name MaxRecvDataSegmentLength --value 262144
	if [ "${1:-}" = --digest ]; then
		tgt_do --op update --mode target --tid "$tid" --name HeaderDigest \
			--value CRC32C,None
		shift
	fi
	while [ $# -gt 0 ]; do
		tgt --op show --mode account | grep "^ *$2$" > /dev/null ||
			tgt_do --op new --mode account --user "$2" --password "$3"
		case $1 in
		--chap) tgt_do --op bind --mode account --tid "$tid" --user "$2" ;;
		--mutual) tgt_do --op bind --mode account --tid "$tid" --user "$2" --outgoing ;;
		*) fail "add_target: $1?" ;;
		esac
		shift 3
	done
	tgt_do --op bind --mode target --tid "$tid" -I ALL
}

# add_lun TID LUN SIZE [thin] [FILE]: backed by FILE, else by $T/lun-TID-LUN.
add_lun()
{
	local tid=$1 lun=$2 size=$3 thin=${4:-} file=${5:-$T/lun-$1-$2}
	[ -e "$file" ] || truncate -s "$size" "$file"
	tgt_do --op new --mode logicalunit --tid "$tid" --lun "$lun" -b "$file"
	if [ "$thin" = thin ]; then
		tgt_do --op update --mode logicalunit --tid "$tid" --lun "$lun" \
			--params thin_provisioning=1
	fi
}

# lun_url TID LUN [PORT]
lun_url()
{
	echo "iscsi://127.0.0.1:${3:-$TGT_PORT}/$IQN:t$1/$2"
}

lun_file()
{
	echo "$T/lun-$1-$2"
}

# fill_random FILE SIZE [SEED]: SIZE bytes (K, M) that are the same for the same seed.
fill_random()
{
	local key
	key=$(printf '%s' "${3:-1}" | sha256sum | cut -c1-64)
	truncate -s "$2" "$1.zero"
	if type -P openssl > /dev/null; then
		openssl enc -aes-256-ctr -K "$key" -iv 00000000000000000000000000000000 \
			-in "$1.zero" | dd of="$1" bs=1M conv=notrunc status=none
	else
		head -c "$2" /dev/urandom | dd of="$1" bs=1M conv=notrunc status=none
	fi
	rm -f "$1.zero"
}

# ---- faults between LunFS and the target ----

# shellcheck disable=SC2034 # tests read proxy_port
# start_proxy NAME: the proxy's port is then ${proxy_port[NAME]}.
start_proxy()
{
	local dir=$T/proxy-$1
	[ -x "$top_builddir/tests/iscsi-proxy" ] || skip "tests/iscsi-proxy is not built"
	mkdir "$dir"
	"$top_builddir/tests/iscsi-proxy" --listen 127.0.0.1:0 \
		--connect "127.0.0.1:$TGT_PORT" --control "$dir" --seed "${LUNFS_TEST_SEED:-1}" \
		>> "$T/proxy-$1.log" 2>&1 {never_fd}<&- &
	started_pids+=($!)
	disown $!
	wait_until 10 test -s "$dir/port"
	proxy_port[$1]=$(cat "$dir/port")
}

# arm NAME FAULT [key=value...]: see tests/proxy.c.
arm()
{
	local dir=$T/proxy-$1 fault=$2
	shift 2
	echo "$*" > "$dir/.arm"
	mv "$dir/.arm" "$dir/$fault"
}

disarm()
{
	rm -f "$T/proxy-$1/$2"
}

# wait_fired NAME FAULT [SECONDS]: until it has fired as often as it was armed for.
wait_fired()
{
	wait_until "${3:-20}" gone "$T/proxy-$1/$2"
}

# proxy_count NAME COUNTER: connections, commands, reads, read_bytes, writes, ...
proxy_count()
{
	: > "$T/proxy-$1/report"
	wait_until 10 gone "$T/proxy-$1/report"
	awk -v name="$2" '$1 == name { print $2 }' "$T/proxy-$1/stats"
}

# ---- README ----

# readme_commands SECTION LEAST: the indented lines of a section of README, in $T/commands.
readme_commands()
{
	awk -v section="$1" '
		/^-+$/ { on = last == section }
		{ last = $0 }
		on && /^    / { print substr($0, 5) }' "$top_srcdir/README" > "$T/commands"
	[ "$(wc -l < "$T/commands")" -ge "$2" ] || fail "README, \"$1\" has too few commands"
}

# readme_has_said COMMANDS OUTPUT LEAST: what stands behind the # of a command that prints
# was printed, in that order.
readme_has_said()
{
	sed -nE '/^(cat|grep|ls) /s/^.*[^ ] +# //p' "$1" > "$T/said"
	[ "$(wc -l < "$T/said")" -ge "$3" ] || fail "README says of too few commands what they print"
	awk 'BEGIN { i = 0 } NR == FNR { said[n++] = $0; next } $0 == said[i] { i++ }
		END { if (i < n) { print "README: not printed: " said[i]; exit 1 } }' \
		"$T/said" "$2" || fail "$(cat "$2")"
}

# ---- LunFS ----

# write_conf: a [daemon] and a [pool pool0] section, then what stands on stdin.
# $daemon_conf holds further lines of [daemon].
write_conf()
{
	{
		cat <<-END
		[daemon]
		state_dir = $STATE
		initiator_name = iqn.2026-01.org.lunfs.test:initiator
		default_pool = pool0
		${daemon_conf:-}

		[pool pool0]
		type = dir
		path = $POOL

		END
		cat
	} > "$CONF"
}

# The processes that run $LUNFS for mount point $1.
lunfs_processes()
{
	local p exe
	exe=$(readlink -f "$LUNFS")
	for p in /proc/[0-9]*; do
		[ "$(readlink "$p/exe" 2> /dev/null)" = "$exe" ] || continue
		if tr '\0' '\n' < "$p/cmdline" 2> /dev/null | grep -xF -- "$1" > /dev/null; then
			echo "${p#/proc/}"
		fi
	done
}

# start_lunfs [-m MOUNTPOINT] [-c CONF] [ARGS...]: its parent has to exit 0; the
# tree is there then.  $lunfs_pid is the daemon.
start_lunfs()
{
	local mnt=$MNT conf=$CONF rc=0
	while [ $# -gt 0 ]; do
		case $1 in
		-m) mnt=$2; shift 2 ;;
		-c) conf=$2; shift 2 ;;
		*) break ;;
		esac
	done
	timeout 60 "$LUNFS" -c "$conf" "$@" "$mnt" < /dev/null >> "$T/lunfs.log" 2>&1 \
		{never_fd}<&- || rc=$?
	lunfs_pid=$(lunfs_processes "$mnt")
	lunfs_pid=${lunfs_pid%%$'\n'*}
	[ -z "$lunfs_pid" ] || lunfs_pids+=("$lunfs_pid")
	[ "$rc" -eq 0 ] || fail "lunfs $* $mnt: exit code $rc"
	[ -n "$lunfs_pid" ] || fail "lunfs $* $mnt: exit code 0, but there is no daemon"
	mountpoint -q "$mnt" || fail "lunfs $* $mnt: exit code 0, but nothing is mounted"
}

# start_lunfs_foreground [ARGS...]: lunfs -f, its messages in $T/lunfs.log.
start_lunfs_foreground()
{
	"$LUNFS" -f -c "$CONF" "$@" "$MNT" < /dev/null >> "$T/lunfs.log" 2>&1 {never_fd}<&- &
	lunfs_pid=$!
	lunfs_pids+=("$lunfs_pid")
	disown "$lunfs_pid"
	wait_until 60 mounted_or_ended
	mountpoint -q "$MNT" || fail "lunfs -f ended: $(tail -n 3 "$T/lunfs.log")"
}

mounted_or_ended()
{
	mountpoint -q "$MNT" || ended "$lunfs_pid"
}

# stop_lunfs [--force] [MOUNTPOINT]: the daemon has ended and nothing is mounted.
stop_lunfs()
{
	local args=() mnt=$MNT
	while [ $# -gt 0 ]; do
		case $1 in
		--*) args+=("$1") ;;
		*) mnt=$1 ;;
		esac
		shift
	done
	timeout 60 "$LUNFS" --stop "${args[@]}" "$mnt" >> "$T/lunfs.log" 2>&1 ||
		fail "lunfs --stop ${args[*]} $mnt: exit code $?"
	! mountpoint -q "$mnt" || fail "lunfs --stop $mnt: still mounted"
	[ -z "$(lunfs_processes "$mnt")" ] || fail "lunfs --stop $mnt: still running"
	check_sanitizers
}

# kill9_lunfs: as after a crash.  The dead mount stays, for the next start to clear.
kill9_lunfs()
{
	kill -KILL "$lunfs_pid"
	wait_until 10 ended "$lunfs_pid"
}

check_sanitizers()
{
	local f
	for f in "$T"/sanitizer.*; do
		[ ! -s "$f" ] || fail "a sanitizer reports: $(cat "$f")"
	done
}

# run_in_background CMD...: ended with the test; its pid is in $background_pid.
run_in_background()
{
	"$@" {never_fd}<&- &
	background_pid=$!
	started_pids+=("$background_pid")
}

# ---- the end ----

# Unmounts and detaches whatever lies on the private directory, innermost first.
release_private_dir()
{
	local dev file target
	while read -r target; do
		umount "$target" 2> /dev/null || umount -l "$target" 2> /dev/null || :
	done < <(awk '{ print $5 }' /proc/self/mountinfo | grep -F "$T/" | grep -vxF "$MNT" | tac)
	if type -P losetup > /dev/null; then
		while read -r dev file; do
			case $file in
			"$T"/*) losetup -d "$dev" || : ;;
			esac
		done < <(losetup -nO NAME,BACK-FILE 2> /dev/null)
	fi
}

end_lunfs()
{
	local pid
	for pid in "${lunfs_pids[@]}"; do
		ended "$pid" && continue
		kill -CONT "$pid" 2> /dev/null || :
		kill -TERM "$pid" 2> /dev/null || :
		if ! (wait_until 15 ended "$pid") 2> /dev/null; then
			echo "lunfs (pid $pid) did not end within 15 s of SIGTERM" >&2
			kill -KILL "$pid" 2> /dev/null || :
		fi
	done
}

print_logs()
{
	local f
	for f in "$T"/*.log "$T"/sanitizer.*; do
		[ -s "$f" ] || continue
		echo "---- ${f##*/} (end)"
		tail -n 60 "$f"
	done
	if [ -n "${lunfs_pid:-}" ] && ! ended "$lunfs_pid"; then
		for f in "$MNT"/status "$MNT"/groups/*/{result,CopyState,waiting_for} \
			"$MNT"/jobs/*/ErrorDescription; do
			[ -f "$f" ] && echo "---- ${f#"$MNT"/}" && timeout 5 head -n 40 "$f"
		done
	fi
}

finish()
{
	local rc=$? pid f
	trap '' INT TERM
	trap - ERR
	set +e
	exec 2>&1
	if [ -n "$tgtd_pid" ]; then
		kill -CONT "$tgtd_pid" 2> /dev/null
	fi
	[ "$rc" -eq 0 ] || [ "$rc" -eq 77 ] || print_logs
	for pid in "${started_pids[@]}"; do
		kill -CONT "$pid" 2> /dev/null
		kill -KILL "$pid" 2> /dev/null
	done
	release_private_dir
	end_lunfs
	while mountpoint -q "$MNT" 2> /dev/null || [ "$(stat -c %m "$MNT" 2> /dev/null)" = "$MNT" ] ||
		grep -qF " $MNT " /proc/self/mountinfo; do
		umount -l "$MNT" || break
	done
	if [ "$rc" -eq 0 ]; then
		for f in "$T"/sanitizer.*; do
			[ -s "$f" ] && echo "FAIL: a sanitizer reports:" && cat "$f" && rc=1
		done
	fi
	if [ -n "$tgtd_pid" ]; then
		kill -KILL "$tgtd_pid" 2> /dev/null
	fi
	if [ -n "${LUNFS_TEST_KEEP:-}" ]; then
		echo "kept: $T"
	elif grep -qF " $T/" /proc/self/mountinfo; then
		echo "FAIL: something is still mounted in $T: nothing deleted"
		rc=1
	else
		rm -rf --one-file-system "$T"
	fi
	exit "$rc"
}

trap 'echo "FAIL: ${BASH_SOURCE[0]:-bash -c}:$LINENO: $BASH_COMMAND: exit code $?" >&2' ERR
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
