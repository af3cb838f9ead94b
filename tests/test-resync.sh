#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
#
# ResyncReplica of a Clone as its user sees it: what comes is the new instant, and what is
# written is what differs.  Images, one of which users write to, whose file is touched, and
# whose daemon is killed in the copy; a LUN; a source that others write.
. "${top_srcdir:-$(dirname "$0")/..}/tests/lib.sh"
. "$top_srcdir/tests/replica.sh"
need_lunfs
need_cmd python3

seed=${LUNFS_TEST_SEED:-$RANDOM}
note "LUNFS_TEST_SEED=$seed"
RANDOM=$seed
chunk=65536
n=512			# chunks of db0
size=$((n * chunk))

start_tgtd
add_target 1
add_target 2
fill_random "$(lun_file 1 1)" 32M "$seed"
add_lun 1 1 32M
fill_random "$(lun_file 1 2)" 4M "$seed-2"
add_lun 1 2 4M
fill_random "$(lun_file 2 1)" 32M "$seed-3"
add_lun 2 1 32M
start_proxy source
start_proxy target
write_conf <<-END
	[element db0]
	url = $(lun_url 1 1 "${proxy_port[source]}")
	access = exclusive
	[element open0]
	url = $(lun_url 1 2)
	[element lun0]
	url = $(lun_url 2 1 "${proxy_port[target]}")
	access = exclusive
END

# change FILE CHUNK...: these become others.
change()
{
	local file=$1 c
	shift
	for c; do
		head -c $chunk /dev/urandom |
			dd of="$file" bs=$chunk seek="$c" conv=notrunc status=none
	done
	sync "$file"
}

# some COUNT: as many different chunks of db0.
some()
{
	python3 -c "import random; random.seed($RANDOM); print(*random.sample(range($n), $1), sep='\n')"
}

# What the daemon has written by system calls, and read: files and sockets alike.
wrote() { awk '/^wchar/ { print $2 }' "/proc/$lunfs_pid/io"; }
was_read() { awk '/^rchar/ { print $2 }' "/proc/$lunfs_pid/io"; }

# resync GROUP: from its write to Synchronized; the group is right, $written and $read say
# what it took.
resync()
{
	written=$(wrote)
	read=$(was_read)
	echo ResyncReplica > "groups/$1/control"
	assert_eq Synchronized "$(timeout 60 cat "groups/$1/wait/Synchronized")"
	written=$(($(wrote) - written))
	read=$(($(was_read) - read))
	note "$1: written $written, read $read"
}

# copied GROUP CHUNKS [OF]: a counter is shown as it was up to a second ago.
copied()
{
	local of=${3:-$n}
	wait_until 3 file_has "groups/$1/pairs/1/bytes_copied" $(($2 * chunk))
	wait_until 3 file_has "groups/$1/pairs/1/bytes_skipped" $(((of - $2) * chunk))
}

same_as_db0()
{
	dd if="$1" iflag=direct bs=1M status=none | cmp - "$(lun_file 1 1)"
}

start_lunfs
cd "$MNT"
wait_until 20 are_ready db0 open0 lun0
take c SourceElement=db0 SyncType=Clone
assert_eq Synchronized "$(timeout 60 cat groups/c/wait/Synchronized)"
image=groups/c/images/c_1
raw=$(readlink -f elements/c_1/backing)

note "one chunk in a hundred"
mapfile -t changed < <(some 5)
change elements/db0/data "${changed[@]}"
resync c
copied c 5
[ $written -lt $((size / 50)) ] || fail "$written bytes were written for 5 chunks"
[ $read -lt $((size * 11 / 10)) ] || fail "$read bytes were read"
same_as_db0 $image
allocated=$(stat -c %b "$raw")

note "nothing at all, after a restart"
cd /
stop_lunfs
start_lunfs
cd "$MNT"
wait_until 20 are_ready db0
resync c
copied c 0
same_as_db0 $image

note "written by users, too"
change $image 3 77
printf users | dd of=$image bs=1 seek=$((200 * chunk + 17)) conv=notrunc,fsync status=none
assert_eq Skewed "$(cat groups/c/CopyState)"
change elements/db0/data 77 400
resync c
copied c 4
[ $written -lt $((size / 50)) ] || fail "$written bytes were written for 4 chunks"
same_as_db0 $image

note "and still open, when the daemon is killed"
exec 3<> $image
change $image 5 300
cd /
kill9_lunfs
exec 3>&-
start_lunfs
cd "$MNT"
check_store
wait_until 20 are_ready db0
resync c
copied c 2
same_as_db0 $image

note "its file was touched"
change "$raw" 123
touch "$raw"
resync c
copied c 1
[ $read -gt $((size * 19 / 10)) ] || fail "$read bytes were read: not all of both"
same_as_db0 $image
assert_eq "$allocated" "$(stat -c %b "$raw")" "blocks of the raw file"

note "kill -9 in the middle"
arm source slow bytes_per_second=12000000
mapfile -t changed < <(some 60)
change elements/db0/data "${changed[@]}"
echo ResyncReplica > groups/c/control
wait_until 10 file_has groups/c/CopyState Unsynchronized
wait_until 20 file_matches groups/c/PercentSynced '^[3-8][0-9]$'
# What is not there yet is of the new instant.
dd if=$image bs=$chunk skip="${changed[0]}" count=1 status=none |
	cmp - <(dd if="$(lun_file 1 1)" bs=$chunk skip="${changed[0]}" count=1 status=none)
cd /
kill9_lunfs
start_lunfs
cd "$MNT"
check_store
disarm source slow
assert_eq Synchronized "$(timeout 60 cat groups/c/wait/Synchronized)"
same_as_db0 $image
moved=$(cat groups/c/pairs/1/bytes_copied)
# What had come just before is counted as if it had been copied.
[ "$moved" -ge $((60 * chunk)) ] && [ "$moved" -le $((300 * chunk)) ] ||
	fail "bytes_copied is $moved, of 60 chunks that differ"
resync c
copied c 0

note "given up in the middle, and suspended"
arm source slow bytes_per_second=12000000
for operation in Abort Suspend; do
	mapfile -t changed < <(some 30)
	change elements/db0/data "${changed[@]}"
	echo ResyncReplica > groups/c/control
	wait_until 10 file_has groups/c/CopyState Unsynchronized
	wait_until 20 file_matches groups/c/PercentSynced '^[2-8][0-9]$'
	echo $operation > groups/c/control
	wait_until 10 file_matches groups/c/CopyState '^(Aborted|Suspended)$'
	change elements/db0/data "${changed[@]:0:9}"
done
disarm source slow
resync c
same_as_db0 $image
[ $written -lt $((size / 4)) ] || fail "$written bytes were written"

note "a LUN"
mkdir groups/onto
echo lun0 > groups/onto/members
take l SourceElement=db0 SyncType=Clone TargetGroup=onto
assert_eq Synchronized "$(timeout 60 cat groups/l/wait/Synchronized)"
change elements/db0/data 9 10 11
change elements/lun0/data 40
before=$(proxy_count target write_bytes)
resync l
# Of what users wrote, the whole region of 16 chunks.
assert_eq $((19 * chunk)) $(($(proxy_count target write_bytes) - before)) "written to the LUN"
same_as_db0 "$(lun_file 2 1)"

note "a source that others write"
take o SourceElement=open0 SyncType=Clone
assert_eq Synchronized "$(timeout 60 cat groups/o/wait/Synchronized)"
change "$(lun_file 1 2)" 7 50
resync o
copied o 2 64
cmp groups/o/images/o_1 "$(lun_file 1 2)"
must_refuse groups/o/control RestoreFromReplica "Read-only file system"
assert_match '"open0" is shared' "$(cat groups/o/result)"
must_refuse groups/l/control RestoreFromReplica "Operation not supported"
assert_match '"lun0" is a LUN, not an image; write Detach' "$(cat groups/l/result)"

note "the end"
resync c
id=$(basename "$raw" .raw)
[ "$(cd "$POOL" && echo "$id".*.digest)" = "$(cd "$POOL" && ls | grep "^$id.*digest")" ] ||
	fail "digests: $(ls "$POOL")"
assert_eq 1 "$(cd "$POOL" && ls | grep -c "^$id.*digest")" "files of digests"
echo Detach > groups/c/control
drop o
echo Detach > groups/l/control
no_digests()
{
	[ -z "$(cd "$POOL" && ls | grep digest)" ]
}
wait_until 10 no_digests
same_as_db0 elements/c_1/data
cd /
stop_lunfs
