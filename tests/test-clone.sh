#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
#
# The main job on a real target: groups and single elements are cloned, and what
# the tree says of it, what the images hold and what they occupy is right.
. "${top_srcdir:-$(dirname "$0")/..}/tests/lib.sh"
need_lunfs
need_cmd mke2fs qemu-img python3

start_tgtd
add_target 1
mkdir "$T/tree" "$T/tree/sub"
fill_random "$T/tree/data" 3M 1
seq 100000 > "$T/tree/sub/numbers"
truncate -s 64M "$(lun_file 1 1)"
mke2fs -q -t ext4 -F -d "$T/tree" "$(lun_file 1 1)"
add_lun 1 1 64M
truncate -s 128M "$(lun_file 1 2)"
fill_random "$T/piece" 1M 2
dd if="$T/piece" of="$(lun_file 1 2)" bs=64K seek=17 conv=notrunc status=none
dd if="$T/piece" of="$(lun_file 1 2)" bs=1M seek=127 conv=notrunc status=none
add_lun 1 2 128M thin
odd=$((5 * 1024 * 1024 + 3 * 512))
fill_random "$(lun_file 1 3)" $odd 3
add_lun 1 3 $odd
fill_random "$T/file0" $((3 * 1024 * 1024 + 512)) 4
add_target 2
fill_random "$(lun_file 2 1)" 64M 5
add_lun 2 1 64M
start_proxy slow

mkdir "$T/pool1"
write_conf <<-END
	[pool pool1]
	type = dir
	path = $T/pool1

	[element ext0]
	url = $(lun_url 1 1)
	access = exclusive

	[element thin0]
	url = $(lun_url 1 2)
	access = exclusive

	[element odd0]
	url = $(lun_url 1 3)
	access = exclusive

	[element file0]
	url = file://$T/file0
	access = exclusive

	[element slow0]
	url = $(lun_url 2 1 "${proxy_port[slow]}")
END
start_lunfs
cd "$MNT"

# code FILE: line 1 of a result
code()
{
	head -n 1 "$1"
}

# no_lines FILE: as empty as NULL
is_null()
{
	assert_eq "" "$(cat "$1")" "$1"
}

# same FILE IMAGE: byte for byte, also as QEMU reads it
same()
{
	cmp "$1" "$2"
	qemu-img compare -q -f raw -F raw "$1" "$2"
}

# kib FILE: what it occupies
kib()
{
	du -kL "$1" | cut -f1
}

time_of_day='^20[0-9]{2}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-6][0-9]\.[0-9]{3}Z$'
job_started="4096 Method Parameters Checked - Job Started"
done_0="0 Completed with No Error"

# ---- a group of three LUNs ----

mkdir groups/prod
echo "ext0 thin0 odd0" > groups/prod/members
assert_eq "ext0 thin0 odd0" "$(paste -sd' ' groups/prod/members)" members
assert_eq "Not Applicable" "$(cat groups/prod/CopyState)"
mkdir groups/nightly
G=groups/nightly
before=$(date +%s%3N)
echo "SourceGroup=prod SyncType=Clone" > $G/spec
assert_eq "$job_started" "$(code $G/result)"
assert_eq 2 "$(wc -l < $G/result)" "lines of result"
assert_match "$time_of_day" "$(tail -n 1 $G/result | cut -d' ' -f1)"
assert_match " pid $$\$" "$(tail -n 1 $G/result)"
assert_eq Synchronized "$(timeout 30 cat $G/wait/Synchronized)" wait
after=$(date +%s%3N)

while IFS='|' read -r name value; do
	assert_eq "$value" "$(cat "$G/$name")" "$name"
done <<-END
	CopyState|Synchronized
	RequestedCopyState|Not Applicable
	ProgressStatus|Completed
	PercentSynced|100
	RelationshipName|nightly
	SyncType|Clone
	Mode|Asynchronous
	SyncMaintained|false
	Consistency|Sequential Consistency
	ConsistencyEnabled|true
	ConsistencyType|Sequentially Consistent
	ConsistencyState|Consistent
	ConsistencyStatus|Completed
	CopyRecoveryMode|Automatic
	FailedCopyStopsHostIO|false
	relationships|nightly target
	waiting_for|
	WhenDeactivated|
	WhenSuspended|
END
for name in WhenEstablished WhenActivated WhenSynced WhenSynchronized; do
	assert_match "$time_of_day" "$(cat $G/$name)" $name
	ms=$(date -d "$(cat $G/$name)" +%s%3N)
	if [ "$ms" -lt "$before" ] || [ "$ms" -gt "$after" ]; then
		fail "$name: $(cat $G/$name) lies not between the spec and now"
	fi
done
assert_eq "nightly_1 nightly_2 nightly_3" "$(paste -sd' ' $G/members)" "target elements"
assert_eq ../prod "$(readlink $G/source)" source
assert_eq "nightly source" "$(cat groups/prod/relationships)"
assert_eq "nightly source" "$(cat elements/ext0/relationships)"
assert_eq "nightly target" "$(cat elements/nightly_1/relationships)"
assert_eq "SourceGroup=prod" "$(grep Source $G/spec)" "spec as read"
assert_eq "[Run]" "$(tail -n 1 $G/spec)" "spec as read"
note "the group association: all properties"

sources=(ext0 thin0 odd0)
files=("$(lun_file 1 1)" "$(lun_file 1 2)" "$(lun_file 1 3)")
assert_eq "1 2 3" "$(ls $G/pairs | paste -sd' ')" pairs
for i in 0 1 2; do
	P=$G/pairs/$((i + 1))
	[ $P/source -ef elements/${sources[i]} ] || fail "$P/source: $(readlink $P/source)"
	[ $P/target -ef elements/nightly_$((i + 1)) ] || fail "$P/target: $(readlink $P/target)"
	size=$(stat -c %s "${files[i]}")
	assert_eq "$size" "$(cat $P/bytes_total)" "$P/bytes_total"
	assert_eq "$size" $(($(cat $P/bytes_copied) + $(cat $P/bytes_skipped))) "$P: copied + skipped"
	assert_eq Synchronized "$(cat $P/CopyState)"
	assert_eq Completed "$(cat $P/ProgressStatus)"
	assert_eq 100 "$(cat $P/PercentSynced)"
	assert_eq Frozen "$(cat $P/SyncState)"
	assert_eq UnSyncAssoc "$(cat $P/CopyType)"
	assert_eq "Full Copy" "$(cat $P/ReplicaType)"
	assert_eq "$(cat $G/WhenSynced)" "$(cat $P/WhenSynced)"
	is_null $P/error
done
[ "$(cat $G/pairs/2/bytes_skipped)" -ge $((120 << 20)) ] ||
	fail "the holes of a thin LUN were read: $(cat $G/pairs/2/bytes_skipped) skipped"
assert_eq 0 "$(cat $G/pairs/3/bytes_skipped)" "a LUN without holes"
note "pairs: all properties"

J=$G/job
assert_match '^\.\./\.\./jobs/[0-9]+$' "$(readlink $J)"
while IFS='|' read -r name value; do
	assert_eq "$value" "$(cat "$J/$name")" "job: $name"
done <<-END
	Name|CreateGroupReplica nightly
	JobState|Completed
	PercentComplete|100
	ErrorCode|0
	ErrorDescription|
	DeleteOnCompletion|false
END
assert_eq "OK Completed" "$(paste -sd' ' $J/OperationalStatus)" "job: OperationalStatus"
[ $J/group -ef $G ] || fail "job: group: $(readlink $J/group)"
assert_match "$time_of_day" "$(cat $J/StartTime)" StartTime
assert_match '^[0-9]+\.[0-9]{3}$' "$(cat $J/ElapsedTime)" ElapsedTime
total=$((64 * 1024 * 1024 + 128 * 1024 * 1024 + odd))
assert_eq $total "$(cat $J/bytes_total)" "job: bytes_total"
assert_eq $total $(($(cat $J/bytes_copied) + $(cat $J/bytes_skipped))) "job: copied + skipped"
note "the job: all files"

# ---- the images ----

for i in 0 1 2; do
	image=$G/images/nightly_$((i + 1))
	assert_eq "$(stat -c %s "${files[i]}")" "$(stat -c %s $image)" "$image: size"
	same "${files[i]}" $image
	assert_eq nightly_$((i + 1)) "$(readlink $G/images/${sources[i]})" "images/${sources[i]}"
	[ $image -ef elements/nightly_$((i + 1))/data ] || fail "$image is not its element's data"
	same "${files[i]}" "$(readlink -f elements/nightly_$((i + 1))/backing)"
done
assert_eq raw "$(qemu-img info $G/images/nightly_3 | sed -n 's/^file format: //p')" "qemu-img info"
occupied=$(kib elements/nightly_2/backing)
[ "$occupied" -le 4096 ] || fail "the image of a LUN with 2 MiB of data occupies $occupied KiB"
occupied=$(kib $G/images/nightly_2)
[ "$occupied" -le 4096 ] || fail "du of the image says $occupied KiB"
[ "$(kib $G/images/nightly_3)" -ge 5120 ] || fail "du of a full image: $(kib $G/images/nightly_3)"
assert_eq 440 "$(stat -Lc %a elements/nightly_1/backing)" "mode of the raw file"
note "images: the source's bytes, holes stay holes"

if (need_loop) > /dev/null; then
	mkdir "$T/ext4"
	dev=$(losetup --show -r -f $G/images/nightly_1)
	mount -t ext4 -o ro,noload "$dev" "$T/ext4"
	cmp "$T/tree/data" "$T/ext4/data"
	cmp "$T/tree/sub/numbers" "$T/ext4/sub/numbers"
	umount "$T/ext4"
	losetup -d "$dev"
	note "the image of a file system: mounted read-only"
fi

# ---- one element, another pool, another name ----

mkdir groups/one
echo "SourceElement=file0 SyncType=8 Mode=Synchronous RelationshipName=copy TargetPool=pool1 \
TargetElementCount=1 Consistency=2 WaitForCopyState=Synchronized" > groups/one/spec
assert_eq "$done_0" "$(code groups/one/result)" "Synchronized reached"
[ ! -L groups/one/job ] || fail "a job is left: $(readlink groups/one/job)"
assert_eq copy "$(cat groups/one/RelationshipName)"
assert_eq Synchronous "$(cat groups/one/Mode)"
assert_eq "No Consistency" "$(cat groups/one/Consistency)"
assert_eq false "$(cat groups/one/ConsistencyEnabled)"
assert_eq copy_1 "$(cat groups/one/members)"
assert_eq copy_1 "$(cat pools/pool1/images)"
[ groups/one/source -ef elements/file0 ] || fail "source: $(readlink groups/one/source)"
case $(readlink elements/copy_1/backing) in
"$T"/pool1/*) ;;
*) fail "not in TargetPool: $(readlink elements/copy_1/backing)" ;;
esac
same "$T/file0" groups/one/images/copy_1
same "$T/file0" groups/one/images/file0
note "SourceElement, a file, RelationshipName, TargetPool, Mode, Consistency=2"

mkdir groups/ini
cat > groups/ini/spec <<-END
	# an INI text
	SourceElement = odd0
	SyncType = clone
	Consistency = sequential_consistency
	; the end
	[Run]
END
assert_eq "$job_started" "$(code groups/ini/result)"
assert_eq Synchronized "$(timeout 30 cat groups/ini/wait/Synchronized)" wait
assert_eq "Sequential Consistency" "$(cat groups/ini/Consistency)"
same "$(lun_file 1 3)" groups/ini/images/odd0
note "an INI text; a second clone of one source"

# ---- members that others write ----

mkdir groups/mixed groups/three groups/two
echo "odd0 slow0" > groups/mixed/members
must_refuse groups/three/spec "SourceGroup=mixed SyncType=Clone Consistency=3" "Operation not supported"
assert_eq "1 Not Supported" "$(code groups/three/result)"
assert_match 'shared_method' "$(sed -n 2p groups/three/result)"
assert_match '"slow0"' "$(sed -n 2p groups/three/result)"
is_null groups/three/members
echo "SourceGroup=mixed SyncType=Clone" > groups/three/spec
assert_eq Synchronized "$(timeout 60 cat groups/three/wait/Synchronized)" wait
assert_eq "No Consistency" "$(cat groups/three/Consistency)"
assert_eq Inconsistent "$(cat groups/three/ConsistencyState)"
is_null groups/three/WhenSynced
assert_match shared "$(cat groups/three/consistency)" consistency
same "$(lun_file 2 1)" groups/three/images/slow0
same "$(lun_file 1 3)" groups/three/images/odd0
note "shared members: never called consistent"

# ---- read while it is copied ----

arm slow slow bytes_per_second=3000000
echo "SourceElement=slow0 SyncType=Clone" > groups/two/spec
assert_eq Unsynchronized "$(cat groups/two/CopyState)"
assert_eq Synchronizing "$(cat groups/two/ProgressStatus)"
assert_eq Synchronized "$(cat groups/two/RequestedCopyState)"
is_null groups/two/WhenSynchronized
assert_eq Running "$(cat groups/two/job/JobState)"
assert_eq "Copy In Progress" "$(cat groups/two/pairs/1/SyncState)"
[ ! -L elements/two_1/backing ] || fail "the raw file of an unfinished image is offered"
python3 - "$(lun_file 2 1)" groups/two/images/two_1 <<'END'
import os, random, sys
lun, image = (os.open(f, os.O_RDONLY) for f in sys.argv[1:])
size = os.fstat(lun).st_size
assert os.fstat(image).st_size == size
random.seed(1)
places = [(size - 1, 1), (size - 70001, 70001), (size - 4096, 8192), (size, 1)]
places += [(random.randrange(size), random.randrange(1, 200000)) for _ in range(6)]
for offset, length in places:
    want, got = os.pread(lun, length, offset), os.pread(image, length, offset)
    assert want == got, (offset, length)
END
assert_eq Unsynchronized "$(cat groups/two/CopyState)" "CopyState after the reads"
percent=$(cat groups/two/PercentSynced)
[ "$percent" -lt 100 ] || fail "PercentSynced is $percent while copying"
more_percent()
{
	[ "$(cat groups/two/PercentSynced)" -gt "$percent" ]
}
wait_until 20 more_percent
note "an image is read while it is copied, its far end first"

# ---- poll: a state and a number are told ----

python3 - groups/two "$T/polling" > "$T/poll.out" <<'END' &
import os, select, sys, time
g, polling = sys.argv[1:]
def text(fd):
    return os.pread(fd, 100, 0).decode().strip()
state = os.open(g + "/CopyState", os.O_RDONLY)
percent = os.open(g + "/PercentSynced", os.O_RDONLY)
p = select.poll()
for fd in state, percent:
    text(fd)
    p.register(fd, select.POLLPRI | select.POLLERR)
open(polling, "w").close()
end = time.monotonic() + 40
while time.monotonic() < end:
    for fd, events in p.poll(5000):
        print("percent" if fd == percent else "state", text(fd), flush=True)
        if fd == state and text(state) == "Synchronized":
            sys.exit(0)
END
background_pid=$!
started_pids+=("$background_pid")
wait_until 10 test -e "$T/polling"
cat groups/two/wait/Synchronized > "$T/wait.out" &
wait_pid=$!
started_pids+=("$wait_pid")
wait_until 20 grep -q '^percent [0-9]' "$T/poll.out"
assert_eq "" "$(cat "$T/wait.out")" "wait/ answered too early"
disarm slow slow
wait_until 40 ended "$wait_pid"
wait_until 40 ended "$background_pid"
assert_eq Synchronized "$(cat "$T/wait.out")" "wait/Synchronized"
grep -qx "state Synchronized" "$T/poll.out" || fail "poll: $(cat "$T/poll.out")"
same "$(lun_file 2 1)" groups/two/images/two_1
note "wait/ and poll tell the end"
