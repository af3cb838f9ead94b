#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
#
# A point in time holds for the whole group: a writer puts n on LUN A, waits, puts n on
# LUN B; each group snapshot and clone taken meanwhile has A = B or A = B + 1.  Two
# points in time taken one after the other do not, so the test can fail.
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
write_conf <<-END
	[element db0]
	url = $(lun_url 1 1)
	access = exclusive
	[element log0]
	url = $(lun_url 2 1)
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

# The proof that all this can fail.
note "two points in time, one after the other, are of no instant"
start_writer --direct
for ((i = 1, found = 0; i <= 50 && !found; i++)); do
	take one SourceElement=db0 SyncType=Snapshot RelationshipName=one
	take two SourceElement=log0 SyncType=Snapshot RelationshipName=two
	"$dw" check "$MNT/groups/one/images/one_1" "$MNT/groups/two/images/two_1" \
		> "$T/check" || found=$i
	drop one two
done
[ "$found" -gt 0 ] || fail "$((i - 1)) pairs of snapshots are all of one instant"
note "found in pair $found: $(tail -n 1 "$T/check")"
for ((i = 1, found = 0; i <= 50 && !found; i++)); do
	take none SourceGroup=src SyncType=Snapshot Consistency=2
	mapfile -t paths < <(images none)
	"$dw" check "${paths[@]}" > "$T/check" || found=$i
	drop none
done
note "Consistency=2: $([ $found -gt 0 ] && echo "wrong in snapshot $found" || echo "50 were right all the same")"
stop_writer
stop_lunfs
