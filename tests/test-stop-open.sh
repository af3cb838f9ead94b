#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
#
# The daemon ends, by --stop --force and by SIGTERM, while data and an image are
# open, mapped and read: nothing is lost or leaked (the sanitizers tell), what was
# open is dead, and the next start has it all again.
. "${top_srcdir:-$(dirname "$0")/..}/tests/lib.sh"
need_lunfs
need_cmd python3

fill_random "$T/db0" 8M 1
write_conf <<-END
	[element db0]
	url = file://$T/db0
	access = exclusive
END
start_lunfs
mkdir "$MNT/groups/prod" "$MNT/groups/copy"
echo db0 > "$MNT/groups/prod/members"
echo "SourceGroup=prod SyncType=Clone" > "$MNT/groups/copy/spec"
timeout 20 cat "$MNT/groups/copy/wait/Synchronized" > /dev/null
assert_eq exclusive "$(cat "$MNT/elements/copy_1/access")" "access of an image"

cat > "$T/hold.py" <<'END'
import errno, mmap, os, sys

data = os.open("elements/db0/data", os.O_RDONLY)
image = os.open("groups/copy/images/copy_1", os.O_RDONLY)
again = os.open("elements/copy_1/data", os.O_RDONLY | os.O_DIRECT)
mapped = mmap.mmap(image, 0, prot=mmap.PROT_READ)
buffer = mmap.mmap(-1, 8192)
assert os.preadv(again, [buffer], 4096) == 8192
assert os.pread(data, 8192, 4096) == buffer[:] == mapped[4096:12288]
os.chdir("/")
print("open", flush=True)
sys.stdin.readline()
try:
    # Not from pages that the kernel still has.
    os.preadv(again, [mmap.mmap(-1, 4096)], 7 << 20)
    sys.exit("what was open still answers")
except OSError as e:
    assert e.errno in (errno.ENOTCONN, errno.ECONNABORTED), e
END
for how in force term; do
	mkfifo "$T/go"
	cd "$MNT"
	python3 "$T/hold.py" < "$T/go" > "$T/hold.out" 2> "$T/hold.err" {never_fd}<&- &
	holder=$!
	cd /
	started_pids+=("$holder")
	exec 7> "$T/go"
	wait_until 10 grep -q open "$T/hold.out"
	case $how in
	force)
		must_fail "$LUNFS" --stop "$MNT"
		assert_match "copy_1" "$OUTPUT" "--stop names what is open"
		stop_lunfs --force
		;;
	term)
		kill -TERM "$lunfs_pid"
		wait_until 20 ended "$lunfs_pid"
		! mountpoint -q "$MNT" || fail "still mounted"
		;;
	esac
	check_sanitizers
	echo go >&7
	exec 7>&-
	wait "$holder" || fail "$(cat "$T/hold.err")"
	rm "$T/go"
	start_lunfs
	cmp "$MNT/groups/copy/images/copy_1" "$T/db0"
	assert_eq Synchronized "$(cat "$MNT/groups/copy/CopyState")"
	note "$how: what was open is dead, nothing is lost"
done
stop_lunfs
