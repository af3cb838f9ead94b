#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
#
# TargetSettingGoal and ReadOnly as users of the files see them: modes, EROFS, blocks.
# tests/check_goal has what they are made of.
. "${top_srcdir:-$(dirname "$0")/..}/tests/lib.sh"
need_lunfs

truncate -s 8M "$T/a"
fill_random "$T/some" 1M 1
dd if="$T/some" of="$T/a" bs=1M seek=3 conv=notrunc status=none
truncate -s 8M "$T/b"
write_conf <<-END
	[element a]
	url = file://$T/a
	access = exclusive

	[element b]
	url = file://$T/b
	access = exclusive

	[setting safe]
	ThinProvisioningPolicy = Copy thin source to full target
	ReadOnly = SyncedElement
END
start_lunfs
cd "$MNT"
wait_until 10 file_has elements/a/OperationalStatus OK
wait_until 10 file_has elements/b/OperationalStatus OK
mkdir groups/{thin,safe,side,lun}

# By default: thin, writable.
echo "SourceElement=a SyncType=Clone WaitForCopyState=Synchronized" > groups/thin/spec
assert_eq 660 "$(stat -c %a groups/thin/images/thin_1)"
assert_eq true "$(cat elements/thin_1/thin)"
[ "$(du -k elements/thin_1/backing -L | cut -f1)" -lt 4096 ] || fail "thin_1 has all its blocks"

# Thick and read-only, also after it is detached.
echo "SourceElement=a SyncType=Clone WaitForCopyState=Synchronized TargetSettingGoal=safe" \
	> groups/safe/spec
grep -qx TargetSettingGoal=safe groups/safe/spec

is_read_only()	# FILE
{
	assert_eq 440 "$(stat -c %a "$1")" "mode of $1"
	must_fail dd if="$T/some" of="$1" bs=4k count=1 conv=notrunc
	assert_match "Read-only file system" "$OUTPUT" "a write to $1"
	must_fail truncate -s 0 "$1"
	assert_match "Read-only file system" "$OUTPUT" "truncate of $1"
	must_fail test -w "$1"
	cmp "$1" "$T/a"
}

is_read_only groups/safe/images/safe_1
is_read_only elements/safe_1/data
assert_eq false "$(cat elements/safe_1/thin)"
[ "$(du -k elements/safe_1/backing -L | cut -f1)" -ge 8192 ] || fail "safe_1 is not thick"
echo Detach > groups/safe/control
is_read_only elements/safe_1/data
note "thick and read-only for ever"

# As long as the relationship is there: an image, and a LUN.
echo b > groups/lun/members
for more in "" TargetGroup=lun; do
	printf '%s\n' SourceElement=a SyncType=Clone $more \
		"[ReplicationSettingData]" ReadOnly=3 "[Run]" > "$T/spec"
	cat "$T/spec" > groups/side/spec
	cat groups/side/wait/Synchronized > /dev/null
	target=elements/${more:+b}
	target=${target%/}
	[ -n "$more" ] || target=elements/side_1
	is_read_only $target/data
	echo Detach > groups/side/control
	wait_until 5 test -w $target/data
	assert_eq 660 "$(stat -c %a $target/data)"
	dd if="$T/some" of=$target/data bs=4k count=1 conv=notrunc status=none
	echo > groups/side/members
done
note "read-only as long as the relationship is there"

# Not where there are targets.
must_refuse groups/side/spec "SourceElement=a SyncType=Clone TargetGroup=lun TargetSettingGoal=safe" \
	"Invalid argument"
assert_match "^TargetSettingGoal excludes TargetGroup=lun" "$(sed -n 2p groups/side/result)"
cd /
stop_lunfs
