#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
#
# Elements: made by mkdir and url or by the configuration, who may write their
# LUNs, CHAP and digests, and what a restart keeps.
. "${top_srcdir:-$(dirname "$0")/..}/tests/lib.sh"
need_lunfs
bd=$top_builddir/tests/bd-tool
probe=$top_builddir/tests/iscsi-probe
for tool in "$bd" "$probe"; do
	[ -x "$tool" ] || skip "$tool is not built"
done

start_tgtd
add_target 1
for lun in 1 2 3 4; do
	fill_random "$(lun_file 1 $lun)" 2M $lun
	add_lun 1 $lun 2M
done
add_target 2 --digest --chap joe joe-secret-123
fill_random "$(lun_file 2 1)" 2M 5
add_lun 2 1 2M
add_target 3 --chap joe joe-secret-123 --mutual target target-secret-123
fill_random "$(lun_file 3 1)" 2M 6
add_lun 3 1 2M
add_target 4 --chap joe joe-secret-123
add_lun 4 1 2M
fill_random "$T/file0" 1M 7

code()
{
	head -n 1 "$1"
}

is_null()
{
	assert_eq "" "$(cat "$1")" "$1"
}

# refused FILE TEXT CODE ERROR WORDS
refused()
{
	local result
	result=$(dirname "$1")/result
	must_refuse "$1" "$2" "$4"
	assert_eq "$3" "$(code "$result")" "$2"
	assert_match "$5" "$(sed -n 2p "$result")" "$2"
}

# foreign_write LUN: another initiator's write, as SCSI answers it.
foreign_write()
{
	"$probe" "$(lun_url 1 "$1")" write:4095:1:90
}

ebusy="Device or resource busy"
einval="Invalid argument"

conf_db0()
{
	cat <<-END
		[element db0]
		url = $(lun_url 1 1)
		access = exclusive
	END
}

write_conf < <(conf_db0)
start_lunfs
cd "$MNT"

# ---- mkdir and url ----

mkdir elements/new
E=elements/new
assert_eq Dormant "$(cat $E/OperationalStatus)"
assert_eq shared "$(cat $E/access)"
for f in url size block_size vendor product revision serial wwn thin sessions error groups; do
	is_null $E/$f
done
while IFS='|' read -r url words; do
	refused $E/url "$url" "5 Invalid Parameter" "$einval" "$words"
	is_null $E/url
done <<-END
	nonsense|iscsi://.*file://
	http://127.0.0.1/|iscsi://
	iscsi://127.0.0.1/|.
	iscsi://127.0.0.1/$IQN:t1|.
	iscsi://127.0.0.1/$IQN:t1/x|.
	iscsi://127.0.0.1:99999/$IQN:t1/1|.
	file://relative/path|.
	file://$MNT/elements/db0/data|.
END
must_refuse $E/url "iscsi://joe%joe-secret-123@127.0.0.1:$TGT_PORT/$IQN:t2/1" "$einval"
! grep -q secret $E/result || fail "a secret is shown: $(cat $E/result)"
assert_eq Dormant "$(cat $E/OperationalStatus)"
lun_url 1 2 > $E/url
assert_eq "0 Completed with No Error" "$(code $E/result)"
wait_until 10 file_has $E/OperationalStatus OK
assert_eq "$(lun_url 1 2)" "$(cat $E/url)"
assert_eq $((2 << 20)) "$(cat $E/size)"
assert_eq 512 "$(cat $E/block_size)"
assert_eq IET "$(cat $E/vendor)"
assert_eq VIRTUAL-DISK "$(cat $E/product)"
assert_match . "$(cat $E/serial)" serial
wait_until 5 file_matches $E/sessions "127.0.0.1:$TGT_PORT"
cmp "$(lun_file 1 2)" $E/data
refused $E/url "$(lun_url 1 3)" "6 In Use" "$ebusy" "written once"
mkdir elements/f
echo "file://$T/file0" > elements/f/url
wait_until 10 file_has elements/f/OperationalStatus OK
cmp "$T/file0" elements/f/data
note "mkdir and url; URLs that are none"

must_fail mkdir elements/.x
assert_match "$einval" "$OUTPUT"
must_fail mkdir "elements/$(printf 'x%.0s' {1..41})"
assert_match "File name too long" "$OUTPUT"
must_fail mkdir elements/new
assert_match "File exists" "$OUTPUT"
must_fail rmdir elements/db0
assert_match "Operation not permitted" "$OUTPUT" "rmdir of a configured element"
exec 5< elements/f/data
must_fail rmdir elements/f
assert_match "$ebusy" "$OUTPUT" "rmdir of an open element"
exec 5<&-
mkdir groups/g
echo f > groups/g/members
must_fail rmdir elements/f
assert_match "$ebusy" "$OUTPUT" "rmdir of a member"
rmdir groups/g elements/f
note "rmdir"

# ---- access ----

wait_until 10 file_has elements/db0/access "exclusive (reserved)"
assert_match "status=24" "$(foreign_write 1)" "a foreign write to a reserved LUN"
fill_random "$T/lun1" 2M 1
cmp "$T/lun1" "$(lun_file 1 1)"
assert_match "status=0" "$(foreign_write 2)" "a foreign write to a shared LUN"
refused $E/access nonsense "5 Invalid Parameter" "$einval" '"nonsense"'
echo exclusive > $E/access
wait_until 10 file_has $E/access "exclusive (reserved)"
assert_match "status=24" "$(foreign_write 2)" "a foreign write to a LUN made exclusive"
echo shared > $E/access
assert_eq shared "$(cat $E/access)"
free_again()
{
	foreign_write "$1" | grep status=0
}
wait_until 10 free_again 2
wait_until 10 file_has $E/OperationalStatus OK
must_fail put elements/db0/access shared
assert_match "Operation not permitted" "$OUTPUT" "access of a configured element"

# Another host's registration.
"$bd" -k 0x4711 -K info "$(lun_url 1 3)" > /dev/null
mkdir elements/theirs
echo exclusive > elements/theirs/access
lun_url 1 3 > elements/theirs/url
wait_until 10 file_has elements/theirs/OperationalStatus Error
assert_match "another host has registered" "$(cat elements/theirs/error)" error
rmdir elements/theirs
"$bd" -k 0x4711 info "$(lun_url 1 3)" > /dev/null
note "exclusive: reserved, foreign writes refused; a foreign registration: Error"

# ---- a clean stop ----

echo exclusive > $E/access
wait_until 10 file_has $E/access "exclusive (reserved)"
mkdir groups/rel
echo "SourceElement=new SyncType=Clone WaitForCopyState=Synchronized" > groups/rel/spec
refused $E/access shared "6 In Use" "$ebusy" relationship
must_fail rmdir elements/new
assert_match "$ebusy" "$OUTPUT"
inodes()
{
	(cd "$MNT" && stat -c '%n %i' . elements elements/{db0,new,rel_1} \
		elements/{db0,new,rel_1}/{data,url,size} groups/rel groups/rel/{spec,CopyState,images} \
		groups/rel/images/rel_1 groups/rel/pairs/1 jobs pools/pool0)
}
inodes > "$T/inodes"
cd "$T"
timeout 60 "$LUNFS" --stop "$MNT" > "$T/stop.out" 2>&1
assert_match "stays reserved: new" "$(cat "$T/stop.out")" "--stop"
! grep -q db0 "$T/stop.out" || fail "--stop: $(cat "$T/stop.out")"
assert_match "status=24" "$(foreign_write 2)" "a LUN in a relationship, after the stop"
assert_match "status=0" "$(foreign_write 1)" "another LUN, after the stop"
start_lunfs
wait_until 10 file_has "$MNT/elements/db0/access" "exclusive (reserved)"
wait_until 10 file_has "$MNT/elements/new/access" "exclusive (reserved)"
assert_match "status=24" "$(foreign_write 1)" "after the restart"
inodes > "$T/inodes2"
cmp "$T/inodes" "$T/inodes2" || fail "$(diff "$T/inodes" "$T/inodes2")"
note "a stop releases what is in no relationship and names the rest; inode numbers last"

# ---- a configured element that vanishes, and names that clash ----

mkdir "$MNT/groups/rel2"
echo "SourceElement=db0 SyncType=Clone WaitForCopyState=Synchronized" > "$MNT/groups/rel2/spec"
stop_lunfs
write_conf < /dev/null
start_lunfs
assert_eq Error "$(cat "$MNT/elements/db0/OperationalStatus")"
assert_match "no longer configured" "$(cat "$MNT/elements/db0/error")" error
assert_eq Synchronized "$(cat "$MNT/groups/rel2/CopyState")"
cmp "$(lun_file 1 1)" "$MNT/groups/rel2/images/rel2_1"
mkdir "$MNT/groups/rel3"
must_refuse "$MNT/groups/rel3/spec" "SourceElement=db0 SyncType=Clone" "Input/output error"
assert_match "db0.*no longer configured" "$(sed -n 2p "$MNT/groups/rel3/result")"
stop_lunfs
{
	conf_db0
	printf '[element new]\nurl = %s\n' "$(lun_url 1 4)"
} > "$T/elements"
write_conf < "$T/elements"
must_fail start_lunfs
assert_eq 1 "$RC" "exit code with a name twice"
assert_match 'element "new".*mkdir elements/' "$(tail -n 3 "$T/lunfs.log")" "the message"
assert_match "lunfs.conf:[0-9]+:" "$(tail -n 3 "$T/lunfs.log")" "the message names the line"
! mountpoint -q "$MNT" || fail "mounted in spite of it"
write_conf < <(conf_db0)
start_lunfs
wait_until 10 file_has "$MNT/elements/db0/OperationalStatus" OK
is_null "$MNT/elements/db0/error"
for g in rel rel2; do
	echo ReturnToResourcePool > "$MNT/groups/$g/control"
	rmdir "$MNT/groups/$g"
done
stop_lunfs
write_conf < /dev/null
start_lunfs
[ ! -e "$MNT/elements/db0" ] || fail "an unused element stays without its section"
stop_lunfs
note "a section that went: no longer configured; a name twice: no start"

# ---- CHAP and digests ----

(
	umask 077
	echo joe-secret-123 > "$T/joe"
	echo joe-wrong-12345 > "$T/wrong"
	echo target-secret-123 > "$T/target"
)
echo joe-secret-123 > "$T/readable"
chmod 644 "$T/readable"
# conf_chap FILE
conf_chap()
{
	cat <<-END
		[access_point chap]
		portal = 127.0.0.1:$TGT_PORT
		user = joe
		password_file = $1
		header_digest = yes

		[access_point both]
		portal = 127.0.0.1:$TGT_PORT
		user = joe
		password_file = $1
		target_user = target
		target_password_file = $T/target

		[element one]
		access_point = chap
		target = $IQN:t2
		lun = 1

		[element two]
		access_point = both
		target = $IQN:t3
		lun = 1

		[element undigested]
		access_point = chap
		target = $IQN:t4
		lun = 1
	END
}
write_conf < <(conf_chap "$T/readable")
must_fail "$LUNFS" --check -c "$CONF"
assert_match "readable" "$OUTPUT" "a password file that others may read"
write_conf < <(conf_chap "$T/joe")
start_lunfs
for e in one two; do
	wait_until 10 file_has "$MNT/elements/$e/OperationalStatus" OK
done
cmp "$(lun_file 2 1)" "$MNT/elements/one/data"
cmp "$(lun_file 3 1)" "$MNT/elements/two/data"
assert_match "CRC32C" "$(tr a-z A-Z < "$MNT/elements/one/sessions")" "header digest"

wait_until 10 file_has "$MNT/elements/undigested/OperationalStatus" Error
assert_match "header_digest" "$(cat "$MNT/elements/undigested/error")" "a target without digests"

# no_secret WORD: neither in the tree, the log, the arguments nor the state.
no_secret()
{
	local found
	found=$(grep -rlF --exclude-dir=wait --exclude=data --exclude-dir=images \
		-e "$1" "$MNT" "$STATE" "$T/lunfs.log" "$CONF" || :)
	[ -z "$found" ] || fail "the secret stands in $found"
	! tr '\0' '\n' < "/proc/$lunfs_pid/cmdline" | grep -F -- "$1" || fail "the secret is an argument"
	! tr '\0' '\n' < "/proc/$lunfs_pid/environ" | grep -F -- "$1" || fail "the secret is in the environment"
}
no_secret joe-secret-123
no_secret target-secret-123
stop_lunfs
write_conf < <(conf_chap "$T/wrong")
start_lunfs
started=$SECONDS
for e in one two; do
	wait_until 10 file_has "$MNT/elements/$e/OperationalStatus" Error
	assert_match "authentication" "$(cat "$MNT/elements/$e/error")" "error of $e"
done
[ $((SECONDS - started)) -le 10 ] || fail "a wrong secret was told after $((SECONDS - started)) s"
mkdir "$MNT/groups/g"
must_refuse "$MNT/groups/g/spec" "SourceElement=one SyncType=Clone" "Input/output error"
assert_match "one.*authentication" "$(sed -n 2p "$MNT/groups/g/result")" "the spec of an element without a login"
no_secret joe-wrong-12345
note "CHAP, mutual CHAP, header digest; a wrong secret: Error, and no secret shown"
