# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=bash
#
# What tests of snapshots and clones under load share; after lib.sh.
#
# shellcheck disable=SC2154 # MNT, STATE, POOL, never_fd

# are_ready ELEMENT...
are_ready()
{
	local e
	for e; do
		[ -s "$MNT/elements/$e/size" ] || return
	done
}

# need_snapshot ELEMENT: skips where the engine has no Snapshot.
need_snapshot()
{
	local g=$MNT/groups/is-there-one code
	wait_until 20 test -s "$MNT/elements/$1/size"
	mkdir "$g"
	if echo "SourceElement=$1 SyncType=Snapshot" 2> /dev/null > "$g/spec"; then
		drop is-there-one
		return
	fi
	code=$(head -n 1 "$g/result")
	rmdir "$g"
	[ "${code%% *}" != 1 ] || skip "Snapshot is not there yet"
	fail "a first snapshot of $1: $code"
}

# take NAME PARAMETER...: a replica, e.g. take s1 SourceGroup=src SyncType=Snapshot
take()
{
	local name=$1
	shift
	mkdir "$MNT/groups/$name" && echo "$*" > "$MNT/groups/$name/spec"
}

is_over()
{
	[ "$(cat "$MNT/groups/$1/CopyState")" = "Not Applicable" ]
}

give_back()
{
	echo ReturnToResourcePool > "$MNT/groups/$1/control"
}

# drop NAME...: with its images.  The kernel tells of the last close of a file when the
# process that had it is gone already: until then it is In Use.
drop()
{
	local name
	for name; do
		wait_until 10 give_back "$name"
		wait_until 30 is_over "$name"
		rmdir "$MNT/groups/$name"
	done
}

# images NAME [COUNT]: their paths, in member order.
images()
{
	local i
	for ((i = 1; i <= ${2:-2}; i++)); do
		echo "$MNT/groups/$1/images/$1_$i"
	done
}

# sum_direct PREFIX FILE...: one checksum of their bytes, read past the page cache; nothing
# when not all can be read.  A PREFIX that is not empty: the bytes are kept in PREFIX.0, ...
#
# What counts is what it prints: bash (5.2) can lose the exit code of a child whose process
# id was in use before, as happens where ids are few and wrap.
sum_direct()
{
	python3 - "$@" <<-'END'
	import hashlib, mmap, os, sys
	buf, all = mmap.mmap(-1, 1 << 20), hashlib.sha256()
	for i, path in enumerate(sys.argv[2:]):
	    fd = os.open(path, os.O_RDONLY | os.O_DIRECT)
	    kept = open(f"{sys.argv[1]}.{i}", "wb") if sys.argv[1] else None
	    at, size = 0, os.fstat(fd).st_size
	    while at < size:
	        n = os.preadv(fd, [buf], at)
	        if not n:
	            sys.exit(f"{path}: ends at {at}")
	        all.update(buf[:n])
	        if kept:
	            kept.write(buf[:n])
	        at += n
	    os.close(fd)
	print(all.hexdigest())
	END
}

# sum_of NAME [COUNT]: one checksum of its images; fails when one cannot be read.
sum_of()
{
	local paths sum
	mapfile -t paths < <(images "$@")
	sum=$(sum_direct "" "${paths[@]}")
	[ "${#sum}" -eq 64 ] && echo "$sum"
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
	files = {int(m[1]) for f in os.listdir(sys.argv[2]) if (m := re.match(r"e(\d+)\.", f))}
	assert files == rows, "images in the store %s, in the pool %s" % (sorted(rows), sorted(files))
	END
}

# pause MILLISECONDS: of a random test, not a wait for anything.
pause()
{
	read -rt "$(printf '%d.%03d' $(($1 / 1000)) $(($1 % 1000)))" -u "$never_fd" || :
}

# has_passed FILE N: the first number of an --ack file is above N.
has_passed()
{
	[ "$(ack_of "$1" 0)" -gt "$2" ]
}

# ack_of FILE I: the last number acknowledged of file I (0 ...), without zeros in front.
ack_of()
{
	local text
	text=$(sed -n "$(($2 + 1))p" "$1" 2> /dev/null | tr -d '\0')
	echo $((10#${text:-0}))
}
