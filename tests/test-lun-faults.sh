#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
#
# A Clone onto a LUN that is killed, that loses its target, or whose target hangs,
# fails or becomes another: what is shown as done is right, and nobody else waits.
. "${top_srcdir:-$(dirname "$0")/..}/tests/lib.sh"
need_lunfs
need_cmd python3

mib=$((1 << 20))
size=$((192 * mib))
start_tgtd
add_target 1
add_target 2
add_target 3
fill_random "$(lun_file 1 1)" 192M 1
fallocate -p -o $((5 * mib)) -l $((7 * mib)) "$(lun_file 1 1)"
dd if=/dev/zero of="$(lun_file 1 1)" bs=4K seek=7000 count=900 conv=notrunc status=none
add_lun 1 1 192M
fill_random "$(lun_file 2 1)" 194M 2
add_lun 2 1 194M
fill_random "$(lun_file 3 1)" 16M 3
add_lun 3 1 16M
start_proxy s
start_proxy t
daemon_conf="io_timeout = 4"
write_conf <<-END
	[element s1]
	url = $(lun_url 1 1 "${proxy_port[s]}")
	access = exclusive
	[element t1]
	url = $(lun_url 2 1 "${proxy_port[t]}")
	access = exclusive
	[element log0]
	url = $(lun_url 3 1)
	access = exclusive
END

ready()
{
	local e
	for e in s1 t1 log0; do
		wait_until 40 file_has "$MNT/elements/$e/OperationalStatus" OK
	done
}

has_percent()
{
	[ "$(cat "$G/PercentSynced")" -ge "$1" ]
}

# begin: a copy of s1 onto a t1 that is full of old data
begin()
{
	fill_random "$(lun_file 2 1)" 194M "$RANDOM"
	rest=$(tail -c $((2 * mib)) "$(lun_file 2 1)" | sha256sum)
	cp "$(lun_file 1 1)" "$T/expected"
	echo "SourceElement=s1 TargetGroup=dst SyncType=Clone" > "$G/spec"
}

# is_right: the target is what it should be, and the rest of it what it was
is_right()
{
	timeout 120 cat "$G/wait/Synchronized" > "$T/reached" ||
		fail "$(cat "$G/CopyState" "$G/pairs/1/error" "$G/waiting_for")"
	assert_eq Synchronized "$(cat "$T/reached")"
	cmp -n $size "$T/expected" "$(lun_file 2 1)"
	assert_eq "$rest" "$(tail -c $((2 * mib)) "$(lun_file 2 1)" | sha256sum)" "the rest of t1"
}

# write_both OFFSET BYTES SEED: to the target's data, which it is told is durable
write_both()
{
	fill_random "$T/piece" "$2" "$3"
	dd if="$T/piece" of="$G/images/t1" bs="$2" seek="$1" oflag=seek_bytes \
		conv=notrunc,fsync status=none
	dd if="$T/piece" of="$T/expected" bs="$2" seek="$1" oflag=seek_bytes \
		conv=notrunc status=none
}

start_lunfs
G=$MNT/groups/move
mkdir "$MNT/groups/dst" "$G"
echo t1 > "$MNT/groups/dst/members"
ready

# ---- killed in mid-copy ----

arm s slow bytes_per_second=$((10 * mib))
begin
kills=0
for percent in 5 15 25 35; do
	wait_until 60 has_percent $percent
	# Whole chunks, and parts of them, of what has come and what has not.
	write_both $((RANDOM % 3000 * 65536)) 64K "a$percent"
	write_both $((RANDOM * 6100 % (size - 8192))) 5000 "b$percent"
	write_both $((RANDOM % 32000 * 4096)) 200000 "c$percent"
	# The source goes on, the copy is of its instant.
	dd if="$T/piece" of="$MNT/elements/s1/data" bs=64K count=1 seek=$((RANDOM % 3000)) \
		conv=notrunc,fsync status=none
	# A slow machine may be done by now.
	if ! file_has "$G/CopyState" Unsynchronized || has_percent 95; then
		break
	fi
	kill9_lunfs
	start_lunfs
	assert_eq Unsynchronized "$(cat "$G/CopyState")"
	cmp -n 65536 "$T/expected" "$G/images/t1"
	kills=$((kills + 1))
done
[ "$kills" -ge 2 ] || fail "killed $kills times only in mid-copy"
ready
disarm s slow
is_right
reads=$(proxy_count s read_bytes)
[ "$reads" -lt $((2 * size)) ] || fail "killed $kills times: $reads bytes of $size were read"
note "killed $kills times: $((reads / mib)) of $((size / mib)) MiB read"
cmp "$T/expected" <(head -c $size "$G/images/t1")
echo Detach > "$G/control"

# ---- stopped, and started without the target, and with it ----

cp "$(lun_file 1 1)" "$T/expected"
arm s slow bytes_per_second=$((40 * mib))
begin
wait_until 60 has_percent 5
stop_lunfs
before=$(sha256sum < "$(lun_file 2 1)")
cp "$CONF" "$T/whole.conf"
awk '/^\[/ { on = /element t1/ } !on' "$T/whole.conf" > "$CONF"
start_lunfs
wait_until 20 file_matches "$G/waiting_for" '^t1: no longer configured'
assert_eq Unsynchronized "$(cat "$G/CopyState")"
must_fail head -c 1 "$MNT/elements/t1/data"
assert_eq "$before" "$(sha256sum < "$(lun_file 2 1)")" "a target that is not configured"
stop_lunfs
cp "$T/whole.conf" "$CONF"
start_lunfs
ready
disarm s slow
is_right
echo Detach > "$G/control"
note "stopped in mid-copy, and started without its target"

# ---- the target is away ----

other_copies()
{
	local n=$1
	mkdir "$MNT/groups/o$n"
	echo "SourceElement=log0 SyncType=Clone" > "$MNT/groups/o$n/spec"
	assert_eq Synchronized "$(timeout 30 cat "$MNT/groups/o$n/wait/Synchronized")"
	cmp "$(lun_file 3 1)" "$MNT/groups/o$n/images/o${n}_1"
	echo ReturnToResourcePool > "$MNT/groups/o$n/control"
	rmdir "$MNT/groups/o$n"
}

# times_out CMD...: EIO, by io_timeout
times_out()
{
	local from=$SECONDS
	must_fail "$@"
	assert_match "Input/output" "$OUTPUT"
	[ $((SECONDS - from)) -le 8 ] || fail "EIO after $((SECONDS - from)) s: $*"
}

cp "$(lun_file 1 1)" "$T/expected"
arm s slow bytes_per_second=$((40 * mib))
begin
wait_until 60 has_percent 10
arm t refuse existing=1
wait_until 30 file_matches "$G/waiting_for" '^t1: no connection for [0-9]+ s'
times_out dd if="$G/images/t1" of="$T/read" bs=64K skip=2900 count=1 iflag=direct
times_out dd if="$T/piece" of="$G/images/t1" bs=64K seek=2901 count=1 oflag=direct conv=notrunc
other_copies 1
assert_eq Unsynchronized "$(cat "$G/CopyState")"
disarm t refuse
wait_until 40 file_has "$G/waiting_for" ""
# What was answered EIO may be there or not.
dd if="$T/expected" of="$G/images/t1" bs=64K seek=2901 skip=2901 count=1 conv=notrunc,fsync status=none
disarm s slow
is_right
echo Detach > "$G/control"
note "the target was away, and the copy went on by itself"

# ---- it hangs ----

arm s slow bytes_per_second=$((40 * mib))
begin
wait_until 60 has_percent 10
arm t stall
readers=()
for i in {1..24}; do
	dd if="$G/images/t1" of=/dev/null bs=64K skip=$((i * 120)) count=1 iflag=direct \
		2> "$T/reader$i" {never_fd}<&- &
	readers+=($!)
done
other_copies 2
for pid in "${readers[@]}"; do
	wait "$pid" && fail "a read of a target that hangs was answered"
done
times_out dd if="$G/images/t1" of=/dev/null bs=4K skip=5 count=1 iflag=direct
disarm t stall
disarm s slow
is_right
echo Detach > "$G/control"
note "the target hung, and nobody else did"

# ---- connections that break between command and answer, retries, a failing sync ----

begin
arm t cut op=write count=6 after=9
arm t busy op=write count=5 after=20
is_right
wait_fired t cut
wait_fired t busy
echo Detach > "$G/control"
begin
arm t cut op=sync at=answer count=2
is_right
wait_fired t cut
echo Detach > "$G/control"
note "connections that broke"

# ---- it fails ----

arm s slow bytes_per_second=$((40 * mib))
begin
wait_until 60 has_percent 5
arm t sense op=write key=3 asc=0x0c ascq=0 count=0
assert_eq Broken "$(timeout 60 cat "$G/wait/Broken")"
assert_match 'target t1: writing bytes [0-9]+ to [0-9]+ failed' "$(cat "$G/pairs/1/error")"
disarm t sense
disarm s slow
echo ResyncReplica > "$G/control"
is_right
echo Detach > "$G/control"
note "a write that failed, and ResyncReplica after it"

# ---- its job is told to wait, and to end ----

arm s slow bytes_per_second=$((40 * mib))
begin
wait_until 60 has_percent 5
echo Suspend > "$G/job/control"
assert_eq Suspended "$(cat "$G/CopyState")"
cmp -n 65536 -i $((100 * mib)) "$T/expected" "$G/images/t1"
echo Start > "$G/job/control"
wait_until 60 has_percent 20
echo Terminate > "$G/job/control"
assert_eq Aborted "$(cat "$G/CopyState")"
# What had not come is not there, and not what was there before.
must_fail dd if="$G/images/t1" of="$T/read" bs=64K skip=3000 count=1 iflag=direct
disarm s slow
echo ResyncReplica > "$G/control"
is_right
echo Detach > "$G/control"
note "Suspend, Start, Terminate"

# ---- ended in mid-copy ----

arm s slow bytes_per_second=$((40 * mib))
begin
wait_until 60 has_percent 5
echo Detach > "$G/control"
assert_eq Detaching "$(cat "$G/ProgressStatus")"
assert_eq t1 "$(cat "$MNT/groups/dst/members")"
kill9_lunfs
start_lunfs
ready
disarm s slow
assert_eq "Not Applicable" "$(timeout 60 cat "$G/wait/NotApplicable")"
cmp -n $size "$T/expected" "$(lun_file 2 1)"
cmp "$(lun_file 2 1)" "$MNT/elements/t1/data"
arm s slow bytes_per_second=$((40 * mib))
begin
wait_until 60 has_percent 5
cmp -n 65536 -i $((150 * mib)) "$T/expected" "$G/images/t1"
# (The handle of cmp goes a moment after cmp.)
wait_until 10 put "$G/control" ReturnToResourcePool
assert_eq "" "$(cat "$MNT/elements/t1/relationships")"
disarm s slow
# Its data is what it holds, part of it old.
cmp "$(lun_file 2 1)" "$MNT/elements/t1/data"
must_fail cmp -n $size "$T/expected" "$(lun_file 2 1)"
no_maps()
{
	[ -z "$(find "$POOL" -name 'e*')" ]
}
wait_until 20 no_maps
note "Detach and ReturnToResourcePool in mid-copy"

# ---- it becomes another LUN ----

arm s slow bytes_per_second=$((40 * mib))
begin
wait_until 60 has_percent 10
arm t refuse existing=1
wait_until 30 file_matches "$G/waiting_for" '^t1: no connection'
fill_random "$T/stranger" 194M 99
before=$(sha256sum < "$T/stranger")
tgt --op delete --mode logicalunit --tid 2 --lun 1
tgt --op new --mode logicalunit --tid 2 --lun 1 -b "$T/stranger"
tgt --op update --mode logicalunit --tid 2 --lun 1 --params scsi_sn=another,scsi_id=another
disarm t refuse
assert_eq Broken "$(timeout 60 cat "$G/wait/Broken")"
assert_match 'another LUN' "$(cat "$G/pairs/1/error")"
assert_eq Error "$(cat "$MNT/elements/t1/OperationalStatus")"
assert_eq "$before" "$(sha256sum < "$T/stranger")" "a LUN that is not the target"
echo ReturnToResourcePool > "$G/control"
assert_eq "Not Applicable" "$(cat "$G/CopyState")"
[ -e "$MNT/elements/t1" ] || fail "the element has gone"
disarm s slow
note "another LUN in its place: nothing is written to it"
stop_lunfs
