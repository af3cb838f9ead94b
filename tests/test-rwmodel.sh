#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
#
# rwmodel itself, on plain files: right ones pass, and a byte that is wrong in a
# source, in an image or after a crash is found.
#
# LUNFS_TEST_SEED	repeats a run
. "${top_srcdir:-$(dirname "$0")/..}/tests/lib.sh"

rw=$top_builddir/tests/rwmodel
[ -x "$rw" ] || skip "$rw is not built"
seed=${LUNFS_TEST_SEED:-$RANDOM}
note "LUNFS_TEST_SEED=$seed"

# An odd size: the last unit is cut.
size=$((1024 * 1024 + 3 * 512 + 7))
fresh()
{
	"$rw" fill "$T/source" --size $size --seed "$seed"
	cp "$T/source" "$T/image1"
	cp "$T/source" "$T/image2"
	cp "$T/source" "$T/base"
}

run()
{
	"$rw" run --source "$T/source" --image "$T/image1" --image "$T/image2" --seed "$seed" "$@"
}

spoil()
{
	printf 'wrong' | dd of="$1" bs=1 seek="$2" conv=notrunc status=none
}

# finds FILE: a run or check that must end with a mismatch there.
finds()
{
	local file=$1
	shift
	must_fail "$@"
	assert_eq 1 "$RC" "exit code of $*: $OUTPUT"
	assert_match "MISMATCH: .*$file at $at" "$OUTPUT"
}

direct=()
if dd if=/dev/zero of="$T/direct" oflag=direct bs=4K count=1 status=none 2> "$T/err"; then
	direct=(--direct)
else
	note "no O_DIRECT in $T"
fi

note "right files, in every mode"
fresh
run --seconds 0.5
fresh
run --seconds 0.5 --instant "$T/base" --image-writers 2 --punch --fsync
fresh
run --seconds 1 --image-writers 1 --window 128K
for file in source image1 image2; do	# the window has been everywhere
	[ "$(cmp -l "$T/base" "$T/$file" | awk '{ seen[int($1 / 131072)] = 1 }
		END { for (i in seen) n++; print n }')" -ge 4 ] || fail "$file: parts were not written"
done
fresh
run --seconds 0.5 "${direct[@]}" --image-writers 3 --punch --unit 4K --save "$T/model"
for k in 0 1 2; do
	cmp "$T/model.$k.now" "$T/model.$k.next"
done
cmp -n $((size / 512 * 512)) "$T/model.0.now" "$T/source"
cmp -n $((size / 512 * 512)) "$T/model.2.now" "$T/image2"
"$rw" check "$T/source" --model "$T/model.0"

note "what is known of the source goes on in the next run"
fresh
run --seconds 0.3 --save "$T/model"
cmp "$T/base" "$T/image1"
run --seconds 0.3 --base "$T/model.0.now"
cp "$T/source" "$T/now"
run --seconds 0.3 --base "$T/now" --instant "$T/base"
cp "$T/source" "$T/now"
cp "$T/source" "$T/image3"
run --seconds 0.3 --base "$T/now" --instant "$T/base" --image "$T/image3,$T/now"
must_fail run --seconds 60 --instant "$T/base"
assert_match "MISMATCH: .*source at" "$OUTPUT"

note "wrong ones"
at='70000[1-5]'	# a read may begin in the middle of it
fresh
spoil "$T/image2" 700001
finds image2 run --seconds 60 --writers 1 --readers 2
assert_match "seed $seed" "$OUTPUT"
assert_match "found    +(77 )?(72 )?(6f )?(6e )?67" "$OUTPUT"
fresh
spoil "$T/source" 700001
finds source run --seconds 60 --writers 0
fresh	# found by the reading at the end
at=$((size - 5))
spoil "$T/image1" $at
finds image1 run --seconds 0.01 --readers 0 --writers 0

note "an image that is the source itself"
fresh
ln -sf source "$T/image1"
must_fail run --seconds 60 --readers 2
assert_match "MISMATCH: .*image1 at" "$OUTPUT"
rm "$T/image1"

note "after a crash: what was acknowledged, or the write under way"
fresh
at=4096
cp "$T/base" "$T/m.now"
cp "$T/base" "$T/m.next"
spoil "$T/m.next" $at
"$rw" check "$T/source" --model "$T/m"
spoil "$T/source" $at
"$rw" check "$T/source" --model "$T/m"
at=4097
spoil "$T/source" $at
finds source "$rw" check "$T/source" --model "$T/m"

note "a file that fails ends the run"
fresh
must_fail bash -c "ulimit -f 512; trap '' XFSZ; exec '$rw' run --source '$T/source' --seed $seed --seconds 60"
assert_eq 3 "$RC" "$OUTPUT"
