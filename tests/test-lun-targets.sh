#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
#
# A Clone onto LUNs and files that are there: what arrives on targets full of old data,
# what of a larger one is left alone, what is refused, and life after the copy.
. "${top_srcdir:-$(dirname "$0")/..}/tests/lib.sh"
need_lunfs
need_cmd python3

start_tgtd
add_target 1
add_target 2

# Data, runs of zeros of all lengths that are written, and holes.
mixed()
{
	fill_random "$1" "$2" "$3"
	dd if=/dev/zero of="$1" bs=4K seek=100 count=3 conv=notrunc status=none
	dd if=/dev/zero of="$1" bs=64K seek=20 count=1 conv=notrunc status=none
	dd if=/dev/zero of="$1" bs=4K seek=501 count=777 conv=notrunc status=none
	fallocate -p -o $((8 << 20)) -l $((5 << 20)) "$1"
}
mixed "$(lun_file 1 1)" 32M 1
add_lun 1 1 32M
truncate -s 48M "$(lun_file 1 2)"
mixed "$T/piece" 16M 2
dd if="$T/piece" of="$(lun_file 1 2)" bs=1M seek=7 conv=notrunc status=none
add_lun 1 2 48M thin
odd=$((5 * 1024 * 1024 + 3 * 512))
mixed "$T/file0" 16M 3
truncate -s $odd "$T/file0"

# Full of old data, one larger than its source, one thin.
fill_random "$(lun_file 2 1)" 32M 11
add_lun 2 1 32M
fill_random "$(lun_file 2 2)" 56M 12
add_lun 2 2 56M thin
fill_random "$T/file1" 6M 13
fill_random "$(lun_file 2 3)" 31M 14
add_lun 2 3 31M
fill_random "$(lun_file 2 4)" 40M 15
add_lun 2 4 40M
fill_random "$(lun_file 2 5)" 32M 16
add_lun 2 5 32M
ln "$T/file1" "$T/file1-too"

element()
{
	printf '[element %s]\nurl = %s\naccess = %s\n\n' "$1" "$2" "${3:-exclusive}"
}
write_conf <<-END
	$(element s1 "$(lun_url 1 1)")

	$(element s2 "$(lun_url 1 2)")

	$(element f0 "file://$T/file0")

	$(element t1 "$(lun_url 2 1)")

	$(element t2 "$(lun_url 2 2)")

	$(element f1 "file://$T/file1")

	$(element small "$(lun_url 2 3)")

	$(element open0 "$(lun_url 2 4)" shared)

	$(element other "$(lun_url 2 5)")

	$(element alias1 "file://$T/file1-too")

	[pool pool1]
	type = dir
	path = $T/pool1
END
mkdir "$T/pool1"
start_lunfs
cd "$MNT"

for e in s1 s2 f0 t1 t2 f1 small open0 other alias1; do
	wait_until 20 file_has elements/$e/OperationalStatus OK
done

group()
{
	mkdir "groups/$1"
	echo "${*:2}" > "groups/$1/members"
}
group prod s1 s2 f0
group dst t1 t2 f1
mkdir groups/move
G=groups/move

digest()
{
	sha256sum "$@" | cut -d' ' -f1 | paste -sd' '
}
all_luns=("$(lun_file 1 1)" "$(lun_file 1 2)" "$T/file0" "$(lun_file 2 1)" "$(lun_file 2 2)"
	"$T/file1" "$(lun_file 2 3)" "$(lun_file 2 4)" "$(lun_file 2 5)")

# tree: all that a refused spec must leave alone
tree()
{
	ls elements groups jobs "$POOL" groups/*/pairs
	cat groups/*/members groups/*/CopyState groups/*/relationships \
		elements/*/relationships groups/*/spec
}

# refused CODE ERROR WORDS SPEC: and nothing was changed
refused()
{
	local code=$1 error=$2 words=$3 spec=$4 before after
	before=$(tree)
	must_refuse $G/spec "$spec" "$error"
	assert_eq "$code" "$(head -n 1 $G/result | cut -d' ' -f1)" "code of $spec"
	assert_match "$words" "$(sed -n 2p $G/result)" "sentence of $spec"
	after=$(tree)
	assert_eq "$before" "$after" "the tree after $spec"
}

# ---- what is refused ----

group two s1 s2
group one s1
group onto t1
group self s1
group has_small small s2
group has_shared open0
group small_for small
group images
group other1 other
group alias alias1
group file1 f1
group taken
before=$(digest "${all_luns[@]}")
invalid="Invalid argument"
in_use="Device or resource busy"
missing="No such file or directory"
unsupported="Operation not supported"
refused 5 "$missing" 'TargetGroup: there is no group "dts"; groups: .*dst' \
	"SourceGroup=prod SyncType=Clone TargetGroup=dts"
refused 5 "$invalid" 'source group itself' "SourceGroup=prod SyncType=Clone TargetGroup=prod"
refused 5 "$invalid" '"dst" has 3 members and the source has 2' \
	"SourceGroup=two SyncType=Clone TargetGroup=dst"
refused 5 "$invalid" '"dst" has 3 members and the source has 1' \
	"SourceElement=s1 SyncType=Clone TargetGroup=dst"
refused 5 "$invalid" '"onto" has 1 member and the source has 2' \
	"SourceGroup=two SyncType=Clone TargetGroup=onto"
refused 5 "$invalid" 'TargetPool=pool1 excludes TargetGroup=dst' \
	"SourceGroup=prod SyncType=Clone TargetGroup=dst TargetPool=pool1"
refused 5 "$invalid" 'TargetElementCount=1 excludes TargetGroup' \
	"SourceElement=s1 SyncType=Clone TargetGroup=onto TargetElementCount=1"
refused 1 "$unsupported" 'a Snapshot onto existing elements' \
	"SourceGroup=prod SyncType=Snapshot TargetGroup=dst"
refused 5 "$invalid" 'member "s1" is a source of the same call' \
	"SourceElement=s1 SyncType=Clone TargetGroup=self"
refused 5 "$invalid" 'member "open0" is shared' \
	"SourceElement=s1 SyncType=Clone TargetGroup=has_shared"
refused 5 "$invalid" 'member "small" has 32505856 bytes and its source "s1" has 33554432' \
	"SourceElement=s1 SyncType=Clone TargetGroup=small_for"
exec {fd}< elements/t1/data
refused 6 "$in_use" '"t1" would be overwritten: 1 open handle on "t1"' \
	"SourceElement=s1 SyncType=Clone TargetGroup=onto"
exec {fd}<&-
exec {fd}< elements/f1/data
refused 6 "$in_use" '"alias1" is the same LUN as "f1".*in use' \
	"SourceElement=f0 SyncType=Clone TargetGroup=alias"
exec {fd}<&-
refused 5 "$invalid" '"alias1" is the same LUN as the source "f1"' \
	"SourceElement=f1 SyncType=Clone TargetGroup=alias"
echo "SourceElement=other SyncType=Snapshot" > groups/taken/spec
refused 6 "$in_use" '"other" is a source of relationship "taken"' \
	"SourceElement=s1 SyncType=Clone TargetGroup=other1"
refused 6 "$in_use" 'group "taken" is in a relationship' \
	"SourceElement=s1 SyncType=Clone TargetGroup=taken"
group image1 taken_1
refused 1 "$unsupported" 'member "taken_1" is an image in a pool' \
	"SourceElement=s1 SyncType=Clone TargetGroup=image1"
echo > groups/image1/members
echo ReturnToResourcePool > groups/taken/control
assert_eq "$before" "$(digest "${all_luns[@]}")" "the LUNs after all refused specs"
note "refused, and nothing was changed"

# ---- the copy ----

tail_of()
{
	tail -c "+$(($(stat -c %s "$1") + 1))" "$2" | sha256sum
}
tail2=$(tail_of "$(lun_file 1 2)" "$(lun_file 2 2)")
tail3=$(tail_of "$T/file0" "$T/file1")
cat elements/t2/data > "$T/cached"	# the page cache has the old data
echo "SourceGroup=prod TargetGroup=dst SyncType=Clone" > $G/spec
assert_eq "4096 Method Parameters Checked - Job Started" "$(head -n 1 $G/result)"
# Right from the instant on, through any name.
cmp -n $((48 << 20)) "$(lun_file 1 2)" elements/t2/data
assert_eq Synchronized "$(timeout 60 cat $G/wait/Synchronized)"
cmp -n $((32 << 20)) "$(lun_file 1 1)" "$(lun_file 2 1)"
cmp -n $((48 << 20)) "$(lun_file 1 2)" "$(lun_file 2 2)"
cmp -n $odd "$T/file0" "$T/file1"
assert_eq "$tail2" "$(tail_of "$(lun_file 1 2)" "$(lun_file 2 2)")" "the rest of t2"
assert_eq "$tail3" "$(tail_of "$T/file0" "$T/file1")" "the rest of f1"
assert_eq $((56 << 20)) "$(cat elements/t2/size)" "size of the target"
[ "$(du -k "$(lun_file 2 2)" | cut -f1)" -lt $((40 << 10)) ] ||
	fail "a thin target occupies $(du -k "$(lun_file 2 2)" | cut -f1) KiB"
note "copied"

assert_eq "$(printf '%s\n' f0 f1 s1 s2 t1 t2)" "$(ls $G/images)" images
[ $G/images/t1 -ef elements/t1/data ] || fail "images/t1 is not elements/t1/data"
assert_eq t2 "$(readlink $G/images/s2)" "the symlink of s2"
assert_eq "" "$(cat $G/members)" "members, which are elsewhere"
assert_eq "t1 t2 f1" "$(paste -sd' ' groups/dst/members)"
assert_eq "move target" "$(cat groups/dst/relationships)"
assert_eq "move target" "$(cat elements/t1/relationships)"
assert_eq "TargetGroup=dst" "$(grep TargetGroup $G/spec)"
assert_eq 100 "$(cat $G/PercentSynced)"
assert_eq $((48 << 20)) "$(cat $G/pairs/2/bytes_total)"
must_refuse groups/dst/members "t1" "$in_use"
must_refuse groups/dst/spec "SourceElement=other SyncType=Clone" "$in_use"
assert_match TargetGroup "$(sed -n 2p groups/dst/result)"
must_fail rmdir groups/dst
assert_match "$in_use" "$OUTPUT"
mkdir groups/again
must_refuse groups/again/spec "SourceElement=s1 SyncType=Clone TargetGroup=onto" "$in_use"
assert_match '"t1" is a target of relationship "move" already' "$(sed -n 2p groups/again/result)"
must_refuse groups/again/spec "SourceElement=t1 SyncType=Clone" "$in_use"
no_maps()
{
	[ -z "$(find "$POOL" -name 'e*.map')" ]
}
wait_until 10 no_maps

# What Verify compares is what was copied, not the rest of a larger target.
echo Verify > $G/control
wait_until 60 file_has $G/job/JobState Completed
for i in 1 2 3; do
	assert_match "^bytes_different 0$" "$(grep bytes_different $G/pairs/$i/verified)" \
		"pairs/$i/verified"
done

# ---- a write to a target that is there ----

printf written | dd of=elements/t1/data bs=1 seek=70000 conv=notrunc,fsync status=none
wait_until 10 file_has $G/pairs/1/CopyState Skewed
assert_eq written "$(dd if="$(lun_file 2 1)" bs=1 skip=70000 count=7 status=none)"
stop_lunfs
start_lunfs
cd "$MNT"
assert_eq Skewed "$(cat $G/pairs/1/CopyState)"
wait_until 20 file_has elements/t1/OperationalStatus OK
assert_eq written "$(dd if=elements/t1/data bs=1 skip=70000 count=7 status=none)"
note "written to, also after a restart"

# ---- put to use ----

echo Fracture > $G/control
assert_eq Fractured "$(cat $G/CopyState)"
printf "and again" | dd of=elements/t2/data bs=1 seek=70000 conv=notrunc,fsync status=none
assert_eq "and again" "$(dd if="$(lun_file 2 2)" bs=1 skip=70000 count=9 status=none)"
stop_lunfs
start_lunfs
cd "$MNT"
assert_eq Fractured "$(cat $G/CopyState)"
wait_until 20 file_has elements/t2/OperationalStatus OK
assert_eq "and again" "$(dd if=elements/t2/data bs=1 skip=70000 count=9 status=none)"
note "fractured, also after a restart"

# ---- a new instant ----

fill_random "$T/new" 1M 21
dd if="$T/new" of=elements/s1/data bs=1M seek=3 conv=notrunc,fsync status=none
echo ResyncReplica > $G/control
assert_eq Synchronized "$(timeout 60 cat $G/wait/Synchronized)"
cmp -n $((32 << 20)) "$(lun_file 1 1)" "$(lun_file 2 1)"
cmp -n $((48 << 20)) "$(lun_file 1 2)" "$(lun_file 2 2)"
assert_eq "$tail2" "$(tail_of "$(lun_file 1 2)" "$(lun_file 2 2)")" "the rest of t2"
note "ResyncReplica"

# ---- the end ----

exec {fd}<> elements/t1/data
echo Detach > $G/control
assert_eq "Not Applicable" "$(cat $G/CopyState)"
printf stays >&"$fd"
exec {fd}>&-
sync elements/t1/data
assert_eq stays "$(head -c 5 "$(lun_file 2 1)")" "written by a handle that stayed open"
assert_eq "t1 t2 f1" "$(paste -sd' ' groups/dst/members)" "members after Detach"
assert_eq "" "$(cat elements/t1/relationships groups/dst/relationships)"
rmdir groups/dst

# An element like others: it can be a source, and a target again.
mkdir groups/back groups/snap
echo "SourceElement=t1 SyncType=Snapshot" > groups/snap/spec
cmp "$(lun_file 2 1)" groups/snap/images/t1
echo ReturnToResourcePool > groups/snap/control
echo "SourceElement=t1 SyncType=Clone TargetGroup=self" > groups/back/spec
assert_eq Synchronized "$(timeout 60 cat groups/back/wait/Synchronized)"
cmp "$(lun_file 2 1)" "$(lun_file 1 1)"
echo ReturnToResourcePool > groups/back/control
[ -e elements/s1 ] || fail "ReturnToResourcePool took a LUN"
assert_eq s1 "$(cat groups/self/members)" "members after ReturnToResourcePool"
cmp "$(lun_file 1 1)" elements/s1/data
note "detached, a source, and a target again"

# ---- its own members; an empty group; established without an instant ----

echo "SourceElement=s1 SyncType=Clone TargetGroup=onto" > groups/onto/spec
assert_eq Synchronized "$(timeout 60 cat groups/onto/wait/Synchronized)"
assert_eq t1 "$(cat groups/onto/members)" "the own members"
echo Detach > groups/onto/control
echo "SourceElement=s1 SyncType=Clone TargetGroup=images" > groups/again/spec
assert_eq Synchronized "$(timeout 60 cat groups/again/wait/Synchronized)"
assert_eq again_1 "$(cat groups/images/members)" "an empty group is filled"
assert_eq "" "$(cat groups/again/members)"
assert_eq "again target" "$(cat groups/images/relationships)"
cmp "$(lun_file 1 1)" groups/again/images/again_1
kill9_lunfs
start_lunfs
cd "$MNT"
assert_eq "again target" "$(cat groups/images/relationships)" "after a restart"
must_refuse groups/images/members "t1" "$in_use"
echo ReturnToResourcePool > groups/again/control
assert_eq "" "$(cat groups/images/members)" "images that were deleted"
[ ! -e elements/again_1 ] || fail "ReturnToResourcePool left an image"

fill_random "$(lun_file 2 1)" 32M 31
before=$(digest "$(lun_file 2 1)")
for e in s1 t1; do
	wait_until 20 file_has elements/$e/OperationalStatus OK
done
echo "SourceElement=s1 SyncType=Clone TargetGroup=onto WaitForCopyState=Inactive" > groups/again/spec
assert_eq Inactive "$(cat groups/again/CopyState)"
must_fail head -c 1 elements/t1/data
assert_match "Input/output" "$OUTPUT" "a target without an instant"
assert_eq "$before" "$(digest "$(lun_file 2 1)")" "the target before Activate"
echo Activate > groups/again/control
assert_eq Synchronized "$(timeout 60 cat groups/again/wait/Synchronized)"
cmp "$(lun_file 1 1)" "$(lun_file 2 1)"
echo Detach > groups/again/control
note "own members, an empty group, Activate"
stop_lunfs
