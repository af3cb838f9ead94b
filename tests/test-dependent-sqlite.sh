#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
#
# A real application over two LUNs: SQLite with two databases, each in an ext4 of its
# own, and transactions that change both.  Each group snapshot taken meanwhile mounts
# (its journal is replayed), is clean for e2fsck, and both databases are sound and agree.
#
# LUNFS_TEST_SNAPSHOTS	how many (10)
. "${top_srcdir:-$(dirname "$0")/..}/tests/lib.sh"
. "$top_srcdir/tests/replica.sh"
need_lunfs
need_loop
need_cmd sqlite3 mke2fs e2fsck unshare python3
unshare -m true 2> "$T/err" || skip "there are no mount namespaces: $(cat "$T/err")"

snapshots=${LUNFS_TEST_SNAPSHOTS:-10}

start_tgtd
add_target 1
add_lun 1 1 32M
add_target 2
add_lun 2 1 32M
for lun in 1 2; do
	mke2fs -q -t ext4 -F "$(lun_file $lun 1)"
done
write_conf <<-END
	[element db0]
	url = $(lun_url 1 1)
	access = exclusive
	[element log0]
	url = $(lun_url 2 1)
	access = exclusive
END
start_lunfs
need_snapshot db0
wait_until 20 test -s "$MNT/elements/log0/size"
mkdir "$MNT/groups/src" "$T/a" "$T/b"
echo "db0 log0" > "$MNT/groups/src/members"
mount -t ext4 "$(losetup -f --show "$MNT/elements/db0/data")" "$T/a"
mount -t ext4 "$(losetup -f --show "$MNT/elements/log0/data")" "$T/b"

# A journal, not a WAL: only so is a transaction over two files one (with a
# super-journal, which stands beside the first).  EXTRA: the unlink is synced.
cat > "$T/writer.py" <<'END'
import sqlite3, sys
a, b, ack = sys.argv[1:]
db = sqlite3.connect(a + "/db", isolation_level=None)
db.execute("ATTACH ? AS other", (b + "/db",))
for schema in "main", "other":
    db.execute("PRAGMA %s.journal_mode=DELETE" % schema)
    db.execute("PRAGMA %s.synchronous=EXTRA" % schema)
    db.execute("CREATE TABLE IF NOT EXISTS %s.t(n INTEGER PRIMARY KEY, data)" % schema)
n = 0
while True:
    n += 1
    db.execute("BEGIN")
    db.execute("INSERT INTO main.t VALUES(?, randomblob(2000))", (n,))
    db.execute("INSERT INTO other.t VALUES(?, randomblob(5000))", (n,))
    db.execute("DELETE FROM main.t WHERE n < ?", (n - 100,))
    db.execute("DELETE FROM other.t WHERE n < ?", (n - 100,))
    db.execute("COMMIT")
    with open(ack, "r+") as f:
        f.write("%019d\n" % n)
END

# check_snapshot NAME: mounted where the writer has its file systems (the journals name
# each other by their paths), in a mount namespace of its own.
check_snapshot()
{
	local paths
	mapfile -t paths < <(images "$1")
	cat > "$T/check.sh" <<-'END'
		set -eu
		for i in 1 2; do
			loop=$(losetup -f --show "$1")
			at=$2
			shift 2
			umount "$at"
			mount -t ext4 "$loop" "$at"
			loops[i]=$loop
			ats[i]=$at
		done
		sqlite3 "${ats[1]}/db" "ATTACH '${ats[2]}/db' AS other;
			SELECT count(*), max(n) FROM main.t; SELECT count(*), max(n) FROM other.t;
			PRAGMA main.integrity_check; PRAGMA other.integrity_check;" || rc=$?
		umount "${ats[1]}" "${ats[2]}"
		for i in 1 2; do
			e2fsck -fn "${loops[i]}" > "$T/e2fsck" 2>&1 || { cat "$T/e2fsck"; rc=1; }
			losetup -d "${loops[i]}"
		done
		exit "${rc:-0}"
	END
	answer=$(unshare -m env "T=$T" bash "$T/check.sh" "${paths[0]}" "$T/a" "${paths[1]}" "$T/b" 2>&1 |
		paste -sd' ') || fail "$1: $answer"
	[[ $answer =~ ^([0-9]+\|([0-9]+))\ ([0-9]+\|[0-9]+)\ ok\ ok$ ]] || fail "$1: $answer"
	assert_eq "${BASH_REMATCH[1]}" "${BASH_REMATCH[3]}" "$1: the two databases"
	number=${BASH_REMATCH[2]}
}

echo > "$T/ack"
run_in_background python3 "$T/writer.py" "$T/a" "$T/b" "$T/ack"
last=0
for ((s = 1; s <= snapshots; s++)); do
	wait_until 60 has_passed "$T/ack" "$last"
	acked=$(ack_of "$T/ack" 0)
	take "s$s" SourceGroup=src SyncType=Snapshot
	check_snapshot "s$s"
	[ "$number" -ge "$acked" ] ||
		fail "s$s has $number, $acked was acknowledged before it was taken"
	last=$number
	drop "s$s"
done
ended "$background_pid" && fail "the writer has ended"
note "$snapshots snapshots, $last transactions"
kill -KILL "$background_pid"
wait_until 10 ended "$background_pid"
umount "$T/a" "$T/b"
while read -r loop; do
	losetup -d "$loop"
done < <(losetup -nO NAME,BACK-FILE | awk -v mnt="$MNT/" 'index($2, mnt) == 1 { print $1 }')
stop_lunfs
