#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
#
# A point in time holds for the whole group: a writer puts n on LUN A, waits, puts n on
# LUN B; each group snapshot and clone taken meanwhile has A = B or A = B + 1.  Without
# consistency, and with two points in time one after the other, it has not: the test can
# fail.
#
# LUNFS_TEST_SNAPSHOTS	how many (100)	LUNFS_TEST_CLONES	(20)
. "${top_srcdir:-$(dirname "$0")/..}/tests/lib.sh"
. "$top_srcdir/tests/replica.sh"
need_lunfs

dw=$top_builddir/tests/depwrite
[ -x "$dw" ] || skip "$dw is not built"
snapshots=${LUNFS_TEST_SNAPSHOTS:-100}
clones=${LUNFS_TEST_CLONES:-20}

start_tgtd
add_target 1
add_lun 1 1 8M
add_target 2
add_lun 2 1 8M
add_target 3
add_lun 3 1 8M
start_proxy slow
write_conf <<-END
	[element db0]
	url = $(lun_url 1 1)
	access = exclusive
	[element log0]
	url = $(lun_url 2 1)
	access = exclusive
	[element slow0]
	url = $(lun_url 3 1 "${proxy_port[slow]}")
	access = exclusive
END
start_lunfs
need_snapshot db0
wait_until 20 test -s "$MNT/elements/log0/size"
mkdir "$MNT/groups/src"
echo "db0 log0" > "$MNT/groups/src/members"
sources=("$MNT/elements/db0/data" "$MNT/elements/log0/data")

# start_writer [depwrite options]
start_writer()
{
	rm -f "$T/ack"
	run_in_background "$dw" run "${sources[@]}" --ack "$T/ack" "$@" \
		> "$T/writer.out" 2> "$T/writer.log"
	wait_until 20 has_passed "$T/ack" 0
}

stop_writer()
{
	kill -TERM "$background_pid"
	wait "$background_pid" || fail "the writer: exit code $?: $(cat "$T/writer.log")"
	note "$(cat "$T/writer.log")"
}

# check_images NAME: of one instant, and no later than it was: $values.
check_images()
{
	local paths
	mapfile -t paths < <(images "$1")
	values=$("$dw" check "${paths[@]}") || fail "$1: $values"
}

# Point after point in time, with the writer running; each is read at once, and again
# when it is the fifth but last.
last=0
declare -A value_of=()
point()
{
	local name=$1 acked
	acked=$(ack_of "$T/ack" 1)
	take "$name" SourceGroup=src "SyncType=$2"
	check_images "$name"
	value_of[$name]=$values
	[ "${values% *}" -ge "$acked" ] ||
		fail "$name: $values, but $acked was acknowledged before it was taken"
	[ "${values% *}" -gt "$last" ] || moved=$((moved - 1))
	last=${values% *}
}

still_the_same()
{
	check_images "$1"
	assert_eq "${value_of[$1]}" "$values" "$1, later"
}

for how in --direct --fsync; do
	note "$((snapshots / 2)) group snapshots, writes with $how"
	start_writer $how
	moved=$((snapshots / 2))
	for ((i = 1; i <= snapshots / 2; i++)); do
		point "s$i" Snapshot
		if ((i > 5)); then
			still_the_same "s$((i - 5))"
			drop "s$((i - 5))"
		fi
	done
	stop_writer
	[ "$moved" -ge $((snapshots / 4)) ] || fail "the writer stood still: $moved moved it"
	for ((i = i > 5 ? i - 5 : 1; i <= snapshots / 2; i++)); do
		still_the_same "s$i"
		drop "s$i"
	done
done

note "$clones group clones"
start_writer --direct
for ((i = 1; i <= clones; i++)); do
	point "c$i" Clone
	assert_eq Synchronized "$(timeout 60 cat "$MNT/groups/c$i/wait/Synchronized")" "c$i"
	still_the_same "c$i"
	drop "c$i"
done
stop_writer
"$dw" check "${sources[@]}" > "$T/out"
cmp "$T/writer.out" "$T/out"

# A third member, in the order between the two, whose writes take long while the last
# point in time has to be given its old bytes: a fence waits for them.  What holds the
# whole group meanwhile is right; what does not is found wrong.
note "a slow member: with consistency, and without"
mkdir "$MNT/groups/three"
echo "db0 slow0 log0" > "$MNT/groups/three/members"
wait_until 20 test -s "$MNT/elements/slow0/size"
start_writer --direct
writer=$background_pid
run_in_background "$dw" run "$MNT/elements/slow0/data" --direct --ack "$T/ack-slow" \
	> "$T/slow.out" 2>&1
slow=$background_pid
wait_until 20 has_passed "$T/ack-slow" 0
arm slow slow bytes_per_second=$((2 << 20))
outer()
{
	"$dw" check "$MNT/groups/$1/images/$1_1" "$MNT/groups/$1/images/$1_3"
}
for ((i = 1; i <= 10; i++)); do
	take "t$i" SourceGroup=three SyncType=Snapshot
	outer "t$i" > "$T/check" || fail "t$i, with a slow member: $(cat "$T/check")"
	((i == 1)) || drop "t$((i - 1))"
done
for ((i = 1, found = 0; i <= 50 && !found; i++)); do
	take "n$i" SourceGroup=three SyncType=Snapshot Consistency=2
	outer "n$i" > "$T/check" || found=$i
	((i == 1)) || drop "n$((i - 1))"
done
[ "$found" -gt 0 ] || fail "50 snapshots without consistency are all of one instant"
note "Consistency=2: found in snapshot $found: $(tail -n 1 "$T/check")"
disarm slow slow
kill -TERM "$slow"
wait "$slow"

note "two points in time, one after the other"
for ((i = 1, found = 0; i <= 50 && !found; i++)); do
	take one SourceElement=db0 SyncType=Snapshot
	take two SourceElement=log0 SyncType=Snapshot
	"$dw" check "$MNT/groups/one/images/one_1" "$MNT/groups/two/images/two_1" \
		> "$T/check" || found=$i
	drop one two
done
[ "$found" -gt 0 ] || fail "50 pairs of snapshots are all of one instant"
note "found in pair $found: $(tail -n 1 "$T/check")"
background_pid=$writer
stop_writer
stop_lunfs
