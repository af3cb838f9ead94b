#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
#
# What ends, stops and changes a relationship: job control, the operations of
# ModifyReplicaSynchronization, rmdir, and what is left afterwards.
. "${top_srcdir:-$(dirname "$0")/..}/tests/lib.sh"
need_lunfs

start_tgtd
add_target 1
fill_random "$(lun_file 1 1)" 32M 1
add_lun 1 1 32M
fill_random "$(lun_file 1 2)" 2M 2
add_lun 1 2 2M
start_proxy slow
write_conf <<-END
	[element big]
	url = $(lun_url 1 1 "${proxy_port[slow]}")
	access = exclusive

	[element small]
	url = $(lun_url 1 2)
	access = exclusive
END
start_lunfs
cd "$MNT"

code()
{
	head -n 1 "$1"
}

sentence()
{
	sed -n 2p "$1"
}

is_null()
{
	assert_eq "" "$(cat "$1")" "$1"
}

# refused FILE TEXT CODE ERROR WORDS: by the errno's text, the code and the sentence.
refused()
{
	local result
	result=$(dirname "$1")/result
	must_refuse "$1" "$2" "$4"
	assert_eq "$3" "$(code "$result")" "$2"
	assert_match "$5" "$(sentence "$result")" "$2"
}

pool_is_empty()
{
	local kib
	kib=$(du -sk "$POOL" | cut -f1)
	echo "$kib KiB" && [ "$kib" -lt 512 ]
}

# begin GROUP SOURCE [MORE]: a group with a relationship.
begin()
{
	mkdir "groups/$1"
	echo "SourceElement=$2 SyncType=Clone ${3:-}" > "groups/$1/spec"
}

# has_ended GROUP: the relationship is no more; the group is.
has_ended()
{
	local f
	file_has "groups/$1/CopyState" "Not Applicable" || return
	for f in spec RelationshipName SyncType PercentSynced control relationships WhenSynced; do
		is_null "groups/$1/$f"
	done
	assert_eq "" "$(ls "groups/$1/pairs")" "pairs of $1"
	assert_eq "" "$(ls "groups/$1/images")" "images of $1"
}

job_started="4096 Method Parameters Checked - Job Started"
done_0="0 Completed with No Error"
eio="Input/output error"
eperm="Operation not permitted"
ebusy="Device or resource busy"

# ---- before a spec ----

mkdir groups/none
refused groups/none/control Detach "4 Failed" "$eio" "no relationship"
is_null groups/none/control
refused groups/none/control Nonsense "5 Invalid Parameter" "Invalid argument" '"Nonsense"'
rmdir groups/none

# ---- job control ----

arm slow slow bytes_per_second=1500000
begin run big
J=$(readlink -f groups/run/job)
refused "$J/control" Start "4097 Invalid State Transition" "$eperm" Running
refused "$J/control" Nonsense "5 Invalid Parameter" "Invalid argument" Nonsense
echo Suspend > "$J/control"
assert_eq "$done_0" "$(code "$J/result")" Suspend
assert_eq Suspended "$(cat "$J/JobState")" JobState
assert_eq Suspended "$(cat groups/run/CopyState)"
assert_eq Suspended "$(timeout 5 cat groups/run/wait/Suspended)" wait
assert_eq Dormant "$(cat groups/run/ProgressStatus)"
assert_match '^20.*Z$' "$(cat groups/run/WhenSuspended)" WhenSuspended
wait_until 5 file_matches groups/run/waiting_for "suspended.*Start"
refused "$J/control" suspend "4097 Invalid State Transition" "$eperm" Suspended
refused groups/run/control Detach "4 Failed" "$eio" "Suspended.*Synchronized"
# What was under way arrives; then only a reader moves it.
copied=$(cat groups/run/pairs/1/bytes_copied)
cmp -n 4096 -i $((31 << 20)) "$(lun_file 1 1)" groups/run/images/run_1
fetched_something()
{
	[ "$(cat groups/run/pairs/1/bytes_copied)" -gt "$copied" ]
}
wait_until 10 fetched_something
[ "$(cat groups/run/PercentSynced)" -lt 90 ] || fail "a suspended copy went on"
assert_eq Suspended "$(cat groups/run/CopyState)"
echo 2 > "$J/control" # Start
assert_eq Running "$(cat "$J/JobState")" JobState
assert_eq Unsynchronized "$(cat groups/run/CopyState)"
note "Suspend and Start"

# The same by control, which takes the job along.
echo Suspend > groups/run/control
assert_eq "$done_0" "$(code groups/run/result)" "Suspend by control"
assert_eq Suspended "$(cat "$J/JobState")" JobState
assert_eq "Deactivate
Resume
Abort
Resync Replica
Return To ResourcePool" "$(cat groups/run/control)" "what is allowed while it is suspended"
cd /
kill9_lunfs
start_lunfs
cd "$MNT"
assert_eq Suspended "$(cat groups/run/CopyState)" "CopyState after kill -9"
assert_eq Suspended "$(cat "$J/JobState")" "JobState after kill -9"
refused "$J/control" "Start 5s" "4098 Use of Timeout Parameter Not Supported" \
	"Invalid argument" "without"
refused "$J/control" Service "1 Not Supported" "Operation not supported" Service
echo 16 > groups/run/control # Resume
assert_eq Running "$(cat "$J/JobState")" JobState
assert_eq 86400.000 "$(cat "$J/TimeBeforeRemoval")" TimeBeforeRemoval
echo true > "$J/DeleteOnCompletion"
assert_eq 300.000 "$(cat "$J/TimeBeforeRemoval")" "TimeBeforeRemoval with DeleteOnCompletion"
note "Suspend and Resume by control"

echo terminate > "$J/control"
assert_eq Terminated "$(cat "$J/JobState")" JobState
assert_eq "Error Completed" "$(paste -sd' ' "$J/OperationalStatus")" OperationalStatus
assert_eq 4 "$(cat "$J/ErrorCode")" "ErrorCode of what did not do its work"
assert_match "Terminate was written" "$(cat "$J/ErrorDescription")" ErrorDescription
assert_eq Aborted "$(cat groups/run/CopyState)"
for request in Start Suspend Terminate Kill; do
	refused "$J/control" $request "4097 Invalid State Transition" "$eperm" Terminated
done
refused groups/run/control Detach "4 Failed" "$eio" "Aborted"
must_fail cat groups/run/images/run_1
assert_match "$eio" "$OUTPUT" "the end of an aborted image"
assert_eq "Resync Replica
Return To ResourcePool" "$(cat groups/run/control)" "what is allowed now"

begin kill big
J2=$(readlink -f groups/kill/job)
echo Kill > "$J2/control"
assert_eq Killed "$(cat "$J2/JobState")" JobState
assert_eq Aborted "$(cat groups/kill/CopyState)"
assert_match Error "$(cat "$J2/OperationalStatus")" "OperationalStatus of a killed job"
[ "$J" != "$J2" ] || fail "a job's number was used again"
note "Terminate and Kill"

# ---- ReturnToResourcePool from every state ----

begin init big WaitForCopyState=Initialized
begin busy big
begin susp big
echo Suspend > groups/susp/job/control
begin sync small WaitForCopyState=Synchronized
for g in run kill init busy susp sync; do
	state=$(cat groups/$g/CopyState)
	[ "$state" != "Not Applicable" ] || fail "$g has no relationship"
	[ -e elements/${g}_1 ] || fail "$g has no image"
	grep -qx "Return To ResourcePool" groups/$g/control || fail "$state: control"
	job=$(readlink -f groups/$g/job) || :
	echo ReturnToResourcePool > groups/$g/control
	assert_eq "$done_0" "$(code groups/$g/result)" "ReturnToResourcePool from $state"
	has_ended $g
	is_null groups/$g/members
	[ ! -e elements/${g}_1 ] || fail "$state: the image is still an element"
	case $state in
	Unsynchronized | Suspended)
		assert_eq Terminated "$(cat "$job/JobState")" "job after ReturnToResourcePool"
		;;
	esac
	rmdir groups/$g
done
is_null elements/big/relationships
is_null pools/pool0/images
wait_until 10 pool_is_empty
assert_eq Killed "$(cat "$J2/JobState")" "the job's state after all"
note "ReturnToResourcePool from Aborted, Initialized, Unsynchronized, Suspended, Synchronized"

begin open small WaitForCopyState=Synchronized
exec {fd}< groups/open/images/open_1
refused groups/open/control ReturnToResourcePool "6 In Use" "$ebusy" "1 open handle.*pid $$.*Force"
[ -e elements/open_1 ] || fail "the image is gone"
echo "ReturnToResourcePool Force" > groups/open/control
assert_eq "$done_0" "$(code groups/open/result)" Force
[ ! -e elements/open_1 ] || fail "Force left the image"
# Who has it open reads what it was, or an error; never another's bytes.
if dd bs=4096 count=1 iflag=direct status=none of="$T/after" <&"$fd"; then
	cmp -n 4096 "$(lun_file 1 2)" "$T/after"
fi
exec {fd}<&-
has_ended open
rmdir groups/open
wait_until 10 pool_is_empty
note "an open image: In Use, and Force"

# ---- what a Clone does not have ----

begin sync small WaitForCopyState=Synchronized
for operation in Failback Failover "Reverse Roles" Split \
	Unprepare; do
	must_fail put groups/sync/control "$operation"
	assert_match "Operation not supported" "$OUTPUT" "$operation"
	assert_eq "1 Not Supported" "$(code groups/sync/result)" "$operation"
	assert_match "$operation" "$(sentence groups/sync/result)" "$operation"
done
refused groups/sync/control Deactivate "4 Failed" "$eio" "Unsynchronized, Suspended"
refused groups/sync/control Abort "4 Failed" "$eio" "Unsynchronized, Suspended"
refused groups/sync/control Resume "4 Failed" "$eio" "from Suspended"
refused groups/sync/control Suspend "4 Failed" "$eio" "from Unsynchronized"
assert_eq Synchronized "$(cat groups/sync/CopyState)"
note "operations that a Clone does not have: Not Supported"

# ---- Fracture, and what is written to the image then ----

timeout 20 cat groups/sync/wait/Fractured > "$T/fractured.out" {never_fd}<&- &
wait_pid=$!
started_pids+=("$wait_pid")
echo Fracture > groups/sync/control
assert_eq "$done_0" "$(code groups/sync/result)" Fracture
wait_until 10 ended "$wait_pid"
assert_eq Fractured "$(cat "$T/fractured.out")"
assert_eq Fractured "$(cat groups/sync/pairs/1/CopyState)"
refused groups/sync/control Fracture "4 Failed" "$eio" "from Synchronized, Skewed"
printf scribbled | dd of=groups/sync/images/sync_1 bs=1M seek=1 conv=notrunc,fsync status=none
assert_eq Fractured "$(cat groups/sync/CopyState)"
must_fail cmp -s "$(lun_file 1 2)" groups/sync/images/sync_1
echo ResyncReplica > groups/sync/control
assert_eq Synchronized "$(timeout 20 cat groups/sync/wait/Synchronized)"
cmp "$(lun_file 1 2)" groups/sync/images/sync_1
note "Fracture: a write leaves CopyState as it is; ResyncReplica copies anew"

# ---- Detach from Synchronized; what is left ----

mkdir groups/from groups/second
echo sync_1 > groups/from/members
refused groups/second/spec "SourceElement=sync_1 SyncType=Clone" "6 In Use" "$ebusy" 'target of relationship "sync"'
refused groups/sync/spec "SourceElement=small SyncType=Clone" "6 In Use" "$ebusy" "relationship already"
must_fail rmdir groups/sync
assert_match "$ebusy" "$OUTPUT"
must_fail rmdir elements/sync_1
assert_match "$ebusy" "$OUTPUT"
refused groups/sync/members small "6 In Use" "$ebusy" "in a relationship"
grep -qx Detach groups/sync/control
echo Detach > groups/sync/control
assert_eq "$done_0" "$(code groups/sync/result)" Detach
has_ended sync
assert_eq sync_1 "$(cat groups/sync/members)" "members after Detach"
cmp "$(lun_file 1 2)" elements/sync_1/data
cmp "$(lun_file 1 2)" elements/sync_1/backing
is_null elements/sync_1/relationships
must_fail rmdir elements/sync_1
assert_match "$ebusy" "$OUTPUT"
assert_match 'member of group "(from|sync)".*\(echo -sync_1 > groups/(from|sync)/members\)' "$(sentence elements/sync_1/result)"
note "Detach from Synchronized: at once, and the image stays"

echo "SourceElement=sync_1 SyncType=Clone WaitForCopyState=Synchronized" > groups/second/spec
assert_eq "$done_0" "$(code groups/second/result)"
cmp "$(lun_file 1 2)" groups/second/images/sync_1
cmp "$(lun_file 1 2)" elements/second_1/data
echo Dissolve > groups/second/control
has_ended second
refused groups/second/spec "SourceElement=sync_1 SyncType=Clone" "5 Invalid Parameter" "Invalid argument" "has members"
echo > groups/second/members
refused groups/second/spec "SourceElement=small SyncType=Clone" "6 In Use" "$ebusy" 'an image "second_1" already'
rmdir elements/second_1
echo "SourceGroup=from SyncType=Clone WaitForCopyState=Synchronized" > groups/second/spec
must_fail rmdir groups/from
assert_match "$ebusy" "$OUTPUT"
refused groups/from/members "-sync_1" "6 In Use" "$ebusy" "relationship"
echo ReturnToResourcePool > groups/second/control
rmdir groups/second groups/from groups/sync
assert_eq sync_1 "$(cat pools/pool0/images)"
rmdir elements/sync_1
wait_until 10 pool_is_empty
note "a detached image is a source; rmdir of it frees its space"

# ---- Detach while it runs ----

begin far big
echo Detach > groups/far/control
assert_eq "$job_started" "$(code groups/far/result)" "Detach while it runs"
assert_eq Detaching "$(cat groups/far/ProgressStatus)"
assert_eq Detaching "$(cat groups/far/pairs/1/ProgressStatus)"
assert_eq Unsynchronized "$(cat groups/far/CopyState)"
job=$(readlink -f groups/far/job)
must_fail rmdir groups/far
assert_match "$ebusy" "$OUTPUT"
cat groups/far/wait/Synchronized > "$T/far.out" 2>&1 {never_fd}<&- &
wait_pid=$!
started_pids+=("$wait_pid")
disarm slow slow
wait_until 40 has_ended far
assert_eq Completed "$(cat "$job/JobState")" JobState
wait_until 10 ended "$wait_pid"
assert_eq Synchronized "$(cat "$T/far.out")" "wait/ of a detaching group"
assert_eq far_1 "$(cat groups/far/members)"
cmp "$(lun_file 1 1)" elements/far_1/data
echo > groups/far/members
rmdir groups/far elements/far_1
note "Detach while it runs: Detaching, then the end"

# ---- groups that go by themselves ----

mkdir groups/src
echo small > groups/src/members
echo false > groups/src/Persistent
mkdir groups/unassoc groups/empty
echo true > groups/unassoc/DeleteOnUnassociated
echo "SourceGroup=src SyncType=Clone WaitForCopyState=Synchronized" > groups/unassoc/spec
echo Detach > groups/unassoc/control
wait_until 5 gone groups/unassoc
wait_until 5 gone groups/src
[ -e elements/unassoc_1 ] || fail "the image went with its group"
echo unassoc_1 > groups/empty/members
echo true > groups/empty/DeleteOnEmptyElement
echo > groups/empty/members
wait_until 5 gone groups/empty
rmdir elements/unassoc_1
assert_eq "" "$(ls groups)" "groups"
is_null elements/small/groups
wait_until 10 pool_is_empty
note "Persistent, DeleteOnUnassociated, DeleteOnEmptyElement"
