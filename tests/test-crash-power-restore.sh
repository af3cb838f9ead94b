#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
#
# The power goes away in a RestoreFromReplica, at many points and in many ways (see
# test-crash-power.sh).  s1 is a snapshot of two LUNs; its images are written, its sources
# too, before and after a second snapshot s2.  Then s1 is restored, slowly; meanwhile the
# sources are written again, and s3 is taken.  After a loss of power
#   - nothing was restored, and its job says so: that is over when Restoring was seen; or
#     the restore goes on, in the background or for those who read, and ends with what s1
#     had and all that was acknowledged since,
#   - s1, with what was written to it, and s2 are what they were, at once and at the end,
#   - s3 and one that is taken now are of what was restored.
# Each third time the LUNs lose what they have not synced, too.
#
# What these lines are for shows when they are broken; then this fails:
#   operation_restore.c, record_begin(): attached before its commit	(mostly)
#   operation_restore.c, make_files(): without pool_sync()
#   operation_restore.c, pair_record_restored(): the map goes first	(mostly)
#   restore.c, restore_plan(): without restore_checkpoint()
#   restore.c, restore_plan(), and make_files(): without image_flush()
#   restore_unit.c, unit_prepare(): without chain_prepare(); bits before unit_write()
#   restore_unit.c, sync_next(): without the flush
#   restore_unit.c, sync_work(): without restore_checkpoint()
#   preserve.c, make_durable(): without point_sync(), or point_checkpoint()
#   load.c, load_pair(): the sequence is not raised	(mostly)
#
# LUNFS_TEST_POINTS	crashes (18; a long run: 500)
# LUNFS_TEST_RUNS	of the restore (1)
# LUNFS_TEST_SEED	repeats the choice, not the load
. "${top_srcdir:-$(dirname "$0")/..}/tests/lib.sh"
. "$top_srcdir/tests/crash.sh"
. "$top_srcdir/tests/replica.sh"
need_lunfs
need_crash_tools
need_cmd python3
export LUNFS_TEST_BACKENDS=1

dw=$top_builddir/tests/depwrite
[ -x "$dw" ] || skip "$dw is not built"
points=${LUNFS_TEST_POINTS:-18}
runs=${LUNFS_TEST_RUNS:-1}
seed=${LUNFS_TEST_SEED:-$RANDOM}
note "LUNFS_TEST_SEED=$seed LUNFS_TEST_POINTS=$points LUNFS_TEST_RUNS=$runs"
RANDOM=$seed

mkdir "$T/luns"
write_conf <<-END
	[element db0]
	url = fault:$T/rules:file://$T/luns/db0
	access = exclusive
	[element log0]
	url = fault:$T/rules:file://$T/luns/log0
	access = exclusive
END
sources=("$MNT/elements/db0/data" "$MNT/elements/log0/data")

rules()
{
	cat > "$T/rules.new"
	mv "$T/rules.new" "$T/rules"
}

# ---- before ----

# make_lun NAME: random bytes, but for the blocks of the dependent writers, the first of
# each of the chunks 0 to 15: zeros.
make_lun()
{
	local i
	fill_random "$T/luns/$1" 4M "$1-$seed"
	for ((i = 0; i < 16; i++)); do
		dd if=/dev/zero of="$T/luns/$1" bs=4K count=1 seek=$((i * 16)) \
			conv=notrunc status=none
	done
	sync "$T/luns/$1"
}

# scribble FILE CHUNK...: these become others.
scribble()
{
	local file=$1 chunk
	shift
	for chunk; do
		dd if=/dev/urandom of="$file" bs=64K count=1 seek="$chunk" oflag=direct \
			iflag=fullblock conv=notrunc status=none
	done
}

# write_values COUNT: the sources', once more.
write_values()
{
	"$dw" run "${sources[@]}" --count "$1" --direct --fsync > "$T/out" \
		2>> "$T/writers.log"
}

# keep NAME [AS]: what its images are, past the page cache.
keep()
{
	local i paths
	mapfile -t paths < <(images "$1")
	for i in 0 1; do
		dd if="${paths[i]}" iflag=direct bs=1M status=none of="$T/${2:-$1}.$i"
	done
}

prepare()
{
	local s paths
	start_lunfs
	wait_until 20 are_ready db0 log0
	need_snapshot db0
	mkdir "$MNT/groups/src"
	echo "db0 log0" > "$MNT/groups/src/members"
	write_values 5
	take s1 SourceGroup=src SyncType=Snapshot
	mapfile -t paths < <(images s1)
	for s in "${paths[@]}"; do
		scribble "$s" 33 34
		sync "$s"
	done
	write_values 5
	for s in "${sources[@]}"; do
		scribble "$s" {20..62..2}
	done
	take s2 SourceGroup=src SyncType=Snapshot
	keep s2
	# Of these s2 has kept what it needs: nothing holds up their restore.
	write_values 4
	for s in "${sources[@]}"; do
		scribble "$s" 16 17 {25..63..8} {20..60..4}
		sync "$s"
	done
	cp "$T/luns/db0" "$T/before.0"
	cp "$T/luns/log0" "$T/before.1"
	keep s1
	cp "$T/s1.0" "$T/synced.0"
	cp "$T/s1.1" "$T/synced.1"
	stop_lunfs
}

# ---- the load ----

is_restoring()
{
	file_matches "$MNT/groups/s1/ProgressStatus" "Restoring|Mixed"
}

has_acknowledged()
{
	[ "$(ack_of "$T/ack" 1)" -gt 5 ]
}

job_is()
{
	file_has "$MNT/groups/s1/job/JobState" "$1"
}

write_news()
{
	dd if="$T/news" of="$1" bs=4K seek=$((60 * 16 + 5)) oflag=direct \
		conv=notrunc,fsync status=none
}

load()
{
	local paths writer
	crash_start_lunfs
	wait_until 20 are_ready db0 log0
	# Nobody syncs this, but the restore has to.
	mapfile -t paths < <(images s1)
	scribble "${paths[0]}" 41
	scribble "${paths[1]}" 41
	keep s1
	# The writers' chunks and two more are fast, all others slow; many come last.
	rules <<-END
		[news]
		event = write
		offset = $((60 * 65536))
		length = 65536
		delay_ms = 100
		[last]
		event = write
		offset = $((40 * 65536))
		stall = yes
		[slow]
		event = write
		offset = $((18 * 65536))
		delay_ms = 100
	END
	echo RestoreFromReplica > "$MNT/groups/s1/control"
	crash_mark "answered"
	wait_until 20 is_restoring
	crash_mark "restoring"
	run_in_background "$dw" run "${sources[@]}" --direct --fsync --mark "$crash_log" \
		--ack "$T/ack" > "$T/out" 2>> "$T/writers.log"
	writer=$background_pid
	wait_until 20 has_acknowledged
	crash_mark "take"
	take s3 SourceGroup=src SyncType=Snapshot
	crash_mark "made s3"
	# A part of a chunk that is to be restored.
	cp "$T/s1.1" "$T/after.1"
	head -c 4K /dev/urandom > "$T/news"
	write_news "$T/after.1"
	write_news "${sources[1]}"
	crash_mark "wrote"
	# The rest without their syncs.
	kill -TERM "$writer"
	wait "$writer"
	rules <<-END
		[slow]
		event = write
		delay_ms = 20
	END
	wait_until 20 job_is Completed
	crash_mark "completed"
	keep s3
	kill9_lunfs
}

# ---- after a crash ----

# same FILE WANTED [FILE WANTED]: but for the blocks of the writers.
same()
{
	python3 - "$@" <<-'END'
	import sys
	CHUNK, BLOCK = 65536, 4096
	read = lambda path: open(path, "rb").read()
	rest = lambda c, i: c[i * CHUNK + (BLOCK if i < 16 else 0):(i + 1) * CHUNK]
	for path, wanted in zip(sys.argv[1::2], sys.argv[2::2]):
	    a, b = read(path), read(wanted)
	    wrong = [i for i in range(len(b) // CHUNK) if rest(a, i) != rest(b, i)]
	    if wrong or len(a) != len(b):
	      sys.exit("%s, %d bytes: not %s: chunks %s" % (path, len(a), wanted, wrong))
	END
}

# holds NAME: its images are what was kept.
holds()
{
	local i
	keep "$1" image
	for i in 0 1; do
		cmp -s "$T/image.$i" "$T/$1.$i" ||
			fail "$1 has changed: $(same "$T/image.$i" "$T/$1.$i" 2>&1)"
	done
}

# has_passed TEXT: that mark is before the crash.
has_passed()
{
	local n
	n=$(first_mark "$1")
	[ "$n" -gt 0 ] && [ "$n" -le "$crash_n" ]
}

# The sources are what they were, and s1 may have lost what nobody synced.
check_not_restored()
{
	local i
	! has_passed restoring || fail "Restoring was seen, and nothing is restored"
	keep s1 image
	for i in 0 1; do
		cmp "${sources[i]}" "$T/before.$i" || fail "source $i is another"
		cmp -s "$T/image.$i" "$T/synced.$i" || cmp "$T/image.$i" "$T/s1.$i" ||
			fail "s1 has changed, image $i"
	done
	holds s2
}

# is_restored FILE FILE: the content of s1, and what was acknowledged since.
is_restored()
{
	crash_check_values ack "$@"
	if has_passed wrote || ! same "$1" "$T/s1.0" "$2" "$T/s1.1" 2> /dev/null; then
		same "$1" "$T/s1.0" "$2" "$T/after.1" || fail "not restored"
	fi
}

# Its instant was within the restore.
check_s3()
{
	local paths
	if [ ! -e "$MNT/groups/s3" ] || is_over s3; then
		! has_passed "made s3" || fail "s3 was made: it is gone"
		return 0
	fi
	if ((!crash_of_luns)); then
		holds s3
		return
	fi
	# The LUNs may have lost the newest value.
	mapfile -t paths < <(images s3)
	crash_check_values s3 "${paths[@]}"
	same "${paths[0]}" "$T/s3.0" "${paths[1]}" "$T/s3.1" || fail "s3 has changed"
}

# What is taken now is of the restored content too.
check_s4()
{
	local value least image=$MNT/groups/s4/images/s4_1
	least=$(last_mark "$crash_n" "ack 1")
	value=$("$dw" value --file 1 "$image") || fail "s4: $value"
	[ "$value" -ge "$least" ] || fail "s4: $value, $least acknowledged"
	has_passed wrote || ! same "$image" "$T/s1.1" 2> /dev/null || return 0
	same "$image" "$T/after.1" || fail "s4 is not restored"
}

check_all()
{
	is_restored "${sources[@]}"
	holds s2
	check_s3
	holds s1
}

# The first ones to look find nothing copied back since the start.
check_restored()
{
	((crash_i % 4 != 3)) || take s4 SourceElement=log0 SyncType=Snapshot
	rules < /dev/null
	case $((crash_i % 4)) in
	1) check_all ;;
	3) check_s4 ;;
	esac
	wait_until 20 job_is Completed
	check_all
	is_restored "$T/luns/db0" "$T/luns/log0"
}

no_maps_are_left()
{
	[ -z "$(find "$POOL" -name 'r*')" ]
}

check_point()
{
	local job g=$MNT/groups
	rules <<-END
		[stuck]
		event = write
		stall = yes
	END
	start_lunfs
	check_store
	wait_until 20 are_ready db0 log0
	assert_eq Skewed "$(cat "$g/s1/CopyState")" "CopyState of s1"
	assert_eq Synchronized "$(cat "$g/s2/CopyState")" "CopyState of s2"
	job=$(cat "$g/s1/job/JobState" 2> /dev/null || :)
	case $job in
	Running | Completed)
		[ "$job" = Completed ] || ! has_passed completed || fail "it runs again"
		check_restored
		;;
	"" | Exception)
		[ "$job" ] || ! has_passed answered || fail "the job is gone"
		check_not_restored
		;;
	*)
		fail "the job is $job: $(cat "$g/s1/job/ErrorDescription")"
		;;
	esac
	wait_until 20 no_maps_are_left
	kill9_lunfs
}

for ((run = 1; run <= runs; run++)); do
	rm -rf "${STATE:?}"/* "${POOL:?}"/* "$T/ack"
	rules < /dev/null
	for e in db0 log0; do
		rm -f "$T/luns/$e"
		make_lun $e
	done
	prepare
	crash_begin "$STATE" "$POOL" "$T/luns"
	load
	crash_list
	answered=$(first_mark answered)
	restoring=$(first_mark restoring)
	# Two maps are made, then planned; the commit comes behind that.
	planned=$(awk '$2 == "sync" && /\/r[0-9]+\.map$/ && ++i == 4 { print $1 }' \
		"$T/crash.list")
	end=$("$crashplay" "$crash_log" --dump |
		awk '$2 == "unlink" && /\/r[0-9]+\.map$/ { n = $1 } END { print n + 0 }')
	note "run $run: $crash_end records, $(grep -c ' sync ' "$T/crash.list") syncs;" \
		"answered $answered, planned $planned, restoring $restoring, end $end"
	part=$((points / 3))
	crash_check_points "$seed" 3 < <(
		crash_points 1 "$answered" "$restoring"
		crash_points $((part - 1)) "$planned" $((planned + 40))
		crash_points $part "$restoring" "$end"
		crash_points $((points - part - part)) $((end - 40)))
done
