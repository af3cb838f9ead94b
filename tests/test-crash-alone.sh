#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
#
# Consistency=2: each member's point is armed on its own.  The call is held in its middle,
# by a write to the second member that the device does not answer; the first member's
# point is armed by then, and keeps what writes replace, for the older snapshot too.  kill
# -9 there: that snapshot still shows what it showed, nothing else is left of the call.
#
# What these lines are for shows when they are broken; then this fails:
#   instant.c, armed_alone(): without store_alone()	o has changed
#   points.c, open_at_start(): armed as a needed one	the point stays
#   handover.c, next_run(), copy_some(): nothing handed on, or no bits	o has changed
. "${top_srcdir:-$(dirname "$0")/..}/tests/lib.sh"
. "$top_srcdir/tests/replica.sh"
need_lunfs
need_cmd python3
export LUNFS_TEST_BACKENDS=1

for e in a b; do
	fill_random "$T/$e" 16M $e
done
cp "$T/a" "$T/before"
: > "$T/rules"
daemon_conf="fence_timeout = 120s"
write_conf <<-END
	[element a]
	url = file://$T/a
	access = exclusive
	[element b]
	url = fault:$T/rules:file://$T/b
	access = exclusive
END

rules()
{
	echo "$1" > "$T/rules.new"
	mv "$T/rules.new" "$T/rules"
}

# write_chunk ELEMENT CHUNK
write_chunk()
{
	dd if=/dev/urandom of="elements/$1/data" bs=64K count=1 seek="$2" oflag=direct \
		iflag=fullblock conv=notrunc status=none
}

points()
{
	find "$POOL" -name 'p*.raw' -printf '%f\n'
}

# The next chunk of a is written; is what was there in a point of the call's?
chunk=0
new_point_keeps()
{
	local p
	write_chunk a $chunk
	chunk=$((chunk + 1))
	for p in $(points); do
		[ "$p" = "$old" ] || [ "$(stat -c %b "$POOL/$p")" -eq 0 ] || return 0
	done
	return 1
}

# call SPEC: whatever comes of it.
call()
{
	echo "$1" > groups/g/spec || :
}

o_is_as_before()
{
	assert_eq Synchronized "$(cat groups/o/CopyState)" "CopyState of o"
	dd if=groups/o/images/o_1 iflag=direct bs=1M status=none | cmp - "$T/before" ||
		fail "o has changed"
}

one_point_is_left()
{
	[ "$(points)" = "$old" ]
}

start_lunfs
cd "$MNT"
wait_until 20 are_ready a b
need_snapshot a
take o SourceElement=a SyncType=Snapshot
old=$(points)

note "the call stands between its members"
rules "[stuck]
event = write
stall = yes"
run_in_background dd if=/dev/zero of=elements/b/data bs=64K count=1 oflag=direct \
	conv=notrunc 2> "$T/dd.log"
writer=$background_pid
wait_until 20 file_matches elements/b/sessions "fault .*: 1 parked"
mkdir groups/src groups/g
echo "a b" > groups/src/members
run_in_background call "SourceGroup=src SyncType=Snapshot Consistency=2" 2> "$T/call.log"
caller=$background_pid
wait_until 20 new_point_keeps
for i in 1 2 3 4; do
	write_chunk a $((chunk + i))
done
! ended "$caller" || fail "the call has ended: $(cat groups/g/result)"
o_is_as_before

note "kill -9"
cd /
kill9_lunfs
for pid in "$writer" "$caller"; do
	wait_until 60 ended "$pid"
done
rules ""
start_lunfs
cd "$MNT"
check_store
wait_until 20 are_ready a b
o_is_as_before
assert_eq "Not Applicable" "$(cat groups/g/CopyState)" "CopyState of g"

note "what the point has kept is handed to the older one"
wait_until 20 one_point_is_left
o_is_as_before
write_chunk a $chunk
cd /
stop_lunfs
start_lunfs
cd "$MNT"
wait_until 20 are_ready a b
o_is_as_before
# The same call again.
echo "SourceGroup=src SyncType=Snapshot Consistency=2" > groups/g/spec
assert_eq Synchronized "$(cat groups/g/CopyState)" "CopyState of g"
o_is_as_before
cd /
stop_lunfs
