#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
#
# Snapshots as their user sees them: made, read, written, watched, brought to a new
# instant, kept, deleted; over a stop and a crash of the daemon; many of them.
. "${top_srcdir:-$(dirname "$0")/..}/tests/lib.sh"
need_lunfs
need_cmd python3 inotifywait

N_SNAPSHOTS=${LUNFS_TEST_SNAPSHOTS:-32}
seed=${LUNFS_TEST_SEED:-$RANDOM}
echo "LUNFS_TEST_SEED=$seed"
RANDOM=$seed

start_tgtd
add_target 1
for lun in $(seq 16); do
	fill_random "$(lun_file 1 "$lun")" 1M "$lun"
	add_lun 1 "$lun" 1M
done
for lun in $(seq 16); do
	cat <<-END
		[element e$lun]
		url = $(lun_url 1 "$lun")
		access = exclusive

	END
done | write_conf
start_lunfs
cd "$MNT"

job_started="4096 Method Parameters Checked - Job Started"
done_0="0 Completed with No Error"

code()
{
	head -n 1 "$1"
}

# scribble LUN: a few of its 4 KiB blocks become others, through LunFS.
scribble()
{
	local n
	for n in 1 2 3; do
		head -c 4096 /dev/urandom |
			dd of="elements/e$1/data" bs=4096 seek=$((RANDOM % 256)) \
				conv=notrunc,fsync status=none
	done
}

# keep_content NAME LUN...: what they have now.
keep_content()
{
	local name=$1 lun
	shift
	for lun in "$@"; do
		cp "elements/e$lun/data" "$T/$name-$lun"
	done
}

# is_content GROUP NAME LUN...: whether its images have that.
is_content()
{
	local group=$1 name=$2 lun
	shift 2
	for lun in "$@"; do
		cmp "$T/$name-$lun" "groups/$group/images/e$lun"
	done
}

no_points()
{
	local n
	n=$(find "$POOL" -name 'p[0-9]*' | wc -l)
	echo "$n files of points" && [ "$n" -eq 0 ]
}

# ---- two minutes ----

mkdir groups/prod groups/snap
echo "e1 e2" > groups/prod/members
keep_content first 1 2
before=$(date +%s%3N)
echo "SourceGroup=prod SyncType=Snapshot" > groups/snap/spec
assert_eq "$done_0" "$(code groups/snap/result)"
assert_eq Synchronized "$(cat groups/snap/CopyState)"
assert_eq 100 "$(cat groups/snap/PercentSynced)"
assert_eq Snapshot "$(cat groups/snap/SyncType)"
assert_eq "$(cat groups/snap/WhenSynced)" "$(cat groups/snap/WhenSynchronized)" "the times"
[ "$(date -d "$(cat groups/snap/WhenSynced)" +%s%3N)" -ge "$before" ] || fail "WhenSynced"
assert_match "^exclusive: " "$(cat groups/snap/consistency)" consistency
assert_match "instant: $(cat groups/snap/WhenSynced)" "$(cat groups/snap/consistency)"
assert_eq "" "$(cat groups/snap/waiting_for)" waiting_for
assert_eq Synchronized "$(timeout 5 cat groups/snap/wait/Synchronized)" wait
[ ! -L groups/snap/job ] || fail "a Snapshot has a job"
assert_eq "" "$(ls jobs)" jobs
assert_eq "After Delta" "$(cat groups/snap/pairs/1/ReplicaType)"
assert_eq Copy-On-Write "$(cat groups/snap/pairs/1/CopyMethodology)"
assert_eq UnSyncAssoc "$(cat groups/snap/pairs/1/CopyType)"
assert_eq "e1 e2 snap_1 snap_2" "$(ls groups/snap/images | tr '\n' ' ' | sed 's/ $//')" images
assert_eq snap_1 "$(readlink groups/snap/images/e1)"
assert_eq ../prod "$(readlink groups/snap/source)"
assert_eq "Deactivate
Detach
Dissolve
Resync Replica
Restore from Replica
Return To ResourcePool
Verify" "$(cat groups/snap/control)" control
scribble 1
scribble 2
is_content snap first 1 2
! cmp -s "$T/first-1" elements/e1/data || fail "the write did not arrive"
note "made, read, and unchanged while its source is written"

# ---- watched ----

cat > "$T/poll.py" <<'END'
import os, select, sys
f = os.open(sys.argv[1], os.O_RDONLY)
os.read(f, 100)
p = select.poll()
p.register(f, select.POLLPRI)
print("ready", flush=True)
while True:
    p.poll(20000)
    os.lseek(f, 0, 0)
    state = os.read(f, 100).decode().strip()
    if state == sys.argv[2]:
        break
print(state, flush=True)
END
python3 "$T/poll.py" groups/snap/pairs/1/CopyState Skewed > "$T/poll.out" {never_fd}<&- &
poller=$!
inotifywait -m -e modify groups/snap/pairs/1/CopyState > "$T/inotify.out" 2> "$T/inotify.err" {never_fd}<&- &
watcher=$!
started_pids+=("$poller" "$watcher")
wait_until 10 grep -q ready "$T/poll.out"
wait_until 10 grep -q "Watches established" "$T/inotify.err"
# What was told of before may still arrive.
n_modified()
{
	grep -c MODIFY "$T/inotify.out" || :
}
modified=$(n_modified)
told_again()
{
	[ "$(n_modified)" -gt "$modified" ]
}
printf mine | dd of=groups/snap/images/snap_1 bs=4096 seek=7 conv=notrunc status=none
sync groups/snap/images/snap_1
wait_until 20 ended "$poller"
wait_until 20 told_again
assert_eq Skewed "$(tail -n 1 "$T/poll.out")" poll
kill "$watcher"
assert_eq Mixed "$(cat groups/snap/CopyState)" "one image of two was written"
assert_eq Skewed "$(cat groups/snap/pairs/1/CopyState)"
assert_eq Synchronized "$(cat groups/snap/pairs/2/CopyState)"
printf mine | dd of=groups/snap/images/snap_2 bs=4096 seek=7 conv=notrunc,fsync status=none
assert_eq Skewed "$(cat groups/snap/CopyState)"
note "Skewed, and told of"

# ---- a new instant; Deactivate, Activate ----

exec {fd}< groups/snap/images/snap_1
must_refuse groups/snap/control ResyncReplica "Device or resource busy"
assert_eq "6 In Use" "$(code groups/snap/result)"
assert_match "1 open handle.*pid $$.*ResyncReplica Force" "$(cat groups/snap/result)"
exec {fd}<&-
keep_content second 1 2
echo ResyncReplica > groups/snap/control
assert_eq "$job_started" "$(code groups/snap/result)"
assert_eq Synchronized "$(timeout 20 cat groups/snap/wait/Synchronized)"
is_content snap second 1 2
assert_eq Completed "$(cat groups/snap/job/JobState)"
assert_eq "ResyncReplica snap" "$(cat groups/snap/job/Name)"
assert_eq 100 "$(cat groups/snap/job/PercentComplete)"
must_refuse groups/snap/control Activate "Input/output error"
assert_match "^Activate: not from CopyState Synchronized; .*Initialized, Inactive, Prepared" \
	"$(sed -n 2p groups/snap/result)"
must_refuse groups/snap/control Fracture "Operation not supported"
assert_match "Detach fills its image" "$(sed -n 2p groups/snap/result)"
echo Deactivate > groups/snap/control
assert_eq "$done_0" "$(code groups/snap/result)"
assert_eq Inactive "$(cat groups/snap/CopyState)"
assert_eq 0 "$(cat groups/snap/PercentSynced)"
must_fail cat groups/snap/images/snap_1
assert_match "Input/output error" "$OUTPUT"
scribble 1
keep_content third 1 2
echo Activate > groups/snap/control
assert_eq "$job_started" "$(code groups/snap/result)"
assert_eq Synchronized "$(timeout 20 cat groups/snap/wait/Synchronized)"
assert_eq Completed "$(cat groups/snap/job/JobState)"
scribble 1
is_content snap third 1 2
note "ResyncReplica, Deactivate, Activate"

# ---- a stop and a crash with writes in between ----

for way in stop crash; do
	mkdir "groups/$way"
	keep_content $way 1 2 3
	[ $way = stop ] || rmdir groups/three
	mkdir -p groups/three
	echo "e1 e2 e3" > groups/three/members || :
	echo "SourceGroup=three SyncType=Snapshot RelationshipName=$way" > "groups/$way/spec"
	scribble 1
	scribble 3
	keep_content after 1 2 3
	cd "$T"
	if [ $way = stop ]; then
		stop_lunfs
	else
		kill9_lunfs
	fi
	start_lunfs
	cd "$MNT"
	assert_eq Synchronized "$(cat "groups/$way/CopyState")" "after the $way"
	is_content "$way" $way 1 2 3
	is_content snap third 1 2
	for lun in 1 2 3; do
		cmp "$T/after-$lun" "elements/e$lun/data"
	done
	scribble 2
	is_content "$way" $way 1 2 3
	echo ReturnToResourcePool > "groups/$way/control"
	rmdir "groups/$way"
	is_content snap third 1 2
done
note "the same after a stop, and after a crash"

# ---- Detach ----

echo Detach > groups/snap/control
assert_eq "$job_started" "$(code groups/snap/result)"
wait_until 30 file_has groups/snap/CopyState "Not Applicable"
assert_eq "snap_1
snap_2" "$(cat groups/snap/members)"
cmp "$T/third-1" elements/snap_1/data
cmp "$T/third-2" elements/snap_2/backing
wait_until 20 no_points
echo > groups/snap/members
rmdir groups/snap elements/snap_1 elements/snap_2
note "Detach: the images are there, and on their own"

# ---- many, deleted in random order ----

mkdir groups/four
echo "e4 e5 e6 e7" > groups/four/members
names=()
for i in $(seq "$N_SNAPSHOTS"); do
	keep_content "s$i" 4 5 6 7
	mkdir "groups/s$i"
	echo "SourceGroup=four SyncType=Snapshot" > "groups/s$i/spec"
	names+=("s$i")
	scribble $((4 + RANDOM % 4))
	scribble $((4 + RANDOM % 4))
done
while [ ${#names[@]} -gt 0 ]; do
	k=$((RANDOM % ${#names[@]}))
	name=${names[k]}
	is_content "$name" "$name" 4 5 6 7
	echo ReturnToResourcePool > "groups/$name/control"
	rmdir "groups/$name"
	unset "names[k]"
	names=("${names[@]}")
	scribble $((4 + RANDOM % 4))
	for name in "${names[@]:0:2}" "${names[@]: -1}"; do
		is_content "$name" "$name" 4 5 6 7
	done
done
wait_until 30 no_points
assert_eq "" "$(cat pools/pool0/images)" images
note "$N_SNAPSHOTS Snapshots of four LUNs, deleted in random order"

# ---- sixteen elements at once ----

mkdir groups/all
seq -f 'e%.0f' 16 | tr '\n' ' ' > "$T/all"
echo "$(cat "$T/all")" > groups/all/members
for i in 1 2 3; do
	mkdir "groups/t$i"
	began=$(date +%s%N)
	echo "SourceGroup=all SyncType=Snapshot" > "groups/t$i/spec"
	note "a Snapshot of 16 elements: $((($(date +%s%N) - began) / 1000000)) ms"
	assert_eq Synchronized "$(cat "groups/t$i/CopyState")"
done
for i in 1 2 3; do
	echo ReturnToResourcePool > "groups/t$i/control"
	rmdir "groups/t$i"
done
wait_until 30 no_points
