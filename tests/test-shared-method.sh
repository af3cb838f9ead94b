#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
#
# shared_method: LUNs that others write are cloned while their users are quiesced, or
# kept from writing by a reservation.  What was made holds one instant, nothing is
# called consistent that may not be, and whatever ends a copy (its own end, a failure,
# an abort, a stop, kill -9) thaws and releases.
. "${top_srcdir:-$(dirname "$0")/..}/tests/lib.sh"
need_lunfs
need_cmd sqlite3
probe=$top_builddir/tests/iscsi-probe
bd=$top_builddir/tests/bd-tool
for tool in "$probe" "$bd"; do
	[ -x "$tool" ] || skip "$tool is not built"
done

start_tgtd
add_target 1
for lun in 1 2 3; do
	fill_random "$(lun_file 1 $lun)" 8M $lun
	add_lun 1 $lun 8M
done
fill_random "$T/file0" 1M 4
start_proxy slow

# What the users of the LUNs run: it stops the writer, and says so.
cat > "$T/hook" <<-END
	#!/bin/bash
	echo "\$1 \$LUNFS_GROUP: \$LUNFS_MEMBERS" >> $T/calls
	if [ "\$1" = quiesce ]; then
		: > $T/freeze
		if [ -e $T/writer ]; then
			until [ -e $T/frozen ]; do read -rt 0.02 <> $T/never; done
		fi
		cp $(lun_file 1 1) $T/frozen1
		cp $(lun_file 1 2) $T/frozen2
	else
		rm -f $T/freeze
	fi
	if [ -e $T/fail-\$1 ]; then
		echo "looking at the disks"
		echo "the disk is busy" >&2
		exit 7
	fi
	if [ -e $T/hang-\$1 ]; then
		sleep 1000 &
		echo \$! > $T/child.new && mv $T/child.new $T/child
		wait
	fi
END
chmod +x "$T/hook"
: > "$T/calls"

daemon_conf="fence_timeout = 2500ms"
write_conf <<-END
	[element db0]
	url = $(lun_url 1 1 "${proxy_port[slow]}")

	[element log0]
	url = $(lun_url 1 2)

	[element own0]
	url = $(lun_url 1 3 "${proxy_port[slow]}")
	access = exclusive

	[element file0]
	url = file://$T/file0

	[setting q]
	shared_method = quiesce
	quiesce_command = $T/hook quiesce
	thaw_command = $T/hook thaw

	[setting r]
	shared_method = reserve
END
start_lunfs
cd "$MNT"

eio="Input/output error"

code()
{
	head -n 1 "$1"
}

sentence()
{
	sed -n 2p "$1"
}

calls()
{
	grep -c "^$1 " "$T/calls" || :
}

has_calls()
{
	[ "$(calls "$1")" -eq "$2" ]
}

# refused GROUP TEXT CODE ERROR WORDS: and nothing was made.
refused()
{
	must_refuse "groups/$1/spec" "$2" "$4"
	assert_eq "$3" "$(code "groups/$1/result")" "$2"
	assert_match "$5" "$(sentence "groups/$1/result")" "$2"
	assert_eq "Not Applicable" "$(cat "groups/$1/CopyState")" "$2"
	assert_eq "" "$(cat "groups/$1/members")" "$2"
	[ ! -e "groups/$1/job" ] || fail "$2: there is a job"
}

# foreign LUN COMMAND: another initiator's, as SCSI answers it.
foreign()
{
	"$probe" "$(lun_url 1 "$1")" "$2"
}

is_free()
{
	foreign "$1" write:9:1:77 | grep -q "status=0"
}

is_refused()
{
	foreign "$1" write:9:1:77 | grep -q "status=24"
}

copying()
{
	arm slow slow bytes_per_second=1500000
}

full_speed()
{
	disarm slow slow
}

is_copying()
{
	assert_match "Unsynchronized|Mixed" "$(cat "groups/$1/CopyState")" "$1"
}

synchronized()
{
	assert_eq Synchronized "$(timeout 60 cat "groups/$1/wait/Synchronized")" "$1"
}

ready()
{
	wait_until 20 file_has "$MNT/elements/db0/OperationalStatus" OK
	wait_until 20 file_has "$MNT/elements/log0/OperationalStatus" OK
}

drop()
{
	echo "ReturnToResourcePool Force" > "groups/$1/control"
	wait_until 10 file_has "groups/$1/CopyState" "Not Applicable"
}

in_progress()
{
	assert_eq "Sequential Consistency" "$(cat "groups/$1/Consistency")"
	assert_eq Inconsistent "$(cat "groups/$1/ConsistencyState")" "while it is copied"
	assert_eq "Consistency-in-progress" "$(cat "groups/$1/ConsistencyStatus")"
	assert_match . "$(cat "groups/$1/WhenSynced")" WhenSynced
	assert_match "instant: $(cat "groups/$1/WhenSynced")" "$(cat "groups/$1/consistency")"
}

consistent()
{
	assert_eq Consistent "$(cat "groups/$1/ConsistencyState")"
	assert_eq Completed "$(cat "groups/$1/ConsistencyStatus")"
}

broken()
{
	wait_until 20 file_has "$MNT/groups/$1/CopyState" Broken
	assert_eq Inconsistent "$(cat "$MNT/groups/$1/ConsistencyState")"
	assert_match "$2" "$(cat "$MNT/groups/$1/job/ErrorDescription")" "$1"
	assert_eq "" "$(cat "$MNT/groups/$1/WhenSynced")"
}

ready
mkdir groups/{prod,copy,other}
echo "db0 log0" > groups/prod/members
clone="SourceGroup=prod SyncType=Clone"

# ---- quiesce: the instant is that of the freeze ----

writer()
{
	local n=0
	while [ -e "$T/writer" ]; do
		if [ -e "$T/freeze" ]; then
			: > "$T/frozen"
			read -rt 0.05 -u "$never_fd" || :
			continue
		fi
		rm -f "$T/frozen"
		n=$(((n + 1) % 256))
		foreign 1 write:0:1:$n
		foreign 2 write:5:2:$n
		foreign 1 write:16000:8:$n
	done > "$T/writer.out" 2>&1
}
: > "$T/writer"
run_in_background writer
writer_pid=$background_pid
copying
echo "$clone ReplicationSettingData=q" > groups/copy/spec
assert_eq "4096 Method Parameters Checked - Job Started" "$(code groups/copy/result)"
assert_eq "quiesce prod: db0 log0" "$(cat "$T/calls")"
is_copying copy
in_progress copy
assert_match "quiesced: 20.*thawed: not yet.*hook thaw" "$(paste -sd' ' groups/copy/consistency)"
refused other "$clone ReplicationSettingData=q" "6 In Use" "Device or resource busy" '"copy"'
cmp "$T/frozen1" "$(lun_file 1 1)" || fail "somebody writes while it is copied"
cmp "$T/frozen2" "$(lun_file 1 2)" || fail "somebody writes while it is copied"
full_speed
synchronized copy
wait_until 10 has_calls thaw 1
assert_eq "thaw prod: db0 log0" "$(tail -n 1 "$T/calls")"
consistent copy
lun_differs()
{
	! cmp -s "$T/frozen1" "$(lun_file 1 1)" && ! cmp -s "$T/frozen2" "$(lun_file 1 2)"
}
wait_until 20 lun_differs
cmp "$T/frozen1" groups/copy/images/db0
cmp "$T/frozen2" groups/copy/images/log0
wait_until 10 file_matches groups/copy/consistency "^thawed: 20"
note "quiesce: images of the freeze, the thaw after the copy"

# ---- a new instant ----

echo ResyncReplica > groups/copy/control
wait_until 20 has_calls thaw 2
assert_eq 2 "$(calls quiesce)"
synchronized copy
rm "$T/writer"
wait_until 10 ended "$writer_pid"
cmp "$T/frozen1" groups/copy/images/db0
cmp "$T/frozen2" groups/copy/images/log0
consistent copy
drop copy
echo "$clone ReplicationSettingData=q WaitForCopyState=Prepared" > groups/copy/spec
assert_eq 2 "$(calls quiesce)" "quiesced before there is an instant to take"
echo Activate > groups/copy/control
synchronized copy
wait_until 10 has_calls thaw 3
assert_eq 3 "$(calls quiesce)"
consistent copy
drop copy
note "ResyncReplica and Activate quiesce and thaw too"

# ---- quiesce fails, hangs; the thaw fails ----

: > "$T/fail-quiesce"
refused copy "$clone ReplicationSettingData=q" "4 Failed" "$eio" 'quiesce_command: exit code 7: "the disk is busy"; nothing was made'
assert_eq 4 "$(calls thaw)" "after a quiesce that failed"
rm "$T/fail-quiesce"
: > "$T/hang-quiesce"
refused copy "$clone ReplicationSettingData=q" "4 Failed" "$eio" 'not done within fence_timeout \(2500 ms\)'
wait_until 5 ended "$(cat "$T/child")"
assert_eq 5 "$(calls thaw)" "after a quiesce that hung"
rm "$T/hang-quiesce" "$T/child"
: > "$T/fail-thaw"
echo "$clone ReplicationSettingData=q WaitForCopyState=Synchronized" > groups/copy/spec
assert_eq "0 Completed with No Error" "$(code groups/copy/result)"
wait_until 10 file_matches groups/copy/consistency '^thaw failed: 20.*exit code 7: "the disk is busy"'
assert_eq 6 "$(calls thaw)"
consistent copy
rm "$T/fail-thaw"
drop copy
note "quiesce fails or hangs: nothing is made, the thaw runs; a thaw that fails is told"

# ---- what else ends a copy thaws ----

copying
echo "$clone ReplicationSettingData=q" > groups/copy/spec
echo Terminate > groups/copy/job/control
assert_eq Aborted "$(cat groups/copy/CopyState)"
wait_until 10 has_calls thaw 7
assert_eq Inconsistent "$(cat groups/copy/ConsistencyState)"
echo ReturnToResourcePool > groups/copy/control
echo "$clone ReplicationSettingData=q" > groups/copy/spec
drop copy
wait_until 10 has_calls thaw 8
echo "$clone ReplicationSettingData=q" > groups/copy/spec
cd "$T"
stop_lunfs
has_calls thaw 9 || fail "stopped without a thaw: $(cat "$T/calls")"
start_lunfs
cd "$MNT"
broken copy "LunFS was stopped"
ready
full_speed
echo ResyncReplica > groups/copy/control
wait_until 20 has_calls thaw 10
synchronized copy
consistent copy
cmp "$(lun_file 1 1)" groups/copy/images/db0
drop copy
copying
echo "$clone ReplicationSettingData=q" > groups/copy/spec
cd "$T"
kill9_lunfs
start_lunfs
cd "$MNT"
wait_until 10 has_calls thaw 11
broken copy "without notice"
drop copy
: > "$T/hang-quiesce"
! echo "$clone ReplicationSettingData=q" > groups/copy/spec 2> /dev/null &
echo_pid=$!
wait_until 10 test -e "$T/child"
cd "$T"
kill9_lunfs
wait "$echo_pid" || :
kill "$(cat "$T/child")" 2> /dev/null || :
rm "$T/hang-quiesce" "$T/child"
start_lunfs
cd "$MNT"
wait_until 10 has_calls thaw 12
assert_eq "Not Applicable" "$(cat groups/copy/CopyState)"
assert_eq 12 "$(calls quiesce)" "as many as thaws"
full_speed
ready
note "an abort, the end of the relationship, a stop and kill -9 thaw"

# ---- exclusive members are quiesced for the instant only ----

wait_until 20 file_has elements/own0/OperationalStatus OK
copying
echo "SourceElement=own0 SyncType=Clone ReplicationSettingData=q" > groups/copy/spec
wait_until 10 has_calls thaw 13
assert_eq "thaw : own0" "$(tail -n 1 "$T/calls")"
is_copying copy
assert_eq Consistent "$(cat groups/copy/ConsistencyState)"
full_speed
synchronized copy
drop copy
note "exclusive members: thawed right after the instant"

# ---- reserve ----

copying
is_free 1 && is_free 2 || fail "reserved before anything was asked for"
cp "$(lun_file 1 1)" "$T/frozen1"
cp "$(lun_file 1 2)" "$T/frozen2"
echo "$clone ReplicationSettingData=r Consistency=3" > groups/copy/spec
is_copying copy
assert_match "status=24" "$(foreign 1 write:0:1:1)" "a foreign write to db0"
assert_match "status=24" "$(foreign 2 write:0:1:1)" "a foreign write to log0"
# Nor does a registration help it.
assert_match "status=24" "$("$probe" "$(lun_url 1 1)" prout:6:0:0:4711 write:0:1:1 prout:0:0:4711:0 |
	sed -n 2p)" "a registered host's write"
assert_match "status=0 bytes=512" "$(foreign 1 read:0:1)" "a foreign read"
in_progress copy
assert_match "released: not yet" "$(cat groups/copy/consistency)"
echo "SourceElement=db0 SyncType=Clone ReplicationSettingData=r" > groups/other/spec
full_speed
synchronized copy
synchronized other
consistent copy
wait_until 10 is_free 1
wait_until 10 is_free 2
wait_until 10 file_matches groups/copy/consistency "^released: 20"
cmp "$T/frozen1" groups/copy/images/db0
cmp "$T/frozen2" groups/copy/images/log0
drop copy
drop other
note "reserve: others read and do not write, until the end of the copy"

# One of two copies of a LUN ends: the other's hold goes on.
copying
echo "$clone ReplicationSettingData=r" > groups/copy/spec
echo "SourceElement=db0 SyncType=Clone ReplicationSettingData=r" > groups/other/spec
drop copy
wait_until 10 is_free 2
is_refused 1 || fail "the reservation of another copy was given up"
drop other
wait_until 10 is_free 1
note "two copies of a LUN: reserved until the end of both"

# ---- what speaks against it ----

"$bd" -k 0x4711 -K info "$(lun_url 1 2)" > /dev/null
refused copy "$clone ReplicationSettingData=r" "4 Failed" "$eio" "member log0 cannot be reserved.*0x0000000000004711"
"$bd" -k 0x4711 info "$(lun_url 1 2)" > /dev/null
wait_until 10 is_free 1
refused copy "SourceElement=file0 SyncType=Clone ReplicationSettingData=r" "4 Failed" "$eio" "member file0 .*scheme file:"
note "a foreign key, and an element without reservations: nothing is made, nothing stays"

# ---- a connection that is lost ----

copying
cp "$(lun_file 1 1)" "$T/frozen1"
echo "$clone ReplicationSettingData=r" > groups/copy/spec
arm slow cut
wait_fired slow cut
is_refused 1 || fail "the reservation went with the connection"
full_speed
synchronized copy
consistent copy
cmp "$T/frozen1" groups/copy/images/db0
wait_until 10 is_free 1
drop copy
copying
echo "$clone ReplicationSettingData=r" > groups/copy/spec
restart_tgtd
broken copy "member (db0|log0): its reservation is gone"
wait_until 20 is_free 1
wait_until 20 is_free 2
ready
drop copy
note "a new login finds the reservation, or the copy is broken"

# Another host preempts it, writes, and goes.
copying
echo "SourceElement=db0 SyncType=Clone ReplicationSettingData=r" > groups/copy/spec
key=$(sqlite3 -readonly "$STATE/lunfs.db" "SELECT printf('%x', pr_key) FROM element WHERE name = 'db0'")
foreign_steals()
{
	"$probe" "$(lun_url 1 1)" prout:6:0:0:4711 "prout:4:1:4711:$key" write:0:1:9 \
		prout:3:0:4711:0
}
assert_eq "status=0 status=0 status=0 status=0" "$(foreign_steals | paste -sd' ')"
full_speed
broken copy "member db0: (its|the) reservation is gone"
wait_until 10 is_free 1
ready
drop copy
note "a reservation that was taken away: never called consistent"

# ---- what else ends a copy releases ----

copying
echo "$clone ReplicationSettingData=r" > groups/copy/spec
echo Kill > groups/copy/job/control
wait_until 10 is_free 1
wait_until 10 is_free 2
drop copy
echo "$clone ReplicationSettingData=r" > groups/copy/spec
is_refused 1 || fail "not reserved"
cd "$T"
stop_lunfs
is_free 1 && is_free 2 || fail "stopped and still reserved"
start_lunfs
cd "$MNT"
broken copy "LunFS was stopped"
ready
drop copy
cp "$(lun_file 1 1)" "$T/frozen1"
echo "$clone ReplicationSettingData=r" > groups/copy/spec
cd "$T"
kill9_lunfs
is_refused 1 && is_refused 2 || fail "the reservation went with the process"
start_lunfs
cd "$MNT"
ready
is_refused 1 || fail "given up with the copy not done"
full_speed
synchronized copy
consistent copy
cmp "$T/frozen1" groups/copy/images/db0
wait_until 10 is_free 1
wait_until 10 is_free 2
drop copy
copying
echo "$clone ReplicationSettingData=r" > groups/copy/spec
cd "$T"
kill9_lunfs
restart_tgtd
is_free 1 || fail "tgtd does not forget reservations"
start_lunfs
cd "$MNT"
broken copy "reservation is gone"
drop copy
full_speed
holds()
{
	sqlite3 -readonly "$STATE/lunfs.db" "SELECT count(*) FROM hold"
}
nothing_owed()
{
	[ "$(holds)" = 0 ]
}
wait_until 10 nothing_owed
note "an abort and a stop release; after kill -9 the copy goes on if it still stands"
