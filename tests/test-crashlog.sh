#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
#
# libcrashlog.so sees every change, in its true order: its log is held against strace,
# for each call by itself, for SQLite and for the daemon; and what crashplay rebuilds
# from the whole log is what lies on the disk.
. "${top_srcdir:-$(dirname "$0")/..}/tests/lib.sh"
need_cmd strace python3

shim=$top_builddir/tests/libcrashlog.so
play=$top_builddir/tests/crashplay
toy=$top_builddir/tests/crashtoy
[ -e "$shim" ] || skip "$shim is not built"
[ "${LUNFS_SANITIZERS:-no}" = no ] || skip "a sanitizer's calls come before the shim's"
strace -o "$T/trace" true 2> "$T/err" || skip "strace is not allowed: $(cat "$T/err")"

calls=write,pwrite64,writev,pwritev,pwritev2,copy_file_range,sendfile,splice,ioctl
calls+=,ftruncate,truncate,fallocate,chmod,fchmod,fchmodat,fsync,fdatasync,sync,syncfs
calls+=,open,openat,openat2,creat,mkdir,mkdirat,symlink,symlinkat,link,linkat,unlink
calls+=,unlinkat,rmdir,rename,renameat,renameat2,io_uring_setup

# begin DIR...: directories to be recorded, as they are now, in $T/base.
begin()
{
	local d
	rm -rf "$T/log" "$T/trace" "$T/base" "$T/out"
	mkdir "$T/base"
	dirs=
	for d; do
		cp -a --sparse=always "$d" "$T/base/"
		dirs+=${dirs:+:}$d
	done
	recorder=(env "CRASHLOG_FILE=$T/log" "CRASHLOG_DIRS=$dirs" "LD_PRELOAD=$shim")
	tracer=(strace -f -y -s 1 -o "$T/trace" -e "trace=$calls" -e signal=none)
}

# same_calls: the changes that strace saw and those in the log are the same.
same_calls()
{
	"$play" "$T/log" --dump > "$T/dump"
	python3 - "$dirs" "$T/trace" "$T/dump" <<-'END'
	import collections, re, sys
	dirs = sys.argv[1].split(":")
	kinds = {}
	for kind, calls in {
	        "write": "write pwrite64 writev pwritev pwritev2 copy_file_range sendfile splice ioctl",
	        "truncate": "truncate ftruncate", "fallocate": "fallocate",
	        "chmod": "chmod fchmod fchmodat", "sync-end": "fsync fdatasync sync syncfs",
	        "create": "mkdir mkdirat symlink symlinkat", "link": "link linkat",
	        "unlink": "unlink unlinkat rmdir", "rename": "rename renameat renameat2"}.items():
	    kinds.update((c, kind) for c in calls.split())
	def below(path):
	    return any(path == d or path.startswith(d + "/") for d in dirs)
	def paths(call, args):
	    """Of the file that is changed, or of the names; relative ones by their directory."""
	    fds = re.findall(r"(?<![\w\"])(?:\d+|AT_FDCWD)<(/[^>]*)>", args)
	    if call in ("copy_file_range", "splice"):
	        return fds[-1:]
	    if kinds[call] in ("write", "truncate", "fallocate", "sync-end") or call == "fchmod":
	        return fds[:1]
	    return fds + re.findall(r"\"(/[^\"]*)\"", args)
	want, half = collections.Counter(), {}
	for line in open(sys.argv[2], errors="replace"):
	    pid, line = line.split(None, 1)
	    if m := re.match(r"(.*)<unfinished \.\.\.>$", line):
	        half[pid] = m[1]
	        continue
	    if m := re.match(r"<\.\.\. \w+ resumed>(.*)", line):
	        line = half.pop(pid) + m[1]
	    m = re.match(r"(\w+)\((.*)\)\s+= (-?\d+)", line)
	    if not m or int(m[3]) < 0:
	        continue
	    call, args, result = m[1], m[2], int(m[3])
	    if call == "io_uring_setup" or call == "openat2":
	        sys.exit("the shim does not know " + call)
	    if call == "ioctl" and "FICLONE" not in args:
	        continue
	    if call in ("open", "openat", "creat"):
	        name = re.search(r"= \d+<(/.*?)(?:\(deleted\))?>$", line.rstrip())
	        # Whether it was new only the log knows: each new file must have been an open.
	        if name and below(name[1]) and ("O_CREAT" in args or call == "creat"):
	            want["open", 0] += 1
	    elif call == "sync" or call == "syncfs" or any(map(below, paths(call, args))):
	        kind = kinds[call]
	        if kind != "write" or result > 0:
	            want[kind, result if kind == "write" else 0] += 1
	have, created = collections.Counter(), 0
	for line in open(sys.argv[3]):
	    f = line.split(" ")
	    kind, size, mode = f[1], int(f[5][5:]), int(f[6][5:], 8)
	    if kind == "create" and mode & 0o170000 == 0o100000:
	        created += 1
	    elif kind == "write":
	        have["write", size] += 1
	    elif kind == "result":
	        sys.exit("a short write: not for this test")
	    elif kind == "truncate" and f[7].strip():
	        pass    # O_TRUNC
	    elif kind in kinds.values():
	        have[kind, 0] += 1
	opened = want.pop(("open", 0), 0)
	if created > opened:
	    sys.exit("%d files made, %d opens that could" % (created, opened))
	if want != have:
	    sys.exit("not in the log: %s; not in strace: %s" % (want - have, have - want))
	print("# %d changes, the same in log and strace" % sum(want.values()))
	END
}

last_record()
{
	"$play" "$T/log" --list | awk '$2 == "end" { print $1 }'
}

# same_trees [diff options]: the whole log gives what lies on the disk.
same_trees()
{
	local d
	"$play" "$T/log" --at "$(last_record)" --mode all --from "$T/base" --to "$T/out"
	for d in ${dirs//:/ }; do
		diff -r --no-dereference "$@" "$d" "$T/out/${d##*/}"
	done
}

note "every call"
mkdir "$T/dir"
echo old > "$T/dir/again"
begin "$T/dir"
"${tracer[@]}" "${recorder[@]}" "$toy" calls "$T/dir"
same_calls
same_trees
assert_eq "$(cd "$T/dir" && find . -printf '%p %m %s\n' | grep -v '^\. \|/dir ' | sort)" \
	"$(cd "$T/out/dir" && find . -printf '%p %m %s\n' | grep -v '^\. \|/dir ' | sort)" "modes"

begin "$T/dir"
"${tracer[@]}" "${recorder[@]}" "$toy" escape "$T/dir"
must_fail same_calls
assert_match "not in the log: .*'write', 1" "$OUTPUT"

note "threads that write over each other: the order is the true one"
begin "$T/dir"
"${recorder[@]}" "$toy" threads "$T/dir"
same_trees

note "rebuilt over what is there: the inodes stay"
ls -i "$T/dir/threads" > "$T/inode"
echo other > "$T/dir/threads"
mkdir "$T/dir/left-over"
"$play" "$T/log" --at "$(last_record)" --mode all --from "$T/base" --to "$T"
diff -r --no-dereference "$T/dir" "$T/out/dir"
ls -i "$T/dir/threads" | cmp - "$T/inode"

note "what cannot be followed is said"
python3 - "$T/dir/mapped" > "$T/map.py" <<-'END'
	import sys
	print("import mmap\nf = open(%r, 'w+b')\nf.truncate(4096)\nmmap.mmap(f.fileno(), 4096)" % sys.argv[1])
END
begin "$T/dir"
"${recorder[@]}" python3 "$T/map.py"
assert_match "unseen mmap: $T/dir/mapped" "$("$play" "$T/log" --list)"
must_fail "$play" "$T/log" --at "$(last_record)" --from "$T/base" --to "$T/out"
assert_match "1 changes could not be followed" "$OUTPUT"

if type -P sqlite3 > /dev/null; then
	note "SQLite, with a journal and with a WAL"
	for mode in delete wal; do
		rm -rf "$T/db"
		mkdir "$T/db"
		begin "$T/db"
		{
			echo "PRAGMA journal_mode=$mode; PRAGMA synchronous=FULL;"
			echo "CREATE TABLE t(a, b);"
			for ((i = 0; i < 20; i++)); do
				echo "BEGIN; INSERT INTO t VALUES($i, randomblob(3000)); COMMIT;"
			done
			echo "DELETE FROM t WHERE a < 10; PRAGMA wal_checkpoint; VACUUM;"
		} > "$T/sql"
		"${tracer[@]}" "${recorder[@]}" sqlite3 "$T/db/db" < "$T/sql" > "$T/sql.out"
		same_calls
		same_trees -x '*-shm'
	done
fi

[ -x "$LUNFS" ] && [ -c /dev/fuse ] || exit 0
note "the daemon"
fill_random "$T/lun" 3M 1
write_conf <<-END
	[element db0]
	url = file://$T/lun
	access = exclusive
END
begin "$STATE" "$POOL"
"${tracer[@]}" "${recorder[@]}" "$LUNFS" -f -c "$CONF" "$MNT" < /dev/null >> "$T/lunfs.log" 2>&1 \
	{never_fd}<&- &
started_pids+=($!)
strace_pid=$!
wait_until 60 mountpoint -q "$MNT"
lunfs_pids+=("$(lunfs_processes "$MNT")")
wait_until 10 test -s "$MNT/elements/db0/size"
for g in a b; do
	mkdir "$MNT/groups/$g"
	echo "SourceElement=db0 SyncType=Clone" > "$MNT/groups/$g/spec"
	assert_eq Synchronized "$(timeout 60 cat "$MNT/groups/$g/wait/Synchronized")"
done
echo ReturnToResourcePool > "$MNT/groups/a/control"
rmdir "$MNT/groups/a"
stop_lunfs
wait_until 20 ended "$strace_pid"
same_calls
same_trees -x '*-shm'
