#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
#
# What breaks a clone: unreadable blocks, a full pool, another LUN in the old
# one's place, a wrong secret.  It says so, names what it is about, and nothing
# that is not right is ever shown as Synchronized.
. "${top_srcdir:-$(dirname "$0")/..}/tests/lib.sh"
need_lunfs
export LUNFS_TEST_BACKENDS=1

# A pool of its own that is soon full.
mkdir "$T/tiny"
need_root
mount -t tmpfs -o size=32M tmpfs "$T/tiny" 2> /dev/null || skip "no tmpfs can be mounted"

start_tgtd
add_target 1
for lun in 1 2 3 4; do
	fill_random "$T/lun-1-$lun" 16M "$lun"
	add_lun 1 "$lun" 16M
done
fill_random "$T/lun-1-5" 40M 5
add_lun 1 5 40M
add_target 2 --chap alice twelve-letters
add_lun 2 1 8M
for f in db log; do
	fill_random "$T/$f" 16M "$f"
done
echo thirteen-lett > "$T/secret"
chmod 600 "$T/secret"
start_proxy p
start_proxy q
: > "$T/rules"
write_conf <<-END
	[pool tiny]
	type = dir
	path = $T/tiny
	[element db0]
	url = fault:$T/rules:file://$T/db
	access = exclusive
	[element log0]
	url = file://$T/log
	access = exclusive
	[element lun1]
	url = $(lun_url 1 1 "${proxy_port[p]}")
	access = exclusive
	[element lun2]
	url = $(lun_url 1 2)
	[element lun3]
	url = $(lun_url 1 3 "${proxy_port[p]}")
	io_timeout = 2
	[element lun4]
	url = $(lun_url 1 4 "${proxy_port[q]}")
	[element big0]
	url = $(lun_url 1 5)
	access = exclusive
	[access_point mistaken]
	portal = 127.0.0.1:$TGT_PORT
	user = alice
	password_file = $T/secret
	[element locked0]
	access_point = mistaken
	target = $IQN:t2
	lun = 1
	[element nowhere0]
	url = iscsi://127.0.0.1:1/$IQN:none/1
END
started=$SECONDS
start_lunfs
cd "$MNT"

# rules: what the fault back end does from now on.
rules()
{
	cat > "$T/rules.new"
	mv "$T/rules.new" "$T/rules"
}

# replicate NAME TEXT: a job has started.
replicate()
{
	mkdir "groups/$1"
	echo "SyncType=Clone $2" > "groups/$1/spec"
	assert_match '^4096 ' "$(cat "groups/$1/result")"
}

# no_images POOL: all its files of images are gone.
no_images()
{
	[ -z "$(find "$1" -name 'e*')" ]
}

# is_broken NAME: the group, by all that shows it; its wait/ ends.
is_broken()
{
	wait_until 20 file_has "groups/$1/CopyState" Broken
	must_fail timeout 5 cat "groups/$1/wait/Synchronized"
	assert_match 'Input/output error' "$OUTPUT"
	assert_eq "" "$(cat "groups/$1/WhenSynced")$(cat "groups/$1/WhenSynchronized")" "WhenSynced"
	assert_eq "" "$(cat "groups/$1"/pairs/*/WhenSynced)" "WhenSynced of a pair"
	assert_eq Exception "$(cat "groups/$1/job/JobState")"
	must_fail grep -F Detach "groups/$1/control"
}

# drop NAME: the relationship and its images.
drop()
{
	echo ReturnToResourcePool > "groups/$1/control"
	rmdir "groups/$1"
}

note "a wrong secret"
wait_until 10 file_has elements/locked0/OperationalStatus Error
[ $((SECONDS - started)) -le 10 ] || fail "it took $((SECONDS - started)) s"
assert_match 'locked0|127.0.0.1' "$(cat elements/locked0/error)"
assert_match '[Aa]uthentication|CHAP|password|secret' "$(cat elements/locked0/error)"
must_fail grep -rF -e thirteen-lett elements/locked0/error elements/locked0/result status status.json events

note "a member that has no login"
mkdir groups/far groups/far-copy
echo "log0 nowhere0" > groups/far/members
from=$SECONDS
must_refuse groups/far-copy/spec "SyncType=Clone SourceGroup=far" "Input/output error"
[ $((SECONDS - from)) -le 12 ] || fail "it took $((SECONDS - from)) s"
[ $((SECONDS - from)) -ge 8 ] || fail "it was not waited for: $((SECONDS - from)) s"
assert_match '^4 Failed' "$(cat groups/far-copy/result)"
error=$(cat elements/nowhere0/error)
[ -n "$error" ] || fail "nowhere0 has no error"
[[ "$(cat groups/far-copy/result)" == *nowhere0*"${error#*: }"* ]] ||
	fail "result: $(cat groups/far-copy/result), error: $error"
assert_eq "Not Applicable" "$(cat groups/far-copy/CopyState)"
assert_eq "" "$(ls groups/far-copy/images)$(ls jobs)$(find "$POOL" -name 'e*')" "left over"
rmdir groups/far-copy groups/far

note "an unreadable block, Sequential Consistency: one fate"
mkdir groups/prod
echo "db0 log0" > groups/prod/members
rules <<-END
	[slow]
	event = read
	offset = 0
	length = 65536
	delay_ms = 300
	[bad]
	event = read
	offset = $((9 << 20))
	length = 512
	errno = ENODATA
END
replicate seq "SourceGroup=prod Consistency=3"
is_broken seq
assert_match "db0: medium error: bytes $((9 << 20)) to $(((9 << 20) + 511))" \
	"$(cat groups/seq/pairs/1/error)"
assert_eq "member db0 broke" "$(cat groups/seq/pairs/2/error)"
assert_eq Broken "$(cat groups/seq/pairs/1/CopyState)"
assert_eq Broken "$(cat groups/seq/pairs/2/CopyState)"
assert_match "db0: medium error" "$(cat groups/seq/job/ErrorDescription)"
assert_eq 4 "$(cat groups/seq/job/ErrorCode | sed 's/ .*//')" "ErrorCode"
must_refuse groups/seq/control Detach "Input/output error"
must_fail dd if=groups/seq/images/seq_1 of=/dev/null bs=4096 count=1 skip=$((9 << 20)) iflag=skip_bytes
test -e groups/seq/images/seq_2
drop seq

note "the same with No Consistency: OnGroupOrListError is Stop"
replicate none "SourceGroup=prod Consistency=2"
is_broken none
assert_match "db0: medium error" "$(cat groups/none/pairs/1/error)"
assert_eq "member db0 broke" "$(cat groups/none/pairs/2/error)"
drop none
rules < /dev/null

note "an unreadable block of a LUN, until the disk is mended"
arm p sense key=3 asc=0x11 op=read lba=20001-20003 count=0
replicate lun "SourceElement=lun1"
is_broken lun
assert_match "lun1: medium error: bytes $((20001 * 512)) to $((20004 * 512 - 1)) " \
	"$(cat groups/lun/pairs/1/error)"
disarm p sense
drop lun
replicate lun "SourceElement=lun1"
assert_eq Synchronized "$(timeout 20 cat groups/lun/wait/Synchronized)"
cmp groups/lun/images/lun_1 "$T/lun-1-1"

note "a read that comes short, though its status is good"
arm p short op=read after=10
replicate short "SourceElement=lun1"
is_broken short
wait_fired p short
assert_match 'lun1: reading bytes [0-9]+ to [0-9]+ failed' "$(cat groups/short/pairs/1/error)"
drop short

note "a full pool"
replicate full "SourceElement=big0 TargetPool=tiny"
is_broken full
assert_match 'pool tiny is full' "$(cat groups/full/pairs/1/error)"
assert_match 'pool tiny is full' "$(cat groups/full/job/ErrorDescription)"
must_fail cmp groups/full/images/full_1 "$T/lun-1-5"
drop full
wait_until 10 no_images "$T/tiny"
replicate again "SourceElement=lun2 TargetPool=tiny"
assert_eq Synchronized "$(timeout 20 cat groups/again/wait/Synchronized)"
cmp groups/again/images/again_1 "$T/lun-1-2"

note "another LUN at the next login: by size, by serial number"
arm p slow bytes_per_second=1000000
arm q slow bytes_per_second=1000000
replicate size "SourceElement=lun3"
replicate serial "SourceElement=lun4"
for g in size serial; do
	wait_until 20 file_matches "groups/$g/pairs/1/PercentSynced" '^[1-9]'
	assert_eq Unsynchronized "$(cat "groups/$g/CopyState")"
done
kill_tgtd
size=$(cat groups/size/pairs/1/bytes_copied)
fill_random "$T/lun-1-3" 24M other
tgt_do() { :; }
tgt_setup+=("$(printf '%q ' --op update --mode logicalunit --tid 1 --lun 4 --params scsi_sn=another)")
restart_tgtd
disarm p slow
disarm q slow
is_broken size
is_broken serial
assert_match "lun3: (identification: )?its size is $((24 << 20)) bytes and was $((16 << 20))" \
	"$(cat groups/size/pairs/1/error)"
assert_match 'lun4: (identification: )?its serial number is "another" and was ' \
	"$(cat groups/serial/pairs/1/error)"
for e in lun3 lun4; do
	assert_eq Error "$(cat elements/$e/OperationalStatus)"
	assert_match 'nothing is read or written' "$(cat elements/$e/error)"
done
must_fail dd if=elements/lun3/data of=/dev/null bs=4096 count=1 iflag=direct
[ "$(cat groups/size/pairs/1/bytes_copied)" -le $((size + (4 << 20))) ] ||
	fail "more was read: $size, now $(cat groups/size/pairs/1/bytes_copied)"

note "it stays so after a restart"
cd /
stop_lunfs
start_lunfs
for g in size serial; do
	assert_eq Broken "$(cat "$MNT/groups/$g/CopyState")"
done
assert_eq Synchronized "$(cat "$MNT/groups/lun/CopyState")"
stop_lunfs
