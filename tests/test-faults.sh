#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
#
# Clones whose target dies, is cut off, freezes or is busy: CopyState is never
# Broken, copying goes on by itself, and the image is the source's content.
. "${top_srcdir:-$(dirname "$0")/..}/tests/lib.sh"
need_lunfs

start_tgtd
add_target 1
fill_random "$T/lun-1-1" 48M 1
truncate -s 56M "$T/lun-1-1"		# ends in a hole
add_lun 1 1 56M
add_target 2
fill_random "$T/lun-2-1" 8M 2
fill_random "$T/lun-2-2" 4M 4
add_lun 2 1 8M
add_lun 2 2 4M
fill_random "$T/file0" 4M 3
start_proxy p
daemon_conf="io_timeout = 3"
write_conf <<-END
	[element db0]
	url = $(lun_url 1 1 "${proxy_port[p]}")
	access = exclusive
	[element log0]
	url = $(lun_url 2 1)
	access = exclusive
	[element shared0]
	url = $(lun_url 2 2)
	[element file0]
	url = file://$T/file0
END
start_lunfs
cd "$MNT"
for e in db0 log0 shared0; do
	wait_until 10 file_has "elements/$e/OperationalStatus" OK
done
mkdir groups/prod
echo "db0 log0" > groups/prod/members

# clone NAME [SLOW]: starts one of prod; SLOW: bytes a second from db0.
clone()
{
	mkdir "groups/$1"
	[ -z "${2:-}" ] || arm p slow "bytes_per_second=$2"
	echo "SourceGroup=prod SyncType=Clone" > "groups/$1/spec"
	assert_match '^4096 ' "$(cat "groups/$1/result")"
}

# has_percent NAME N: of the first pair.
has_percent()
{
	[ "$(cat "groups/$1/pairs/1/PercentSynced")" -ge "$2" ]
}

# finish_clone NAME: it completes, is right, and never was anything else.
finish_clone()
{
	disarm p slow
	assert_eq Synchronized "$(timeout 30 cat "groups/$1/wait/Synchronized")" "wait/ of $1"
	assert_eq Synchronized "$(cat "groups/$1/CopyState")"
	assert_eq 100 "$(cat "groups/$1/PercentSynced")"
	cmp "groups/$1/images/$1_1" "$T/lun-1-1"
	cmp "groups/$1/images/$1_2" "$T/lun-2-1"
	assert_eq "" "$(cat "groups/$1/pairs/1/error")"
	wait_until 3 file_has "groups/$1/waiting_for" ""
	must_fail grep -E '"to": ?"(Broken|Aborted)"' events
	echo ReturnToResourcePool > "groups/$1/control"
	rmdir "groups/$1"
}

# timed_read FILE OFFSET: one request.  OUTPUT, RC; ms is how long it took.
timed_read()
{
	local from=${EPOCHREALTIME/./}
	RC=0
	OUTPUT=$(dd if="$1" of="$T/read" bs=4096 skip="$2" count=1 iflag=skip_bytes,direct 2>&1) || RC=$?
	ms=$(((${EPOCHREALTIME/./} - from) / 1000))
}

# frozen_for SECONDS: the length of the fault itself.
frozen_for()
{
	[ "$SECONDS" -ge $((frozen + $1)) ]
}

note "the target is killed in mid-copy, and comes back"
clone killed 12000000
wait_until 20 has_percent killed 15
kill_tgtd
wait_until 20 file_matches groups/killed/waiting_for '^(db0|log0): no connection for [0-9]+ s'
wait_until 10 file_matches groups/killed/waiting_for 'no connection for [2-9] s'
assert_eq Unsynchronized "$(cat groups/killed/pairs/1/CopyState)"
assert_eq Degraded "$(cat elements/db0/OperationalStatus)"
must_fail has_percent killed 100
restart_tgtd
wait_until 30 file_has groups/killed/waiting_for ""
assert_eq Unsynchronized "$(cat groups/killed/pairs/1/CopyState)"
finish_clone killed

note "the connection is cut in mid-PDU, again and again"
clone cut 30000000
for at in command answer answer command answer; do
	arm p cut at=$at after=3
	wait_fired p cut
	assert_eq Unsynchronized "$(cat groups/cut/pairs/1/CopyState)"
done
finish_clone cut

note "busy, task set full, unit attention"
arm p busy op=read count=6
clone busy 30000000
wait_fired p busy
arm p busy op=read count=6 status=full
wait_fired p busy
arm p ua op=read count=3
wait_fired p ua
finish_clone busy

note "the target freezes: requests end at io_timeout, copying goes on after it"
clone frozen 4000000
wait_until 20 has_percent frozen 5
freeze_tgtd
frozen=$SECONDS
timed_read elements/shared0/data 0
assert_match 'Input/output error' "$OUTPUT" "read of shared0"
[ "$ms" -ge 2500 ] && [ "$ms" -le 4200 ] || fail "a read of shared0 took $ms ms"
timed_read groups/frozen/images/frozen_1 $((40 << 20))
assert_match 'Input/output error' "$OUTPUT" "read of the image"
[ "$ms" -ge 2500 ] && [ "$ms" -le 4200 ] || fail "a read of the image took $ms ms"
# Read through the page cache, the kernel asks twice: with read-ahead, and again.
from=${EPOCHREALTIME/./}
must_fail dd if=elements/shared0/data of=/dev/null bs=4096 count=1
ms=$(((${EPOCHREALTIME/./} - from) / 1000))
[ "$ms" -le 7200 ] || fail "a cached read of shared0 took $ms ms"
# Others are not held up, and what has come is there.
timed_read elements/file0/data 4096
assert_eq 0 "$RC" "$OUTPUT"
[ "$ms" -lt 1000 ] || fail "a read of file0 took $ms ms"
cmp -n 4096 "$T/read" "$T/file0" 0 4096
timed_read groups/frozen/images/frozen_1 4096
assert_eq 0 "$RC" "$OUTPUT"
[ "$ms" -lt 1000 ] || fail "a read of what had come took $ms ms"
cmp -n 4096 "$T/read" "$T/lun-1-1" 0 4096
from=${EPOCHREALTIME/./}
ls -lR . > /dev/null
cat status groups/frozen/CopyState elements/db0/size > /dev/null
ms=$(((${EPOCHREALTIME/./} - from) / 1000))
[ "$ms" -lt 2000 ] || fail "a look at the tree took $ms ms while the target hung"
wait_until 20 frozen_for 20
file_matches groups/frozen/waiting_for '^db0: no connection for [0-9]+ s'
assert_eq Unsynchronized "$(cat groups/frozen/pairs/1/CopyState)"
thaw_tgtd
finish_clone frozen
timed_read elements/shared0/data 8192
assert_eq 0 "$RC" "$OUTPUT"
cmp -n 4096 "$T/read" "$T/lun-2-2" 0 8192

cd /
stop_lunfs
