#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
#
# Copy-up under reads: while threads write a source, others read and write its
# snapshots and clones, and each byte is what it was at the image's instant or what was
# written to the image since.  Against a model in memory, see rwmodel.c.
#
# LUNFS_TEST_SECONDS	of all phases together (30)
# LUNFS_TEST_SEED	repeats a run, as far as the threads' order allows
. "${top_srcdir:-$(dirname "$0")/..}/tests/lib.sh"
. "$top_srcdir/tests/replica.sh"
need_lunfs

rw=$top_builddir/tests/rwmodel
[ -x "$rw" ] || skip "$rw is not built"
seconds=${LUNFS_TEST_SECONDS:-30}
seed=${LUNFS_TEST_SEED:-$RANDOM}
note "LUNFS_TEST_SEED=$seed LUNFS_TEST_SECONDS=$seconds"
RANDOM=$seed
phase=$(((seconds + 4) / 5))

# The last chunk is cut, so is the last unit.  A window that moves over it keeps places
# coming that are read and written for the first time; a LUN that is busy and has the
# command sent again makes the read come after the write that was sent after it.
size=$((24 * 1024 * 1024 + 9 * 512))
window=(--window 1M)
start_tgtd
add_target 1
"$rw" fill "$(lun_file 1 1)" --size $size --seed "$seed"
add_lun 1 1 $size thin
start_proxy p
write_conf <<-END
	[element db0]
	url = $(lun_url 1 1 "${proxy_port[p]}")
	access = exclusive
END
start_lunfs
need_snapshot db0
source=$MNT/elements/db0/data
cp "$(lun_file 1 1)" "$T/now"

# run_model NAME [options]: the next phase; what the source holds then is in $T/now.
run_model()
{
	local name=$1
	shift
	note "$name"
	timeout $((phase + 120)) "$rw" run --source "$source" --base "$T/now" \
		--seconds $phase "${window[@]}" --seed $((seed + ++phases)) --save "$T/model" "$@"
	mv "$T/model.0.now" "$T/now"
}
phases=0

# instant NAME [SyncType]: of the source, whose content is then in $T/NAME.
instant()
{
	sync "$source"
	cp "$T/now" "$T/$1"
	take "$1" SourceElement=db0 "SyncType=${2:-Snapshot}"
	image[$1]=$MNT/groups/$1/images/$1_1
}
declare -A image=()

# holds NAME FILE: the whole image, past the page cache.
holds()
{
	dd if="${image[$1]}" iflag=direct bs=1M status=none | cmp - "$2" || fail "$1 is not what it was"
}

arm p busy count=0 rate=20 op=read
instant s1
run_model "one snapshot, direct" --image "${image[s1]},$T/s1" --direct
holds s1 "$T/s1"

instant s2
instant c1 Clone
run_model "a chain of snapshots and a running clone, buffered, holes too" --punch --fsync \
	--image "${image[s1]},$T/s1" --image "${image[s2]},$T/s2" --image "${image[c1]},$T/c1"
for name in s1 s2; do
	holds $name "$T/$name"
done
assert_eq Synchronized "$(timeout 60 cat "$MNT/groups/c1/wait/Synchronized")"
holds c1 "$T/c1"

instant s3
instant c2 Clone
run_model "images are written too, direct" --direct --punch --image-writers 2 \
	--image "${image[s3]},$T/s3" --image "${image[c2]},$T/c2" --image "${image[s2]},$T/s2"
mv "$T/model.1.now" "$T/s3"
mv "$T/model.2.now" "$T/c2"
mv "$T/model.3.now" "$T/s2"
holds s1 "$T/s1"
for name in s2 s3 c2; do
	holds $name "$T/$name"
done

note "the middle of the chain goes"
drop s2 c1
for name in s1 s3 c2; do
	holds $name "$T/$name"
done

instant s4
arm p slow bytes_per_second=$((8 << 20))
arm p busy count=0 rate=5
window=()
run_model "a slow LUN that is often busy, images written, buffered" --image-writers 1 \
	--readers 8 --image "${image[s1]},$T/s1" --image "${image[s4]},$T/s4"
mv "$T/model.1.now" "$T/s1"
mv "$T/model.2.now" "$T/s4"
disarm p busy
disarm p slow

instant s5
note "a clone, a deletion and a snapshot while all is written"
run_in_background bash -c "exec '$rw' run --source '$source' --base '$T/now' --seconds $phase \
	--seed $((seed + 99)) --save '$T/model' --direct \
	--image '${image[s5]},$T/s5' --image '${image[s4]},$T/s4' --image '${image[s1]},$T/s1'"
model=$background_pid
for ((i = 0; ; i++)); do
	ended "$model" && break
	take "x$i" SourceElement=db0 "SyncType=$([ $((i % 3)) -eq 0 ] && echo Clone || echo Snapshot)"
	pause $((RANDOM % 300))
	drop "x$i"
done
wait "$model" || fail "rwmodel: exit code $?"
note "$i more points in time"
mv "$T/model.0.now" "$T/now"

for name in s1 s3 s4 s5 c2; do
	holds $name "$T/$name"
done
dd if="$source" iflag=direct bs=1M status=none | cmp - "$T/now"
sync "$source"
cmp "$(lun_file 1 1)" "$T/now"
stop_lunfs
