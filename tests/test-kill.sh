#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
#
# The daemon is killed again and again, in mid-copy and in the middle of calls.
# What it has said stands, what it has copied it does not copy again, and no map
# file speaks of data that is not in the image.
#
# LUNFS_TEST_ROUNDS	how often it is killed while it copies (default 8)
# LUNFS_TEST_SEED	repeats a run, as far as time allows
. "${top_srcdir:-$(dirname "$0")/..}/tests/lib.sh"
need_lunfs
need_cmd python3

rounds=${LUNFS_TEST_ROUNDS:-8}
seed=${LUNFS_TEST_SEED:-$RANDOM}
note "LUNFS_TEST_SEED=$seed LUNFS_TEST_ROUNDS=$rounds"
RANDOM=$seed

mib=$((1 << 20))
total=$((96 * mib))
rate=$((3 * mib / 4))	# bytes a second from each LUN
window=$((4 * mib))	# what the copier of one image reads at a time (copier.c)
start_tgtd
add_target 1
fill_random "$T/lun-1-1" 48M 1
add_lun 1 1 48M
fill_random "$T/lun-1-2" 48M 2
dd if=/dev/zero of="$T/lun-1-2" bs=64K seek=5 count=7 conv=notrunc status=none
add_lun 1 2 48M
for f in a b; do
	fill_random "$T/$f" 512K "$f"
done
start_proxy p
start_proxy q	# of its own: they are not to starve each other
write_conf <<-END
	[element db0]
	url = $(lun_url 1 1 "${proxy_port[p]}")
	access = exclusive
	[element log0]
	url = $(lun_url 1 2 "${proxy_port[q]}")
	access = exclusive
	[element a]
	url = file://$T/a
	access = exclusive
	[element b]
	url = file://$T/b
	access = exclusive
END

# tree: what a restart must not change.
tree()
{
	(
	cd "$MNT"
	find groups elements jobs pools ! -path '*/pairs/*/target' -printf '%y %p %l\n' | sort
	stat -c '%i %s %n' groups/*/images/*_* elements/*/data
	cd groups
	head -n 100 */{spec,members,Persistent,DeleteOnEmptyElement,DeleteOnUnassociated} \
		*/{RelationshipName,SyncType,Mode,CopyState,Consistency,ConsistencyState} \
		*/{CopyPriority,CopyRecoveryMode,WhenEstablished,WhenSynced,WhenSynchronized} \
		*/pairs/*/{CopyState,SyncState,CopyType,ReplicaType,bytes_total,WhenSynced,error} \
		../jobs/*/{Name,JobState,StartTime,DeleteOnCompletion} \
		../elements/*/{url,access,size,serial,wwn} 2>&1
	)
}

# check_map ID SOURCE: each chunk whose bit is set is in the image (invariant
# I2); prints the number of bytes whose bits are set.
check_map()
{
	[ -e "$POOL/e$1.map" ] || { stat -c %s "$2"; return; }
	python3 - "$POOL/e$1" "$2" <<-'END'
	import sys
	CHUNK, PAGES = 65536, 8192
	bits = open(sys.argv[1] + ".map", "rb").read()[PAGES:]
	raw, source = open(sys.argv[1] + ".raw", "rb"), open(sys.argv[2], "rb")
	present, chunk = 0, 0
	while want := source.read(CHUNK):
	    have = raw.read(CHUNK)
	    if chunk // 8 < len(bits) and bits[chunk // 8] >> chunk % 8 & 1:
	        if have != want:
	            sys.exit("%s: the bit of chunk %d is set, its data is not there" % (sys.argv[1], chunk))
	        present += len(want)
	    chunk += 1
	print(present)
	END
}

# check_maps: of both images; their sum in $present.
check_maps()
{
	local one two
	one=$(check_map "$id1" "$T/lun-1-1")
	two=$(check_map "$id2" "$T/lun-1-2")
	present=$((one + two))
}

# check_store: it is sound, and its images are those of the pool.
check_store()
{
	python3 - "$STATE/lunfs.db" "$POOL" <<-'END'
	import os, re, sqlite3, sys
	db = sqlite3.connect(sys.argv[1])
	assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
	assert db.execute("PRAGMA foreign_key_check").fetchall() == []
	rows = {r[0] for r in db.execute("SELECT id FROM element WHERE pool <> ''")}
	files = {int(m[1]) for f in os.listdir(sys.argv[2]) if (m := re.match(r"e(\d+)\.(raw|map)$", f))}
	assert files == rows, "images in the store %s, in the pool %s" % (sorted(rows), sorted(files))
	END
}

# bytes_read: from the target, by all lives so far.
bytes_read()
{
	echo $(($(proxy_count p read_bytes) + $(proxy_count q read_bytes)))
}

has_percent()
{
	[ "$(cat "$MNT/groups/nightly/PercentSynced")" -ge "$1" ]
}

start_lunfs
mkdir "$MNT/groups/prod" "$MNT/groups/nightly"
echo "db0 log0" > "$MNT/groups/prod/members"
arm p slow bytes_per_second=$rate
arm q slow bytes_per_second=$rate
echo "SourceGroup=prod SyncType=Clone" > "$MNT/groups/nightly/spec"
ids=$(find "$POOL" -name 'e*.raw' -printf '%f\n' | tr -dc '0-9\n' | sort -n)
id1=${ids%%$'\n'*}
id2=${ids##*$'\n'}
before=$(tree)

note "a second daemon on the same state_dir, on the same pool"
mkdir "$T/mnt2" "$T/state2"
must_fail timeout 20 "$LUNFS" -c "$CONF" "$T/mnt2"
assert_match 'state' "$OUTPUT"
sed "s|^state_dir = .*|state_dir = $T/state2|" "$CONF" > "$T/conf2"
must_fail timeout 20 "$LUNFS" -c "$T/conf2" "$T/mnt2"
assert_match 'pool0?' "$OUTPUT"
must_fail mountpoint -q "$T/mnt2"
present=0

# has_come BYTES: the maps speak of as many, on disk.
has_come()
{
	check_maps
	[ "$present" -ge "$1" ]
}

# The last life is long enough for a checkpoint; those before need not be.
for ((round = 1; round <= rounds; round++)); do
	if [ "$round" -lt "$rounds" ]; then
		read -rt "$(printf '%d.%03d' $((RANDOM % 2)) $((RANDOM % 1000)))" -u "$never_fd" || :
	else
		wait_until 60 has_come $((present + 4 * mib))
	fi
	kill9_lunfs
	must_fail stat "$MNT/groups"
	had=$present
	check_maps
	[ "$present" -ge "$had" ] || fail "round $round: $present bytes in the maps, $had before"
	from=$SECONDS
	start_lunfs
	[ $((SECONDS - from)) -le 10 ] || fail "the start took $((SECONDS - from)) s"
	for e in db0 log0; do
		wait_until 10 test -s "$MNT/elements/$e/serial"
	done
	tree > "$T/tree"
	[ "$before" = "$(cat "$T/tree")" ] ||
		fail "round $round: the tree is another: $(diff <(echo "$before") "$T/tree")"
	check_store
done
reads=$(bytes_read)
note "killed $rounds times: $((present / mib)) of $((total / mib)) MiB there, $((reads / mib)) MiB read"
[ "$present" -ge $((4 * mib)) ] || fail "no progress survives"

note "stopped and started in mid-copy"
term_lunfs()
{
	kill -TERM "$lunfs_pid"
	wait_until 20 ended "$lunfs_pid"
	must_fail mountpoint -q "$MNT"
}
for how in term_lunfs stop_lunfs; do
	percent=$(cat "$MNT/groups/nightly/PercentSynced")
	"$how"
	check_maps
	[ $((present * 100 / total)) -ge "$percent" ] ||
		fail "$how: $percent %% were there, $present bytes are left"
	start_lunfs
	has_percent "$percent" || fail "after $how: less than $percent %%"
	wait_until 20 has_percent $((percent + 2))
done
note "killed once more; what is left is read, and nothing else"
kill9_lunfs
check_maps
reads=$(bytes_read)
disarm p slow
disarm q slow
start_lunfs
assert_eq Synchronized "$(timeout 60 cat "$MNT/groups/nightly/wait/Synchronized")"
last=$(($(bytes_read) - reads))
[ "$last" -le $((total - present + 2 * mib)) ] ||
	fail "$last bytes were read, $((total - present)) were missing"
all=$(bytes_read)
note "$((all / mib)) MiB were read in all lives together, for $((total / mib)) MiB"
# A life that is killed loses what was under way and what came since the last
# checkpoint, one a second; those that were stopped lose what was under way.
lost=$((rounds * 2 * (window + 2 * rate) + 3 * 2 * window))
[ "$all" -le $((total + lost)) ] || fail "$all bytes were read for $total"
cmp "$MNT/groups/nightly/images/nightly_1" "$T/lun-1-1"
cmp "$MNT/groups/nightly/images/nightly_2" "$T/lun-1-2"
echo Detach > "$MNT/groups/nightly/control"
kill9_lunfs
cmp "$POOL/e$id1.raw" "$T/lun-1-1"
cmp "$POOL/e$id2.raw" "$T/lun-1-2"
start_lunfs
assert_eq "Not Applicable" "$(cat "$MNT/groups/nightly/CopyState")"
cmp "$MNT/elements/nightly_1/data" "$T/lun-1-1"

note "killed in a burst of calls: each is wholly there or not at all"
mkdir "$MNT/groups/small"
echo "a b" > "$MNT/groups/small/members"
burst()
{
	local i
	set +e
	trap - ERR
	for ((i = 0; ; i++)); do
		mkdir "$MNT/groups/g$1-$i" || return
		echo "SourceGroup=small SyncType=Clone" > "$MNT/groups/g$1-$i/spec" || return
		echo "g$1-$i" >> "$T/accepted"
		[ $((i % 3)) -ne 2 ] || echo ReturnToResourcePool > "$MNT/groups/g$1-$i/control" || return
	done 2> /dev/null
}
: > "$T/accepted"
for round in 1 2; do
	run_in_background burst "$round"
	wait_until 10 grep -q "g$round-2" "$T/accepted"
	read -rt "0.$((RANDOM % 900 + 100))" -u "$never_fd" || :
	kill9_lunfs
	wait_until 10 ended "$background_pid"
	start_lunfs
	check_store
	for g in "$MNT"/groups/g*; do
		case $(cat "$g/CopyState") in
		"Not Applicable")
			assert_eq "" "$(cat "$g/spec" "$g/members")$(ls "$g/images" "$g/pairs" | grep -v ':$' || :)" "$g"
			;;
		*)
			assert_eq 2 "$(wc -l < "$g/members")" "members of $g"
			assert_eq Synchronized "$(timeout 20 cat "$g/wait/Synchronized")" "$g"
			cmp "$g/pairs/1/target/data" "$T/a"
			cmp "$g/pairs/2/target/data" "$T/b"
			;;
		esac
	done
	# What was answered stands; every third was given back after it.
	while IFS=- read -r g i; do
		[ $((i % 3)) -eq 2 ] && continue
		assert_eq Synchronized "$(cat "$MNT/groups/$g-$i/CopyState")" "$g-$i, which was accepted"
	done < "$T/accepted"
done
note "$(wc -l < "$T/accepted") calls"
stop_lunfs
