#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
#
# Access points: CHAP, mutual CHAP and header digests; SourceAccessPoint and
# TargetAccessPoint of a spec; the LUNs <iqn>/<lun> that become elements on the fly, from
# the call to their end, over restarts and SIGHUP.  And that a secret is shown nowhere.
. "${top_srcdir:-$(dirname "$0")/..}/tests/lib.sh"
need_lunfs
need_cmd sqlite3

# They are looked for, so they are like nothing else.
secret=Lautlos-Kiesel7
target_secret=Bernstein-Ufer3
wrong=Falscher-Hase99

start_tgtd
add_target 1 --chap joe $secret
add_target 2 --digest --chap joe $secret --mutual targ $target_secret
add_target 3 --chap joe $secret
fill_random "$(lun_file 1 1)" 8M 1
add_lun 1 1 8M
fill_random "$(lun_file 1 2)" 4M 2
add_lun 1 2 4M
fill_random "$(lun_file 2 1)" 4M 3
add_lun 2 1 4M
add_lun 3 1 8M
add_lun 3 2 4M

secret_file()
{
	(umask 077 && printf '%s\n' "$2" > "$T/$1.secret")
}
secret_file user $secret
secret_file targ $target_secret
secret_file wrong $wrong

access_point()
{
	printf '[access_point %s]\nportal = %s\n' "$1" "${2:-127.0.0.1:$TGT_PORT}"
}
chap()
{
	printf 'user = joe\npassword_file = %s\n' "$T/${1:-user}.secret"
}
mutual()
{
	printf 'target_user = targ\ntarget_password_file = %s\n' "$T/${1:-targ}.secret"
}
at()
{
	printf '[element %s]\naccess_point = %s\ntarget = %s\nlun = %s\naccess = %s\n\n' \
		"$1" "$2" "$IQN:t$3" "$4" "${5:-exclusive}"
}

truncate -s 8M "$T/file0"
sections()
{
	access_point ap1
	chap
	access_point both
	chap
	mutual
	echo "header_digest = yes"
	access_point liar
	chap wrong
	access_point strange
	chap
	mutual wrong
	access_point strict
	chap
	echo "header_digest = yes"
	at tgt1 ap1 3 1
	at own ap1 1 2 shared
	printf '[setting reserved]\nshared_method = reserve\n'
	printf '[element file0]\nurl = file://%s/file0\naccess = exclusive\n' "$T"
	cat
}
sections < /dev/null | write_conf
start_lunfs_foreground -o debug
cd "$MNT"
for e in tgt1 own file0; do
	wait_until 20 file_has elements/$e/OperationalStatus OK
done
mkdir groups/{a,b,onto,mixed}
echo tgt1 > groups/onto/members
echo "own file0" > groups/mixed/members
L1=$IQN:t1/1
E1=${IQN}_t1_1

# ---- the secrets ----

# shown [OPTION OF GREP]: where the daemon, with all it can say of each request, shows one
shown()
{
	local secrets=(-e "$secret" -e "$target_secret" -e "$wrong")
	{
		grep -aHF "${secrets[@]}" /proc/"$lunfs_pid"/{cmdline,environ} \
			/proc/"$lunfs_pid"/task/*/{cmdline,environ,comm}
		grep -raF "$@" "${secrets[@]}" "$MNT" "$STATE" "$POOL" "$CONF" "$T/lunfs.log"
	} 2> /dev/null || :
}

# not_shown WHEN [OPTION OF GREP]: nor would it be overlooked
not_shown()
{
	assert_eq "" "$(shown "${@:2}")" "a secret is shown $1"
	printf '%s\n' $secret $target_secret $wrong > "$POOL/canary"
	assert_eq 3 "$(shown "${@:2}" | grep -c "^$POOL/canary:")" "the look for secrets"
	rm "$POOL/canary"
}

# ---- what is refused, and changes nothing ----

# state: all that a refused spec must leave alone
state()
{
	ls elements groups jobs "$POOL"
	cat groups/*/{members,CopyState,relationships,spec}
	for t in element relationship pair job point hold; do
		sqlite3 -readonly "$STATE/lunfs.db" "SELECT count(*) FROM $t"
	done
}

# refused CODE ERROR WORDS SPEC
refused()
{
	local before after
	before=$(state)
	must_refuse groups/a/spec "$4" "$2"
	assert_eq "$1" "$(head -n 1 groups/a/result | cut -d' ' -f1)" "code of $4"
	assert_match "$3" "$(sed -n 2p groups/a/result)" "sentence of $4"
	after=$(state)
	assert_eq "$before" "$after" "the tree after $4"
}
invalid="Invalid argument"
missing="No such file or directory"
unsupported="Operation not supported"
failed="Input/output error"
refused 5 "$missing" \
	'SourceAccessPoint: there is no \[access_point ap2\]; access points: ap1, both, liar, strange, strict' \
	"SourceElement=$L1 SourceAccessPoint=ap2 SyncType=Clone"
refused 5 "$missing" 'TargetAccessPoint: there is no \[access_point ap2\]' \
	"SourceElement=own TargetAccessPoint=ap2 SyncType=Clone"
refused 5 "$invalid" 'SourceAccessPoint=both: element "own" is at access point "ap1"' \
	"SourceElement=own SourceAccessPoint=both SyncType=Clone"
refused 5 "$invalid" 'element "file0" is reached without an access point' \
	"SourceElement=file0 SourceAccessPoint=ap1 SyncType=Clone"
refused 5 "$invalid" 'SourceAccessPoint=ap1: element "file0" is reached without' \
	"SourceGroup=mixed SourceAccessPoint=ap1 SyncType=Clone"
refused 1 "$unsupported" 'TargetAccessPoint=ap1: LunFS makes no LUNs at a target' \
	"SourceElement=own TargetAccessPoint=ap1 SyncType=Clone"
refused 5 "$invalid" 'TargetAccessPoint=both: element "tgt1" is at access point "ap1"' \
	"SourceElement=file0 TargetGroup=onto TargetAccessPoint=both SyncType=Clone"
refused 5 "$invalid" '1/2 at access point "both" is element "own" already, which is reached by' \
	"SourceElement=$IQN:t1/2 SourceAccessPoint=both SyncType=Clone"
refused 1 "$unsupported" "no Snapshot of member \"$E1\", as it is shared" \
	"SourceElement=$L1 SourceAccessPoint=ap1 SyncType=Snapshot"
refused 1 "$unsupported" 'shared_method = none' \
	"SourceElement=$L1 SourceAccessPoint=ap1 SyncType=Clone Consistency=3"
mkdir elements/$E1
refused 6 "Device or resource busy" "would be element \"$E1\", and there is one already" \
	"SourceElement=$L1 SourceAccessPoint=ap1 SyncType=Clone"
rmdir elements/$E1
note "refused, and nothing was changed"

# quickly COMMAND...
quickly()
{
	local start=$SECONDS
	"$@"
	[ $((SECONDS - start)) -lt 10 ] || fail "it took $((SECONDS - start)) s: $*"
}
quickly refused 4 "$failed" \
	"member $E1 at access point liar is not ready: .*authentication failure; see user" \
	"SourceElement=$L1 SourceAccessPoint=liar SyncType=Clone"
not_shown "where it was wrong"
quickly refused 4 "$failed" 'at access point strange is not ready: .*did not prove who it is' \
	"SourceElement=$IQN:t2/1 SourceAccessPoint=strange SyncType=Clone"
not_shown "where the target's was wrong"
quickly refused 4 "$failed" 'at access point strict is not ready: .*does not take HeaderDigest=CRC32C' \
	"SourceElement=$L1 SourceAccessPoint=strict SyncType=Clone"
# Neither does a write that is interrupted while it waits for a login.
access_point dead 127.0.0.1:1 | sections | write_conf
kill -HUP "$lunfs_pid"
wait_until 10 grep -qF "[access_point dead] added" "$T/lunfs.log"
before=$(state)
echo "SourceElement=$L1 SourceAccessPoint=dead SyncType=Clone" > "$T/call"
run_in_background dd if="$T/call" of=groups/a/spec bs=4k status=none
wait_until 10 test -d elements/$E1
kill "$background_pid"
wait_until 10 gone elements/$E1
assert_eq "$before" "$(state)" "after a write that was interrupted"
note "a wrong secret, one of the target's, and an interrupted login leave nothing"

# ---- a copy of <iqn>/<lun> ----

same() { cmp "$(lun_file "$1" "$2")" "$3"; }
call="SourceElement=$L1 SourceAccessPoint=ap1 SyncType=Clone WaitForCopyState=Synchronized"
echo "$call" > groups/a/spec
assert_eq "0 Completed with No Error" "$(head -n 1 groups/a/result)"
same 1 1 groups/a/images/a_1
assert_eq "$(printf 'SourceElement=%s\nSourceAccessPoint=ap1' "$L1")" \
	"$(grep -E '^Source' groups/a/spec)" "spec"
assert_eq ../../elements/$E1 "$(readlink groups/a/source)"
assert_match '^shared' "$(cat elements/$E1/access)"
assert_eq "iscsi://127.0.0.1:$TGT_PORT/$L1" "$(cat elements/$E1/url)"
assert_eq "No Consistency Inconsistent" \
	"$(cat groups/a/Consistency groups/a/ConsistencyState | paste -sd' ')"
assert_eq a_1 "$(readlink groups/a/images/$E1)"
must_fail rmdir elements/$E1
assert_match "Device or resource busy" "$OUTPUT"
# Once more: the same element; and one of the configuration is taken as it is.
echo "$call" > groups/b/spec
assert_eq ../../elements/$E1 "$(readlink groups/b/source)"
assert_eq "$E1" "$(cd elements && echo "$IQN"*)"
mkdir groups/c groups/d
echo "SourceElement=$IQN:t1/2 SourceAccessPoint=ap1 SyncType=Clone" > groups/c/spec
assert_eq ../../elements/own "$(readlink groups/c/source)"
# One that is named may have its access point beside it.
echo own > groups/mixed/members
echo "SourceGroup=mixed SourceAccessPoint=ap1 TargetGroup=onto TargetAccessPoint=ap1 SyncType=Clone" \
	> groups/d/spec
assert_eq Synchronized "$(timeout 20 cat groups/d/wait/Synchronized)"
cmp -n $((4 << 20)) "$(lun_file 1 2)" "$(lun_file 3 1)"
assert_eq TargetAccessPoint=ap1 "$(grep TargetAccessPoint groups/d/spec)"
note "copied, also onto a LUN at an access point"

# Mutual CHAP and header digest.
mkdir groups/e
echo "SourceElement=$IQN:t2/1 SourceAccessPoint=both SyncType=Clone WaitForCopyState=4" > groups/e/spec
same 2 1 groups/e/images/e_1
assert_match 'HeaderDigest=CRC32C' "$(cat "elements/${IQN}_t2_1/sessions")"
note "mutual CHAP and header digest"

# ---- its end ----

# is_kept WHY: E1 is still there when what nothing uses has gone
is_kept()
{
	echo "SourceElement=$IQN:t3/2 SourceAccessPoint=ap1 SyncType=Clone WaitForCopyState=Inactive" \
		> groups/tick/spec
	echo ReturnToResourcePool > groups/tick/control
	wait_until 10 gone "elements/${IQN}_t3_2"
	[ -d elements/$E1 ] || fail "$E1 went, though $1"
}
mkdir groups/tick groups/keep
echo ReturnToResourcePool > groups/b/control
echo ReturnToResourcePool > groups/e/control
is_kept "it is in a relationship"
[ ! -e "elements/${IQN}_t2_1" ] || fail "one of which nobody knows is left"
echo $E1 > groups/keep/members
echo Detach > groups/a/control
assert_eq "Not Applicable" "$(cat groups/a/CopyState)"
is_kept "it is a member"
exec {fd}< elements/$E1/data
echo > groups/keep/members
is_kept "its data is open"
cmp "$(lun_file 1 1)" - <&"$fd"
exec {fd}<&-
wait_until 10 gone elements/$E1
assert_eq 0 "$(sqlite3 -readonly "$STATE/lunfs.db" "SELECT count(*) FROM element WHERE origin = 4")"
assert_eq a_1 "$(cat groups/a/members)" "members after Detach"
note "it goes with the last that uses it"

# ---- restarts ----

again()
{
	cd /
	"$@"
	umount -l "$MNT" 2> /dev/null || : # of one that was killed
	start_lunfs_foreground -o debug
	cd "$MNT"
}
# as SECRET [PORTAL [ELEMENT]]: so is otf, at which there is no other element
as()
{
	{
		access_point otf "${2:-127.0.0.1:$TGT_PORT}"
		chap "$1"
		[ -z "${3:-}" ] || at "$3" otf 3 2 shared
	} | sections | write_conf
}
# hup LINE: a SIGHUP reports that
hup()
{
	local from
	from=$(wc -c < "$T/lunfs.log")
	kill -HUP "$lunfs_pid"
	wait_until 10 reported "$((from + 1))" "$1"
}
reported() { tail -c "+$1" "$T/lunfs.log" | grep -E -- "$2"; }
status() { wait_until 20 file_has "elements/$1/OperationalStatus" "$2"; }
made_by_specs() { sqlite3 -readonly "$STATE/lunfs.db" "SELECT count(*) FROM element WHERE origin = 4"; }

access_point dead 127.0.0.1:1 | sections | write_conf
run_in_background dd if="$T/call" of=groups/b/spec bs=4k status=none 2> "$T/dd.err"
wait_until 10 test -d elements/$E1
again kill9_lunfs
wait_until 10 gone elements/$E1 # its call never came to its end
assert_eq 0 "$(made_by_specs)"
as user
hup '\[access_point otf\] added'
inactive="SourceElement=$L1 SourceAccessPoint=otf SyncType=Clone WaitForCopyState=Inactive"
echo "$inactive" > groups/b/spec
again kill9_lunfs
status $E1 OK
assert_eq Inactive "$(cat groups/b/CopyState)"
again stop_lunfs
status $E1 OK
assert_match " Logins=1" "$(cat elements/$E1/sessions)"
note "it logs in again after a crash and a stop, and a call that crashed leaves nothing"

# ---- SIGHUP: the access point of such an element ----

# stays ERROR: in Error, without a session, in its relationship
stays()
{
	status $E1 Error
	assert_match "$1" "$(cat elements/$E1/error)" "error of $E1"
	wait_until 5 file_has elements/$E1/sessions ""
	assert_eq Inactive "$(cat groups/b/CopyState)"
	must_fail rmdir elements/$E1
}
gone_point='^no longer configured: there is no \[access_point otf\]'
sections < /dev/null | write_conf
hup "element $E1 stays, in Error: no longer configured"
stays "$gone_point"
refused 5 "$missing" 'no \[access_point otf\]' "SourceElement=$L1 SourceAccessPoint=otf SyncType=Clone"
again stop_lunfs
stays "$gone_point"
as user
hup "element $E1 logs in as access point otf is now"
status $E1 OK
moved='^no longer configured: the portal of \[access_point otf\] is now localhost:'
as user "localhost:$TGT_PORT"
hup "element $E1 stays, in Error: no longer configured"
stays "$moved"
refused 6 "Device or resource busy" "would be element \"$E1\"" \
	"SourceElement=$L1 SourceAccessPoint=otf SyncType=Clone"
again stop_lunfs
stays "$moved"
as user
hup "element $E1 logs in as access point otf is now"
status $E1 OK
note "gone or moved: it stays, in Error, until that is taken back"

# Another secret is for a later login, and not forgotten.
as wrong
hup "element $E1 goes on as access point otf was, as it is in a relationship"
status $E1 OK
again stop_lunfs
status $E1 Error
assert_match 'authentication failure' "$(cat elements/$E1/error)"
not_shown "by an element that is refused" --exclude=data # which waits for a login
as user
hup "element $E1 logs in as access point otf is now"
status $E1 OK
echo Activate > groups/b/control
assert_eq Synchronized "$(timeout 20 cat groups/b/wait/Synchronized)"
same 1 1 groups/b/images/b_1
as wrong
hup "element $E1 goes on as access point otf was, as it is in a relationship"
echo $E1 > groups/keep/members
echo ReturnToResourcePool > groups/b/control
hup "element $E1 logs in as access point otf is now"
status $E1 Error
# As a member only, it goes where its access point goes.
as user "localhost:$TGT_PORT"
hup "element $E1 logs in as access point otf is now"
status $E1 OK
assert_eq "iscsi://localhost:$TGT_PORT/$L1" "$(cat elements/$E1/url)"
again stop_lunfs
status $E1 OK
as user "127.0.0.1:$TGT_PORT"
again stop_lunfs
status $E1 OK
assert_eq "iscsi://127.0.0.1:$TGT_PORT/$L1" "$(cat elements/$E1/url)"
echo > groups/keep/members
wait_until 10 gone elements/$E1
note "another secret, and another portal of one that is idle"

# A copy that is under way waits, and goes on.
start_proxy p
as user "127.0.0.1:${proxy_port[p]}"
hup '\[access_point otf\] has changed'
arm p slow bytes_per_second=500000
echo "SourceElement=$L1 SourceAccessPoint=otf SyncType=Clone" > groups/b/spec
wait_until 10 file_matches groups/b/PercentSynced '^[1-9]'
again kill9_lunfs
status $E1 OK
assert_eq Unsynchronized "$(cat groups/b/CopyState)"
sections < /dev/null | write_conf
hup "element $E1 stays, in Error: no longer configured"
assert_eq Unsynchronized "$(cat groups/b/CopyState)"
wait_until 10 file_matches groups/b/waiting_for 'no longer configured'
disarm p slow
as user "127.0.0.1:${proxy_port[p]}"
hup "element $E1 logs in as access point otf is now"
assert_eq Synchronized "$(timeout 20 cat groups/b/wait/Synchronized)"
same 1 1 groups/b/images/b_1
echo ReturnToResourcePool > groups/b/control
wait_until 10 gone elements/$E1
note "a copy goes on after a crash, and waits for its access point"

# One whose copy is kept consistent by a reservation goes when that was given up.
reserved="SourceElement=$L1 SourceAccessPoint=otf SyncType=Clone ReplicationSettingData=reserved"
echo "$reserved WaitForCopyState=Synchronized" > groups/b/spec
assert_eq Consistent "$(cat groups/b/ConsistencyState)"
echo ReturnToResourcePool > groups/b/control
wait_until 10 gone elements/$E1
arm p slow bytes_per_second=500000
echo "$reserved" > groups/b/spec
wait_until 10 file_matches groups/b/PercentSynced '^[1-9]'
arm p stall
echo ReturnToResourcePool > groups/b/control
is_kept "its reservation is not given up"
disarm p stall
disarm p slow
wait_until 10 gone elements/$E1
must_fail grep "removed while its reservation" "$T/lunfs.log"
note "a reservation is given up first"

# ---- SIGHUP: elements of the configuration ----

# A new one is opened with the access points that come with it, not with those before.
as wrong
hup '\[access_point otf\] has changed'
as user "" new0
hup '\[element new0\] added'
status new0 OK
note "a new element logs in as its access point is now"

# What was put off, as its data was open, is done by the next SIGHUP, though nothing has
# changed since the one before.
exec {fd}< elements/new0/data
as wrong "" new0
hup '\[element new0\] has changed and is left as it was, as its data is open'
status new0 OK
exec {fd}<&-
released() { ! grep -q . <(getfattr --only-values -n user.lunfs.handles "$MNT" 2> /dev/null); }
wait_until 10 released
status new0 OK
hup '\[element new0\] taken over'
status new0 Error
assert_match 'authentication failure' "$(cat elements/new0/error)"
as user "" new0
hup '\[element new0\] taken over'
status new0 OK
note "a change that was put off is not forgotten"

# In a relationship: what is logged in goes on, what is not logs in anew.
echo "SourceElement=new0 SyncType=Clone WaitForCopyState=Inactive" > groups/tick/spec
as wrong "" new0
hup '\[element new0\] has changed and is left as it was, as it is in a relationship'
status new0 OK
again stop_lunfs
status new0 Error
as user "" new0
hup '\[element new0\] taken over'
status new0 OK
echo Activate > groups/tick/control
assert_eq Synchronized "$(timeout 20 cat groups/tick/wait/Synchronized)"
note "a secret that was wrong is put right by SIGHUP, in a relationship too"

"$LUNFS" --check -c "$CONF" >> "$T/lunfs.log" 2>&1
not_shown "in the end"
grep -q "unique: .*WRITE" "$T/lunfs.log" || fail "there is no log of requests"
note "no secret is shown"
cd /
stop_lunfs
