#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
#
# RestoreFromReplica as its user sees it: a group of two LUNs goes back to a snapshot, and
# is read and written meanwhile, over kill -9 and a stop in its middle.  db0 is slow, and
# the target refuses one chunk of log0, so that the middle lasts as long as it has to.
. "${top_srcdir:-$(dirname "$0")/..}/tests/lib.sh"
. "$top_srcdir/tests/replica.sh"
need_lunfs

rw=$top_builddir/tests/rwmodel
[ -x "$rw" ] || skip "$rw is not built"
seed=${LUNFS_TEST_SEED:-$RANDOM}
note "LUNFS_TEST_SEED=$seed"
RANDOM=$seed

start_tgtd
for tid in 1 2; do
	add_target $tid
	fill_random "$(lun_file $tid 1)" 6M "$seed-$tid"
	add_lun $tid 1 6M
	start_proxy lun$tid
done
write_conf <<-END
	[element db0]
	url = $(lun_url 1 1 "${proxy_port[lun1]}")
	access = exclusive
	[element log0]
	url = $(lun_url 2 1 "${proxy_port[lun2]}")
	access = exclusive
END

# scribble FILE [SIZE]: some of its chunks become others.
scribble()
{
	local i
	for ((i = 0; i < 25; i++)); do
		head -c $((1 + RANDOM * 4)) /dev/urandom |
			dd of="$1" bs=64k seek=$((RANDOM % 90)) conv=notrunc status=none
	done
	sync "$1"
}

# log0_is FILE: all of it but the chunk that is refused.
log0_is()
{
	dd if=elements/log0/data iflag=direct bs=64k count=95 status=none | cmp -n $((95 * 65536)) - "$1"
}

# keep NAME: what its images are now.
keep()
{
	cp "groups/$1/images/$1_1" "$T/$1-1"
	cp "groups/$1/images/$1_2" "$T/$1-2"
}

# holds NAME...: its images are what they were.
holds()
{
	local name i
	for name; do
		for i in 1 2; do
			dd if="groups/$name/images/${name}_$i" iflag=direct bs=1M status=none |
				cmp - "$T/$name-$i"
		done
	done
}

job_is()
{
	file_has groups/s2/job/JobState "$1"
}

in_use()
{
	must_refuse "groups/$1/control" "$2" "Device or resource busy"
	assert_eq "6 In Use" "$(head -n 1 "groups/$1/result")"
}

start_lunfs
cd "$MNT"
wait_until 20 are_ready db0 log0
mkdir groups/src
echo "db0 log0" > groups/src/members
for name in s1 s2 s3; do
	take $name SourceGroup=src SyncType=Snapshot
	[ $name != s2 ] || scribble groups/s2/images/s2_1
	[ $name != s2 ] || scribble groups/s2/images/s2_2
	keep $name
	scribble elements/db0/data
	scribble elements/log0/data
	# the last chunk is the one that the target will refuse
	head -c 64K /dev/urandom |
		dd of=elements/log0/data bs=64k seek=95 conv=notrunc,fsync status=none
done

note "open sources"
exec 3< elements/log0/data
in_use s2 RestoreFromReplica
assert_match "1 open handle.*pid $$.*RestoreFromReplica Force" "$(cat groups/s2/result)"
exec 3<&-

note "right from the instant"
cat elements/log0/data > "$T/before"	# cached
arm lun1 slow bytes_per_second=800000
arm lun2 busy count=0 op=write lba=12160-12287
echo RestoreFromReplica > groups/s2/control
assert_eq "4096 Method Parameters Checked - Job Started" "$(head -n 1 groups/s2/result)"
wait_until 10 file_matches groups/s2/ProgressStatus "Restoring|Mixed"
wait_until 10 file_matches status '^s2 +Restoring +[0-9]+% '
log0_is "$T/s2-2"
run_in_background "$rw" run --source elements/db0/data --base "$T/s2-1" \
	--image "groups/s1/images/s1_1,$T/s1-1" --image "groups/s3/images/s3_1,$T/s3-1" \
	--seconds 60 --seed "$seed" --direct --save "$T/vol" --writers 2 --readers 2 \
	> "$T/rw-1" 2>&1
writer=$background_pid
assert_eq "RestoreFromReplica s2" "$(cat groups/s2/job/Name)"
job_is Running
for operation in RestoreFromReplica ResyncReplica Detach Deactivate ReturnToResourcePool; do
	in_use s2 $operation
done
in_use s1 RestoreFromReplica
must_refuse groups/s2/job/control Terminate "Device or resource busy"
assert_eq "" "$(cat groups/s2/control)"
# A new one is of the restored content.
take s4 SourceElement=log0 SyncType=Snapshot
dd if=groups/s4/images/s4_1 iflag=direct bs=64k count=95 status=none |
	cmp -n $((95 * 65536)) - "$T/s2-2"
[ "$(cat groups/s2/job/PercentComplete)" -lt 100 ] || fail "PercentComplete"

note "kill -9 in the middle (of db0: $(cat groups/s2/pairs/1/ProgressStatus))"
job=$(readlink groups/s2/job)
cd /
kill9_lunfs
wait_until 60 ended "$writer"
if grep MISMATCH "$T/rw-1"; then
	fail "$(cat "$T/rw-1")"
fi
start_lunfs
cd "$MNT"
check_store
assert_eq Restoring "$(cat groups/s2/pairs/2/ProgressStatus)"
assert_eq "$job" "$(readlink groups/s2/job)"
disarm lun1 slow
wait_until 20 are_ready db0 log0
"$rw" check elements/db0/data --model "$T/vol.0"
log0_is "$T/s2-2"
holds s1 s2 s3
cp elements/db0/data "$T/db0"

note "a stop in the middle"
cd /
stop_lunfs
start_lunfs
cd "$MNT"
assert_eq Restoring "$(cat groups/s2/pairs/2/ProgressStatus)"
job_is Running
wait_until 20 are_ready db0 log0
cmp elements/db0/data "$T/db0"
head -c 100000 /dev/urandom > "$T/news"
dd if="$T/news" of=elements/log0/data bs=100000 seek=7 conv=notrunc,fsync status=none
cp "$T/s2-2" "$T/log0"
dd if="$T/news" of="$T/log0" bs=100000 seek=7 conv=notrunc status=none

note "the end"
disarm lun2 busy
wait_until 20 job_is Completed
assert_eq Completed "$(cat groups/s2/ProgressStatus)"
assert_eq 100 "$(cat groups/s2/job/PercentComplete)"
file_matches groups/s2/control "^Restore from Replica$" > "$T/out"
cmp elements/db0/data "$T/db0"
cmp elements/log0/data "$T/log0"
cmp "$(lun_file 1 1)" "$T/db0"
cmp "$(lun_file 2 1)" "$T/log0"
holds s1 s2 s3
cmp groups/s4/images/s4_1 "$T/s2-2"
assert_eq "" "$(cd "$POOL" && ls | grep '^r' || :)" "maps of restores"

note "and the other way round"
echo RestoreFromReplica > groups/s3/control
wait_until 20 file_has groups/s3/job/JobState Completed
cmp elements/db0/data "$T/s3-1"
cmp elements/log0/data "$T/s3-2"
holds s1 s2

note "of a Clone, over kill -9"
take c SourceGroup=src SyncType=Clone
assert_eq Synchronized "$(timeout 60 cat groups/c/wait/Synchronized)"
scribble groups/c/images/c_1
keep c
take s5 SourceGroup=src SyncType=Snapshot
scribble elements/db0/data
scribble elements/log0/data
head -c 64K /dev/urandom |
	dd of=elements/log0/data bs=64k seek=95 conv=notrunc,fsync status=none
take s6 SourceGroup=src SyncType=Snapshot
keep s5
keep s6
arm lun1 slow bytes_per_second=2000000
arm lun2 busy count=0 op=write lba=12160-12287
exec 3< elements/db0/data
in_use c RestoreFromReplica
exec 3<&-
echo RestoreFromReplica > groups/c/control
wait_until 10 file_matches groups/c/ProgressStatus "Restoring|Mixed"
# But for the 16 chunks that are compared with the one that is refused.
dd if=elements/log0/data iflag=direct bs=64k count=80 status=none | cmp -n $((80 * 65536)) - "$T/c-2"
# What is written to the image from now on is not of this restore, nor what the source gets.
dd if="$T/news" of=groups/c/images/c_1 bs=64k seek=90 count=1 conv=notrunc,fsync status=none
dd if="$T/news" of=elements/db0/data bs=1000 seek=77 count=1 conv=notrunc,fsync status=none
dd if="$T/news" of="$T/c-1" bs=1000 seek=77 count=1 conv=notrunc status=none
assert_eq Restoring "$(cat groups/c/pairs/2/ProgressStatus)"
assert_eq Skewed "$(cat groups/c/pairs/1/CopyState)"
in_use c ResyncReplica
in_use s5 RestoreFromReplica
job=$(readlink groups/c/job)
cd /
kill9_lunfs
start_lunfs
cd "$MNT"
check_store
assert_eq "$job" "$(readlink groups/c/job)"
disarm lun1 slow
wait_until 20 are_ready db0 log0
cmp elements/db0/data "$T/c-1"
job_of_c_is()
{
	file_has groups/c/job/JobState "$1"
}
job_of_c_is Running
disarm lun2 busy
wait_until 20 job_of_c_is Completed
cmp "$(lun_file 1 1)" "$T/c-1"
cmp "$(lun_file 2 1)" "$T/c-2"
holds s1 s5 s6
cmp -n 65536 groups/c/images/c_1 "$T/news" $((90 * 65536)) 0
assert_eq "" "$(cd "$POOL" && ls | grep '^r' || :)" "maps of restores"
# Of what was left at the restart.
total=$(cat groups/c/job/bytes_total)
[ "$total" -ge $((1 << 20)) ] && [ "$(cat groups/c/job/bytes_copied)" -lt $((total * 2 / 3)) ] ||
	fail "written: $(cat groups/c/job/bytes_copied) of $total"
cd /
(cd "$MNT" && drop s1 s2 s3 s4 s5 s6 c)
stop_lunfs
