#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
#
# Writes while targets end and come back, connections are cut, and the daemon is killed:
# nothing that was acknowledged is lost, overlapping writes keep their order, what was
# fsynced is there.  Repeat one with LUNFS_TEST_SEED.
. "${top_srcdir:-$(dirname "$0")/..}/tests/lib.sh"
need_lunfs
STORM=$top_builddir/tests/aio-storm
[ -x "$STORM" ] || skip "$STORM is not built"

LUNFS_TEST_SEED=${LUNFS_TEST_SEED:-$RANDOM}
note "seed $LUNFS_TEST_SEED"
RANDOM=$LUNFS_TEST_SEED
start_tgtd
add_target 1
fill_random "$(lun_file 1 1)" 8M 1
cp "$(lun_file 1 1)" "$T/before"
add_lun 1 1 8M
add_lun 1 2 8M
start_proxy p
write_conf <<-END
	[element db0]
	url = $(lun_url 1 1)
	access = exclusive
	[element log0]
	url = $(lun_url 1 2 "${proxy_port[p]}")
	access = exclusive
END

start()
{
	start_lunfs
	wait_until 10 file_has "$MNT/elements/db0/OperationalStatus" OK
	wait_until 10 file_has "$MNT/elements/log0/OperationalStatus" OK
}

# storm NAME FILE SECONDS
storm()
{
	run_in_background "$STORM" write "$2" "$3" "$RANDOM" "$T/$1.storm" > "$T/$1.out"
	storms[$1]=$background_pid
}
declare -A storms

# calm NAME: it has ended, without an error.
calm()
{
	wait "${storms[$1]}" || fail "$1: $(cat "$T/$1.out")"
	note "$1: $(tail -n 1 "$T/$1.out")"
	assert_match ', no error$' "$(cat "$T/$1.out")"
}

# check NAME FILE HOW
check()
{
	"$STORM" check "$2" "$T/$1.storm" "$3" > "$T/check.out" || fail "$1: the bytes are wrong"
}

start
mkdir "$MNT/groups/snap" "$MNT/groups/copy" "$MNT/groups/still"
echo "SourceElement=db0 SyncType=Snapshot" > "$MNT/groups/snap/spec"
echo "SourceElement=db0 SyncType=Snapshot" > "$MNT/groups/still/spec"
echo "SourceElement=db0 SyncType=Clone" > "$MNT/groups/copy/spec"
snap=$MNT/groups/snap/images/snap_1
copy=$MNT/groups/copy/images/copy_1
still=$MNT/groups/still/images/still_1

note "the target ends and comes back, connections are cut"
arm p cut count=0 rate=1
storm db0 "$MNT/elements/db0/data" 6
storm log0 "$MNT/elements/log0/data" 6
storm snap "$snap" 6
for n in 1 2 3; do
	# Between two restarts something is written.
	before=$(cat "$MNT"/elements/*/sessions | grep -o 'Logins=[0-9]*')
	restart_tgtd
	logged_in()
	{
		[ "$before" != "$(cat "$MNT"/elements/*/sessions | grep -o 'Logins=[0-9]*')" ]
	}
	ended "${storms[db0]}" || wait_until 20 logged_in
done
calm db0
calm log0
calm snap
disarm p cut
check db0 "$MNT/elements/db0/data" acknowledged
check log0 "$MNT/elements/log0/data" acknowledged
check snap "$snap" acknowledged
sync -f "$MNT/elements/db0/data"
"$STORM" check "$(lun_file 1 1)" "$T/db0.storm" acknowledged
"$STORM" check "$(lun_file 1 2)" "$T/log0.storm" acknowledged
cmp "$still" "$T/before"
cmp "$copy" "$T/before"
cmp "$snap" "$T/before" $((1 << 20)) $((1 << 20))

note "the daemon is killed"
for round in 1 2 3; do
	# The writes of the last round are not to be taken for those of this one.
	for file in "$MNT/elements/db0/data" "$snap" "$copy"; do
		dd if=/dev/zero of="$file" bs=1M count=1 conv=notrunc,fsync status=none
	done
	storm db0 "$MNT/elements/db0/data" 30
	storm snap "$snap" 30
	storm copy "$copy" 30
	for name in db0 snap copy; do
		wait_until 20 grep -q begun "$T/$name.out"
	done
	read -rt "0.$((RANDOM % 7))$((RANDOM % 10))" -u "$never_fd" || :
	kill9_lunfs
	for name in db0 snap copy; do
		wait "${storms[$name]}" || fail "$name: $(cat "$T/$name.out")"
		note "$round $name: $(tail -n 1 "$T/$name.out")"
	done
	start
	check db0 "$MNT/elements/db0/data" synced
	check snap "$snap" synced
	check copy "$copy" synced
	cmp "$still" "$T/before"
	cmp "$snap" "$T/before" $((1 << 20)) $((1 << 20))
	cmp "$copy" "$T/before" $((1 << 20)) $((1 << 20))
done
stop_lunfs
