#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
#
# The power goes away under load, at many points and in many ways.  The daemon runs under
# libcrashlog.so while group snapshots and a clone are taken, read, written and given
# back, and their sources are written.  Then, for points in its log chosen by chance,
# state_dir and pool are rebuilt as they may be after a loss of power there (crashplay.c),
# a daemon is started on them, and
#   - the state store is sound and its images are those of the pool,
#   - each snapshot that was answered holds what it held, and its CopyState is right,
#   - what was given back is gone, what was under way is whole or not there,
#   - each write and fsync that was acknowledged is there.
# The LUNs are another machine, which does not lose power: their files are recorded too,
# and are at each point exactly as they were then (--durable).
#
# LUNFS_TEST_POINTS	crashes (20; a long run: 500)
# LUNFS_TEST_RUNS	of the load (1)
# LUNFS_TEST_SEED	repeats the choice, not the load
. "${top_srcdir:-$(dirname "$0")/..}/tests/lib.sh"
. "$top_srcdir/tests/crash.sh"
. "$top_srcdir/tests/replica.sh"
need_lunfs
need_crash_tools
need_cmd python3

dw=$top_builddir/tests/depwrite
[ -x "$dw" ] || skip "$dw is not built"
points=${LUNFS_TEST_POINTS:-20}
runs=${LUNFS_TEST_RUNS:-1}
seed=${LUNFS_TEST_SEED:-$RANDOM}
note "LUNFS_TEST_SEED=$seed LUNFS_TEST_POINTS=$points LUNFS_TEST_RUNS=$runs"
RANDOM=$seed

mkdir "$T/luns"
write_conf <<-END
	[element db0]
	url = file://$T/luns/db0
	access = exclusive
	[element log0]
	url = file://$T/luns/log0
	access = exclusive
	[element buf0]
	url = file://$T/luns/buf0
	access = exclusive
END

# ---- the load ----

# made NAME KIND: it was answered, and this is what it holds.
made()
{
	crash_mark "made $1 $2 $(sum_of "$1")"
}

load()
{
	local i name paths writers=()
	run_in_background "$dw" run "$MNT/elements/db0/data" "$MNT/elements/log0/data" --direct \
		--mark "$crash_log" --ack "$T/ack-1" > "$T/out-1" 2>> "$T/writers.log"
	writers+=("$background_pid")
	run_in_background "$dw" run "$MNT/elements/buf0/data" --fsync --mark "$crash_log" \
		--name buf --ack "$T/ack-2" > "$T/out-2" 2>> "$T/writers.log"
	writers+=("$background_pid")
	wait_until 20 has_passed "$T/ack-1" 0
	wait_until 20 has_passed "$T/ack-2" 0
	for ((i = 1; i <= 8; i++)); do
		name=s$i
		take "$name" SourceGroup=src SyncType=Snapshot
		if ((i % 3 == 2)); then
			crash_mark "made $name written -"
			mapfile -t paths < <(images "$name")
			"$dw" run "${paths[@]}" --count 20 --direct --fsync --mark "$crash_log" \
				--name "image-$name" > "$T/out-3" 2>> "$T/writers.log"
		else
			made "$name" kept
		fi
		if ((i == 4)); then
			take c1 SourceGroup=src SyncType=Clone
			crash_mark "made c1 clone -"
		fi
		if ((i % 2 == 0)); then
			crash_mark "drop s$((i / 2)) - -"
			drop "s$((i / 2))"
			crash_mark "dropped s$((i / 2)) - -"
		fi
	done
	assert_eq Synchronized "$(timeout 60 cat "$MNT/groups/c1/wait/Synchronized")" c1
	made c1 synchronized
	kill -TERM "${writers[@]}"
	wait "${writers[@]}"
}

# ---- after a crash ----

# has_values NAME: its images are of one instant, with all that was acknowledged.
has_values()
{
	local paths
	mapfile -t paths < <(images "$1")
	crash_check_values "image-$1" "${paths[@]}"
}

# check_replica WHAT NAME KIND SUM: by the newest mark of that name before the crash.
check_replica()
{
	local name=$2 g=$MNT/groups/$2 state
	if [ "$1" = dropped ]; then
		[ ! -e "$g" ] || is_over "$name" || fail "$name was given back: $(cat "$g/CopyState")"
		return
	fi
	if [ ! -e "$g" ] || is_over "$name"; then
		[ "$1" = drop ] || fail "$name was made: it is gone"
		return 0
	fi
	state=$(cat "$g/CopyState")
	case $1-$3 in
	made-kept)
		assert_eq Synchronized "$state" "CopyState of $name"
		assert_eq "$4" "$(sum_of "$name")" "the content of $name"
		;;
	made-written)
		assert_match '^(Synchronized|Skewed|Mixed)$' "$state" "CopyState of $name"
		has_values "$name"
		;;
	made-clone | made-synchronized)
		[ "$3" = clone ] || assert_eq Synchronized "$state" "CopyState of $name"
		assert_eq Synchronized "$(timeout 60 cat "$g/wait/Synchronized")" "$name"
		assert_eq "$clone_sum" "$(sum_of "$name")" "the content of $name"
		;;
	*)
		assert_match '^(Synchronized|Skewed|Mixed)$' "$state" "$name ($1)"
		has_values "$name"
		;;
	esac
}

# Replicas without a mark: their call was under way.
check_unmarked()
{
	local g name
	for g in "$MNT"/groups/[sc]?; do
		name=${g##*/}
		[ -e "$g" ] && [ -z "${known[$name]:-}" ] || continue
		is_over "$name" && continue
		[ "$name" != c1 ] || timeout 60 cat "$g/wait/Synchronized" > "$T/out"
		has_values "$name"
	done
}

check_point()
{
	local what name kind sum
	declare -A known=()
	while read -r what name kind sum; do
		known[$name]="$what $name $kind $sum"
	done < <(awk -v n="$crash_n" '$1 > n { exit }
		$2 == "mark" && $3 ~ /^(made|drop|dropped)$/ { print $3, $4, $5, $6 }' "$T/crash.list")
	start_lunfs
	check_store
	wait_until 20 are_ready db0 log0 buf0
	for name in "${!known[@]}"; do
		# shellcheck disable=SC2086 # its words
		check_replica ${known[$name]}
	done
	check_unmarked
	crash_check_values ack "$MNT/elements/db0/data" "$MNT/elements/log0/data"
	crash_check_values buf "$MNT/elements/buf0/data"
	kill9_lunfs
}

for ((run = 1; run <= runs; run++)); do
	rm -rf "${STATE:?}"/* "${POOL:?}"/* "$T"/ack-*
	for e in db0 log0 buf0; do
		rm -f "$T/luns/$e"
		truncate -s 2M "$T/luns/$e"
	done
	crash_begin "$STATE" "$POOL" "$T/luns"
	crash_start_lunfs
	wait_until 20 are_ready db0 log0 buf0
	need_snapshot db0
	mkdir "$MNT/groups/src"
	echo "db0 log0" > "$MNT/groups/src/members"
	crash_mark begin
	load
	kill9_lunfs
	crash_list
	begin=$(first_mark begin)
	clone_sum=$(awk '$2 == "mark" && $3 == "made" && $5 == "synchronized" { print $6 }' \
		"$T/crash.list")
	note "run $run: $crash_end records, $(grep -c ' sync ' "$T/crash.list") syncs"
	crash_check_points "$seed" < <(crash_points "$points" "$begin")
done
