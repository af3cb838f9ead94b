#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
#
# TargetElementCount: several replicas of one element, which is read once for all of
# them; also when copying begins anew, and when the daemon is killed meanwhile.
. "${top_srcdir:-$(dirname "$0")/..}/tests/lib.sh"
need_lunfs

size=$((64 << 20))
start_tgtd
add_target 1
for i in 1 2; do
	fill_random "$(lun_file 1 $i)" 64M $i
	add_lun 1 $i 64M
done
start_proxy p
write_conf <<-END
	[element db0]
	url = $(lun_url 1 1 "${proxy_port[p]}")
	access = exclusive
	[element shared0]
	url = $(lun_url 1 2 "${proxy_port[p]}")
END
start_lunfs
cd "$MNT"
for e in db0 shared0; do
	wait_until 10 file_has "elements/$e/OperationalStatus" OK
done

# count_read: OUTPUT is what was read of the target since the last call.
bytes=0
count_read()
{
	local now
	now=$(proxy_count p read_bytes)
	OUTPUT=$((now - bytes))
	bytes=$now
}

# read_once WHAT: since the last call, up to 5 % more than one element.
read_once()
{
	count_read
	[ "$OUTPUT" -ge $size ] && [ "$OUTPUT" -le $((size * 105 / 100)) ] ||
		fail "$1: $OUTPUT bytes were read of the source's $size"
}

# are NAME N FILE: all N images of it have its bytes.
are()
{
	local i
	for ((i = 1; i <= $2; i++)); do
		cmp "groups/$1/images/$1_$i" "$3"
	done
}

note "one, then four, of an element that is written through LunFS only"
for n in 1 4; do
	mkdir "groups/x$n"
	count_read
	echo "SourceElement=db0 SyncType=Clone TargetElementCount=$n WaitForCopyState=Synchronized" \
		> "groups/x$n/spec"
	read_once "$n clones"
	assert_match '^0 ' "$(cat "groups/x$n/result")"
	are "x$n" $n "$(lun_file 1 1)"
done
assert_eq $'x4_1\nx4_2\nx4_3\nx4_4' "$(cat groups/x4/members)"
assert_eq $'x4_1\nx4_2\nx4_3\nx4_4' "$(ls groups/x4/images)" "no symlink stands for four"
assert_match 'TargetElementCount=4' "$(cat groups/x4/spec)"
for i in 1 2 3 4; do
	assert_eq Synchronized "$(cat groups/x4/pairs/$i/CopyState)"
	assert_eq db0 "$(basename "$(readlink groups/x4/pairs/$i/source)")"
done

note "what is written to one of them is the others' business as little as the source's"
echo changed | dd of=groups/x4/images/x4_2 conv=notrunc status=none
cmp groups/x4/images/x4_3 "$(lun_file 1 1)"
must_fail cmp -s groups/x4/images/x4_2 "$(lun_file 1 1)"
wait_until 10 file_has groups/x4/CopyState Mixed

note "ResyncReplica takes one instant for all, and reads once"
fill_random "$T/new" 1M 7
dd if="$T/new" of=elements/db0/data bs=1M seek=20 conv=notrunc,fsync status=none
count_read
echo ResyncReplica > groups/x4/control
timeout 30 cat groups/x4/wait/Synchronized > /dev/null
read_once ResyncReplica
are x4 4 "$(lun_file 1 1)"

note "four of an element that others write"
mkdir groups/s
count_read
echo "SourceElement=shared0 SyncType=Clone TargetElementCount=4 WaitForCopyState=Synchronized" \
	> groups/s/spec
read_once "four of a shared one"
are s 4 "$(lun_file 1 2)"

note "snapshots: of one instant, each on its own; detached, the source is read once"
mkdir groups/snap
echo "SourceElement=db0 SyncType=Snapshot TargetElementCount=3" > groups/snap/spec
cp --sparse=never "$(lun_file 1 1)" "$T/instant"
dd if="$T/new" of=elements/db0/data bs=1M seek=40 conv=notrunc,fsync status=none
dd if="$T/new" of=groups/snap/images/snap_3 bs=1M seek=1 conv=notrunc,fsync status=none
are snap 2 "$T/instant"
dd if="$T/new" of="$T/instant" bs=1M seek=1 conv=notrunc status=none
cmp groups/snap/images/snap_3 "$T/instant"
must_refuse groups/snap/control RestoreFromReplica 'not supported'
assert_match 'several replicas of "db0"' "$(cat groups/snap/result)"
count_read
echo Detach > groups/snap/control
wait_until 30 file_has groups/snap/CopyState "Not Applicable"
count_read
[ "$OUTPUT" -le $((size * 105 / 100)) ] || fail "Detach: $OUTPUT bytes were read"
cmp elements/snap_3/data "$T/instant"

note "the daemon is killed in mid-copy: all of them go on"
cp --sparse=never "$(lun_file 1 1)" "$T/instant"
mkdir groups/killed
arm p slow bytes_per_second=20000000
echo "SourceElement=db0 SyncType=Clone TargetElementCount=4" > groups/killed/spec
wait_until 20 eval '[ "$(cat groups/killed/PercentSynced)" -ge 25 ]'
cd /
kill9_lunfs
start_lunfs
cd "$MNT"
disarm p slow
assert_eq Synchronized "$(timeout 60 cat groups/killed/wait/Synchronized)"
are killed 4 "$T/instant"

note "ReturnToResourcePool gives all of them back"
for g in x1 x4 s killed; do
	echo ReturnToResourcePool > "groups/$g/control"
	rmdir "groups/$g"
done
assert_eq "db0 shared0 snap_1 snap_2 snap_3" "$(ls elements | tr '\n' ' ' | sed 's/ $//')"
