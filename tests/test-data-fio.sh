#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
#
# fio writes and verifies: data and images, random and in order, many at once, through
# the page cache and not, while the target is started anew and snapshots come and go.
. "${top_srcdir:-$(dirname "$0")/..}/tests/lib.sh"
need_lunfs
need_cmd fio

SEED=${LUNFS_TEST_SEED:-$RANDOM}
note "seed $SEED"
start_tgtd
add_target 1
add_lun 1 1 6M
add_lun 1 2 6M thin
write_conf <<-END
	[element db0]
	url = $(lun_url 1 1)
	access = exclusive
	[element log0]
	url = $(lun_url 1 2)
	access = exclusive
END
start_lunfs
cd "$MNT"
for e in db0 log0; do
	wait_until 10 file_has elements/$e/OperationalStatus OK
done
mkdir groups/prod
echo "db0 log0" > groups/prod/members
for type in Snapshot Clone; do
	mkdir groups/$type
	echo "SourceGroup=prod SyncType=$type" > groups/$type/spec
done
DATA=$MNT/elements/db0/data:$MNT/elements/log0/data
IMAGES=$MNT/groups/Snapshot/images/Snapshot_1:$MNT/groups/Clone/images/Clone_2

# run_fio NAME FILES OPTIONS...: writes all of it, then reads it and verifies.
run_fio()
{
	local name=$1 files=$2
	shift 2
	fio --name="$name" --filename="$files" --filesize=6M --size=12M --randseed="$SEED" \
		--verify=crc32c --verify_fatal=1 --verify_dump=0 --verify_state_save=0 \
		--aux-path="$T" --ioengine=libaio "$@" > "$T/$name.out" 2>&1 ||
		fail "fio $name: $(cat "$T/$name.out")"
	grep -q 'verify: bad' "$T/$name.out" && fail "fio $name: $(cat "$T/$name.out")"
	note "$name"
}

run_fio random "$DATA" --rw=randwrite --bsrange=4k-128k --direct=1 --iodepth=32 --fsync=50
run_fio inorder "$DATA" --rw=write --bs=256k --direct=1 --iodepth=8
run_fio buffered "$DATA" --rw=randwrite --bsrange=512-64k --bs_unaligned=1 --direct=0 --end_fsync=1
run_fio mapped "$DATA" --ioengine=mmap --rw=randwrite --bs=4k --direct=0 --fsync=500
run_fio image-random "$IMAGES" --rw=randwrite --bsrange=4k-128k --direct=1 --iodepth=32 --fsync=50
run_fio image-buffered "$IMAGES" --rw=randwrite --bsrange=512-64k --bs_unaligned=1 --direct=0 --end_fsync=1
head -c 6M /dev/zero | cmp - groups/Snapshot/images/Snapshot_2
head -c 6M /dev/zero | cmp - groups/Clone/images/Clone_1

(run_fio restarted "$DATA" --rw=randwrite --bs=4k --direct=1 --iodepth=32 --fsync=200) &
load=$!
started_pids+=("$load")
n=0
until ended $load; do
	n=$((n + 1))
	[ $n -gt 3 ] || restart_tgtd
	mkdir groups/s$n
	echo "SourceGroup=prod SyncType=Snapshot" > groups/s$n/spec || :
	wait_until 20 file_has elements/db0/OperationalStatus OK
	wait_until 20 file_has elements/log0/OperationalStatus OK
	[ ! -s groups/s$n/CopyState ] || [ "$(cat groups/s$n/CopyState)" = "Not Applicable" ] ||
		echo ReturnToResourcePool > groups/s$n/control
	rmdir groups/s$n
done
wait $load
note "$n snapshots came and went"
cmp elements/db0/data "$(lun_file 1 1)"
cmp elements/log0/data "$(lun_file 1 2)"
cd /
stop_lunfs
