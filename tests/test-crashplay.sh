#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
#
# crashplay finds what is wrong, and only that: programs that sync in the right order
# pass at every point, those that do not are found; SQLite keeps each transaction that
# it has acknowledged, and with synchronous=OFF it is found that it does not.
#
# LUNFS_TEST_SEED	repeats a run	LUNFS_TEST_ROUNDS	crashes a program (60)
. "${top_srcdir:-$(dirname "$0")/..}/tests/lib.sh"
. "$top_srcdir/tests/crash.sh"
need_crash_tools

toy=$top_builddir/tests/crashtoy
rounds=${LUNFS_TEST_ROUNDS:-60}
seed=${LUNFS_TEST_SEED:-$RANDOM}
note "LUNFS_TEST_SEED=$seed LUNFS_TEST_ROUNDS=$rounds"
RANDOM=$seed

# record CMD...: under the shim, in $T/dir, which is empty.
record()
{
	rm -rf "$T/dir"
	mkdir "$T/dir"
	crash_begin "$T/dir"
	"${recorder[@]}" "$@"
	crash_list
}

# holds N CHECK WORD [options]: after a crash behind record N, rebuilt with these
# options, `CHECK crash.out/dir` succeeds, and prints ($have) no less than the last mark
# WORD; $what says what was tried.
holds()
{
	local check=$2 word=$3
	n=$1
	shift 3
	crash_rebuild "$n" "$@"
	what="at $n, $*"
	have=$("$check" "$crash_out/dir") || { what+=": $have"; return 1; }
	what+=": $have of $(last_mark "$n" "$word") acknowledged"
	[ "$have" -ge "$(last_mark "$n" "$word")" ]
}

# survives CHECK WORD [options]: it holds at many points in all modes.
survives()
{
	local check=$1 word=$2 n i=0 modes=(none all random random random)
	shift 2
	while read -r n; do
		i=$((i + 1))
		holds "$n" "$check" "$word" --seed $((seed + i)) --mode "${modes[i % 5]}" "$@" ||
			fail "$what"
	done < <(crash_points "$rounds")
}

# is_found CHECK WORD [options]: within four times as many tries it does not hold.
is_found()
{
	local check=$1 word=$2 i=0
	shift 2
	while read -r n; do
		i=$((i + 1))
		if ! holds "$n" "$check" "$word" --seed $((seed + i)) "$@"; then
			note "found in try $i: $what"
			return
		fi
	done < <(crash_points $((4 * rounds)))
	fail "$((4 * rounds)) crashes found nothing wrong"
}

check_map() { "$toy" check-map "$1"; }
check_replace() { "$toy" check-replace "$1"; }

note "data, sync, bit, sync"
record "$toy" map "$T/dir" good 20
for model in ext4 posix; do
	survives check_map map --fs $model
	survives check_map map --fs $model --torn
done
holds "$crash_end" check_map map --mode none
note "data and bit, sync, sync"
record "$toy" map "$T/dir" bad 20
is_found check_map map
is_found check_map map --fs posix --torn

note "what is not synced can be lost, or not"
# Not by echo: the C library's own calls do not pass the shim.
record bash -c "cd '$T/dir'; dd if='$toy' of=a bs=1K count=9; sync a .; dd if='$toy' of=b bs=1K count=9" \
	2> "$T/err"
crash_rebuild "$crash_end" --mode none
assert_eq a "$(ls "$crash_out/dir")" "mode none"
cmp "$T/dir/a" "$crash_out/dir/a"
crash_rebuild "$crash_end" --mode all
diff -r "$T/dir" "$crash_out/dir"
declare -A seen=()
for ((i = 0; i < 100; i++)); do
	crash_rebuild "$crash_end" --seed $((seed + i))
	cmp "$T/dir/a" "$crash_out/dir/a"
	[ -e "$crash_out/dir/b" ] || { seen[no name]=1; continue; }
	case $(stat -c %s "$crash_out/dir/b") in
	0) seen[no data]=1 ;;
	9216) seen[size]=1 ;;
	*) seen[part]=1 ;;
	esac
done
assert_eq 4 "${#seen[@]}" "kinds of loss (${!seen[*]})"

note "a file that is replaced: data, sync, rename, sync of the directory"
record "$toy" replace "$T/dir" good 20
for model in ext4 posix; do
	survives check_replace replace --fs $model
done
holds "$crash_end" check_replace replace --mode none
assert_eq 20 "$have"
note "without the last sync: the rename is lost, but the old file is whole"
record "$toy" replace "$T/dir" no-dir-sync 20
is_found check_replace replace
holds "$crash_end" check_replace nothing --mode none
[ "$have" -lt 20 ] || fail "the last rename is there"
for model in ext4 posix; do
	survives check_replace nothing --fs $model
done
note "without the first: a name without its data"
record "$toy" replace "$T/dir" no-data-sync 20
is_found check_replace nothing

note "what belongs to a machine that does not lose power is all there"
record "$toy" map "$T/dir" bad 20
survives check_map map --durable dir
survives check_map map --durable "$T/dir"
must_fail crash_rebuild 5 --durable other
assert_match "no such directory" "$OUTPUT"

note "a file of 64 MiB, thousands of records: rebuilding takes what changed"
record python3 - "$T/dir" <<-'END'
	import os, random, sys
	random.seed(1)
	fd = os.open(sys.argv[1] + "/big", os.O_RDWR | os.O_CREAT)
	os.ftruncate(fd, 64 << 20)
	for i in range(5000):
	    os.pwrite(fd, bytes([i % 255 + 1]) * 4096, random.randrange(1 << 14) << 12)
	    if i % 100 == 0:
	        os.fdatasync(fd)
END
TIMEFORMAT="%U %S"
{ time for ((i = 0; i < 10; i++)); do
	crash_rebuild "$crash_end" --seed $i
done; } 2> "$T/time"
took=$(awk '{ print int(($1 + $2) * 100) }' "$T/time")
note "$took ms of CPU each"
[ "$took" -le 1000 ] || fail "$took ms for one"

type -P sqlite3 > /dev/null || exit 0

# 40 transactions, each acknowledged by a mark; a row has a sum of its number, so that
# half a transaction shows.
make_sql()
{
	local i
	echo "PRAGMA journal_mode=$1; PRAGMA synchronous=$2; PRAGMA wal_autocheckpoint=20;"
	echo "CREATE TABLE IF NOT EXISTS t(n INTEGER PRIMARY KEY, half, blob);"
	echo "CREATE INDEX IF NOT EXISTS i ON t(blob);"
	echo ".system $crashplay $crash_log --mark 'ready 1'"
	for ((i = 1; i <= 40; i++)); do
		echo "BEGIN;"
		echo "INSERT INTO t VALUES($((2 * i)), $i, randomblob($((i * 97 % 3000))));"
		echo "INSERT INTO t VALUES($((2 * i + 1)), $i, randomblob($((i * 53 % 9000))));"
		((i % 7)) || echo "DELETE FROM t WHERE half = $i - 6;"
		((i % 7)) || echo "INSERT INTO t VALUES($((2 * i - 12)), $i - 6, ''), ($((2 * i - 11)), $i - 6, '');"
		echo "COMMIT;"
		echo ".system $crashplay $crash_log --mark 'sql $i'"
	done
}

# Sound, whole transactions, none missing; prints how many.
check_sqlite()
{
	local answer
	[ "$(last_mark "$n" ready)" = 1 ] || { echo 0; return; }
	answer=$(sqlite3 "$1/db" "PRAGMA integrity_check;
		SELECT count(*), count(DISTINCT half), coalesce(max(half), 0) FROM t;" 2>&1 |
		tr '\n' '|')
	[[ $answer =~ ^ok\|([0-9]+)\|([0-9]+)\|([0-9]+)\|$ ]] &&
		[ "${BASH_REMATCH[1]}" -eq $((2 * BASH_REMATCH[2])) ] &&
		[ "${BASH_REMATCH[2]}" -eq "${BASH_REMATCH[3]}" ] || { echo "$answer"; return 1; }
	echo "${BASH_REMATCH[3]}"
}

record_sqlite()
{
	rm -rf "$T/dir"
	mkdir "$T/dir"
	crash_begin "$T/dir"
	make_sql "$@" > "$T/sql"
	"${recorder[@]}" sqlite3 "$T/dir/db" < "$T/sql" > "$T/sql.out"
	crash_list
}

for how in "wal FULL" "delete EXTRA"; do
	note "SQLite, journal_mode and synchronous: $how"
	# shellcheck disable=SC2086 # two words
	record_sqlite $how
	for model in ext4 posix; do
		survives check_sqlite sql --fs $model
	done
	survives check_sqlite sql --torn
done
# FULL does not sync the directory after the journal was unlinked: its manual says so.
for how in "delete FULL" "wal NORMAL" "wal OFF" "delete OFF"; do
	note "SQLite, journal_mode and synchronous: $how"
	# shellcheck disable=SC2086
	record_sqlite $how
	is_found check_sqlite sql
done
