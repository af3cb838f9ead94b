#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
#
# Control files as shells and tools see them: who may write what and how, what
# readers get, permissions, and that nothing but mkdir, rmdir and writes changes
# the tree.  Runs on tests/fake-lunfs, or on the program in LUNFS_UNDER_TEST.
LUNFS=${LUNFS_UNDER_TEST:-${top_builddir:-.}/tests/fake-lunfs}
. "${top_srcdir:-$(dirname "$0")/..}/tests/lib.sh"
need_lunfs
need_root
need_cmd python3 dash setpriv

fill_random "$T/db0" 3M 1
fill_random "$T/log0" 1M 2
fill_random "$T/others0" 1M 3
chmod 755 "$T" # for another user's look at the mount
daemon_conf="allow_other = yes"
write_conf <<-END
	[element db0]
	url = file://$T/db0
	access = exclusive

	[element log0]
	url = file://$T/log0
	access = exclusive

	[element others0]
	url = file://$T/others0
	access = shared
END
start_lunfs
cd "$MNT"
G=groups/w
mkdir $G
export G

result()
{
	head -n 1 $G/result
}

# ---- writers ----

echo false > "$T/good"
echo nonsense > "$T/bad"
write_bash() { echo "$1" > $G/Persistent; }
write_printf() { printf '%s\n' "$1" > $G/Persistent; }
write_dash() { dash -c 'echo "$1" > $G/Persistent' dash "$1"; }
write_dash_printf() { dash -c 'printf "%s\n" "$1" > $G/Persistent' dash "$1"; }
write_append() { echo "$1" >> $G/Persistent; }
write_tee() { echo "$1" | tee $G/Persistent > /dev/null; }
write_heredoc()
{
	cat > $G/Persistent <<-END
		$1
	END
}
write_cp() { echo "$1" > "$T/value"; cp "$T/value" $G/Persistent; }
write_cat() { echo "$1" > "$T/value"; cat "$T/value" > $G/Persistent; }
write_dd() { echo "$1" | dd of=$G/Persistent status=none; }
write_python()
{
	python3 -c 'import os, sys; os.write(os.open(sys.argv[2], os.O_WRONLY), sys.argv[1].encode())' \
		"$1
" $G/Persistent
}

for writer in bash printf dash dash_printf append tee heredoc cp cat dd python; do
	echo true > $G/Persistent
	write_$writer false || fail "$writer: a good value is refused"
	assert_eq false "$(cat $G/Persistent)" "$writer"
	assert_eq "0 Completed with No Error" "$(result)" "$writer"
	must_fail write_$writer nonsense
	case $writer in
	dash*) ;; # says "I/O error" of every failure
	*) assert_match "Invalid argument" "$OUTPUT" "$writer" ;;
	esac
	assert_eq "5 Invalid Parameter" "$(result)" "$writer"
	assert_eq false "$(cat $G/Persistent)" "$writer: a refused write changed something"
done
must_fail sed -i s/false/true/ $G/Persistent
assert_eq false "$(cat $G/Persistent)" "sed -i"
note "writers: one write is one command, its failure is the tool's failure"

# ---- members: several writes of one open add up ----

printf 'db0\nlog0\n' > $G/members # bash: two writes
assert_eq "db0 log0" "$(tr '\n' ' ' < $G/members | sed 's/ $//')" "two writes"
echo log0 > $G/members
assert_eq log0 "$(cat $G/members)" "a new open replaces"
echo db0 >> $G/members
assert_eq "log0 db0" "$(tr '\n' ' ' < $G/members | sed 's/ $//')" "O_APPEND adds"
must_refuse $G/members "db0 nosuch" "No such file or directory"
assert_eq "log0 db0" "$(tr '\n' ' ' < $G/members | sed 's/ $//')" "all or nothing"
{ echo nosuch || :; echo db0; } > $G/members 2> /dev/null
assert_eq db0 "$(cat $G/members)" "the first write that succeeds replaces"
echo > $G/members
assert_eq "" "$(cat $G/members)" "an empty line empties"
note "members: replaced by an open, added to within it"

# ---- sizes, offsets, attributes ----

python3 - <<'END'
import errno, os

def fails(number, f, *args):
    try:
        f(*args)
    except OSError as e:
        assert e.errno == number, (e, number)
    else:
        raise AssertionError("succeeded: %r" % (args,))

G = os.environ["G"]
fd = os.open(G + "/members", os.O_WRONLY)
assert os.write(fd, b" " * 65535 + b"\n") == 65536
fails(errno.E2BIG, os.write, fd, b" " * 65536 + b"\n")
fails(errno.E2BIG, os.write, fd, b" " * 3000000 + b"\n")
os.close(fd)
assert open(G + "/result").readline() == "5 Invalid Parameter\n"

fd = os.open(G + "/Persistent", os.O_RDWR | os.O_TRUNC)
os.pwrite(fd, b"true\n", 4711)
os.ftruncate(fd, 0)
fails(errno.EINVAL, os.ftruncate, fd, 7)
os.fsync(fd)
os.fdatasync(fd)
os.close(fd)
assert open(G + "/Persistent").read() == "true\n"
os.utime(G + "/Persistent")
os.utime(G + "/CopyState", (1, 1))
os.chmod(G + "/Persistent", 0o644)
os.chown(G + "/Persistent", 0, 0)
fails(errno.EPERM, os.chmod, G + "/Persistent", 0o600)
fails(errno.EPERM, os.chown, G + "/Persistent", 1, -1)
os.truncate(G + "/Persistent", 0)
fails(errno.EACCES, os.truncate, G + "/CopyState", 0)
fails(errno.EACCES, os.open, G + "/CopyState", os.O_WRONLY)
fails(errno.EACCES, os.open, G + "/CopyState", os.O_RDWR)
fails(errno.ENOENT, os.open, G + "/nosuch", os.O_RDONLY)
END
note "sizes, offsets and attributes: as the interface says"

# ---- a descriptor for both answers with its own result ----

exec 3<> $G/Persistent
read -r line <&3
assert_eq true "$line" "content first"
echo false >&3
assert_eq "0 Completed with No Error" "$(head -n 1 <&3)" "own result"
echo nonsense >&3 2> /dev/null && fail "nonsense was taken"
echo false > $G/Persistent # somebody else's success
{
	read -r line <&3
	assert_eq "5 Invalid Parameter" "$line" "own result after another's"
	read -r line <&3
	assert_match "true" "$line" "the sentence"
	read -r line <&3
	assert_match "pid $$\$" "$line" "time and pid"
	read -r line <&3 && fail "more than the result: $line"
}
exec 3<&-
note "read after write: the open's own result"

# ---- readers ----

echo "db0 log0" > $G/members
printf 'db0\nlog0\n' > "$T/wanted"
python3 - "$T/wanted" > "$T/readers.out" <<'END'
import os, shutil, subprocess, sys, tempfile, threading

path = os.environ["G"] + "/members"
wanted = open(sys.argv[1], "rb").read()
tmp = tempfile.mkdtemp()
copy = tmp + "/copy"

def run(*args):
    return subprocess.run(args, stdout=subprocess.PIPE, check=True).stdout

def sendfile():
    out = os.open(copy, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    fd = os.open(path, os.O_RDONLY)
    while os.sendfile(out, fd, None, os.fstat(fd).st_size):
        pass
    os.close(fd)
    os.close(out)
    return open(copy, "rb").read()

def splice():
    fd = os.open(path, os.O_RDONLY)
    r, w = os.pipe()
    n = os.splice(fd, w, 65536)
    os.close(w)
    os.close(fd)
    return os.read(r, 65536)[:n]

def copyfile():
    shutil.copyfile(path, copy)
    return open(copy, "rb").read()

def tar():
    return run("sh", "-c", "tar cf - %s | tar xOf -" % path)

def cp():
    run("cp", path, copy)
    return open(copy, "rb").read()

readers = {
    "cat": lambda: run("cat", path), "cp": cp, "tar": tar, "sendfile": sendfile,
    "dd": lambda: run("dd", "if=" + path, "status=none"),
    "dd bs=1": lambda: run("dd", "bs=1", "if=" + path, "status=none"),
    "tail": lambda: run("tail", "-n", "9", path),
    "tail -c": lambda: run("tail", "-c", "5", path).rjust(len(wanted), b"."),
    "grep": lambda: run("grep", "", path), "sort": lambda: run("sort", path),
    "read": lambda: open(path, "rb").read(), "copyfile": copyfile,
}
if hasattr(os, "splice"):
    readers["splice"] = splice
for name, reader in readers.items():
    got = reader()
    if name == "tail -c":
        assert got == b"...." + wanted[-5:], (name, got)
    else:
        assert got == wanted, (name, got)
assert os.stat(path).st_size == len(wanted)
shutil.rmtree(tmp)
print("%d readers" % len(readers))
END
assert_eq "$(wc -c < $G/result)" "$(stat -c %s $G/result)" "st_size of result"
note "$(cat "$T/readers.out"): all get the text, the size is true"

# ---- names ----

for name in -x .x 'a b' 'a:b' ä; do
	must_fail mkdir -- "groups/$name"
	assert_match "Invalid argument" "$OUTPUT" "mkdir $name"
done
long=$(printf 'x%.0s' {1..33})
must_fail mkdir "groups/$long"
assert_match "File name too long" "$OUTPUT"
mkdir "elements/$long" && rmdir "elements/$long"
must_fail mkdir groups/w
assert_match "File exists" "$OUTPUT"
must_fail rmdir groups/nosuch
for cmd in "mkdir x" "mkdir jobs/1" "mkdir pools/x" "mkdir $G/x" "mkdir $G/pairs/1" "touch $G/x" \
	"touch x" "mknod $G/x p" "rm -f $G/spec" "rm -f README" "mv $G groups/y" \
	"mv $G/spec $G/x" "ln $G/spec $G/x" "ln -s spec $G/x" "rmdir $G/wait" "rmdir groups"; do
	must_fail $cmd
	assert_match "Operation not permitted" "$OUTPUT" "$cmd"
done
note "names: bad ones are refused, and so is whatever the tree has no use for"

# ---- permissions ----

nobody() { setpriv --reuid 65534 --regid 65534 --clear-groups "$@"; }
in_group() { setpriv --reuid 65534 --regid 65534 --groups 7,0 "$@"; }
nobody cat README $G/CopyState > /dev/null
nobody ls -lR . > /dev/null
for cmd in "dd of=$G/Persistent status=none" "mkdir groups/n" "rmdir $G" "truncate -s 0 $G/members" \
	"cat elements/db0/data"; do
	must_fail nobody $cmd < /dev/null
	assert_match "Permission denied" "$OUTPUT" "nobody: $cmd"
done
must_fail nobody touch -d 2001-01-01 $G/Persistent
in_group cat elements/db0/data | cmp - "$T/db0"
must_fail in_group sh -c ": >> elements/others0/data"
assert_match "Read-only file system" "$OUTPUT"
must_fail nobody sh -c ": >> elements/others0/data"
assert_match "Permission denied" "$OUTPUT" "EACCES comes before EROFS"
nobody test -r README && ! nobody test -w $G/spec && ! nobody test -r elements/db0/data ||
	fail "access(2) says otherwise than open(2)"
test -w $G/spec && ! test -w $G/CopyState || fail "access(2) of root"
note "permissions: owner, groups and others, by LunFS itself"

# ---- data and images ----

cmp elements/db0/data "$T/db0"
mkdir groups/n
echo "SourceGroup=w SyncType=Clone" > groups/n/spec
wait_until 10 test -e groups/n/images/n_2
cmp groups/n/images/n_1 "$T/db0"
cmp groups/n/images/db0 "$T/db0"
cmp groups/n/images/log0 "$T/log0"
assert_eq n_1 "$(readlink groups/n/images/db0)"
assert_eq "$(stat -c %i groups/n/images/n_1)" "$(stat -c %i elements/n_1/data)" "one inode"
assert_eq "$(stat -c %i elements/n_1/data)" "$(stat -c %i elements/n_1/data)" "st_ino"
assert_eq "../w" "$(readlink groups/n/source)"
[ "$(cat groups/n/job/Name)" = "$(cat jobs/"$(basename "$(readlink groups/n/job)")"/Name)" ]
assert_eq db0 "$(basename "$(readlink groups/n/pairs/1/source)")"
[ -d groups/n/pairs/2/target/ ]
python3 - "$T/db0" <<'END'
import errno, mmap, os, sys

path = "groups/n/images/n_1"
wanted = open(sys.argv[1], "rb").read()
fd = os.open(path, os.O_RDONLY)
size = os.fstat(fd).st_size
assert size == len(wanted)
for offset, n in (0, 1), (1, 511), (4095, 2), (65535, 70000), (size - 3, 10), (size, 5), (size + 9, 5):
    assert os.pread(fd, n, offset) == wanted[offset:offset + n], (offset, n)
with mmap.mmap(fd, size, prot=mmap.PROT_READ) as m:
    assert m[:] == wanted
assert os.lseek(fd, 0, os.SEEK_DATA) == 0
assert os.lseek(fd, 0, os.SEEK_HOLE) <= size
assert os.lseek(fd, 0, os.SEEK_END) == size
os.close(fd)
os.truncate(path, size)
for other in size + 1, 512:
    try:
        os.truncate(path, other)
    except OSError as e:
        assert e.errno == errno.EINVAL, e
    else:
        raise AssertionError("truncated")
fd = os.open(path, os.O_RDONLY | os.O_DIRECT)
buffer = mmap.mmap(-1, 1 << 20)
assert os.preadv(fd, [buffer], 1 << 20) == 1 << 20
assert buffer[:] == wanted[1 << 20:2 << 20]
END
note "data and images: the right bytes, one inode"

# ---- walks over the whole tree ----

rc=0
timeout 60 rm -rf groups elements "${MNT:?}"/pools 2> /dev/null || rc=$?
assert_eq 1 "$rc" "rm -rf fails"
cmp groups/n/images/n_1 "$T/db0"
[ -e elements/log0/data ] && [ -e groups/w/spec ] && [ -e groups/n/images/n_2 ]
note "rm -rf: deletes nothing"
timeout 60 find . -type f -exec cat {} + > /dev/null 2> "$T/find.err" || :
! grep -v 'control: Permission denied' "$T/find.err" || fail "find -exec cat"
timeout 60 grep -r nothing-has-this-text . > /dev/null 2>&1 || rc=$?
assert_eq 2 "$rc" "grep -r ends (with what it may not read)"
rc=0
timeout 60 tar cf "$T/tree.tar" . 2> "$T/tar.err" || rc=$?
[ "$rc" -le 2 ] || fail "tar: exit code $rc"
tar tf "$T/tree.tar" | grep -x ./groups/w/CopyState > /dev/null
assert_eq "" "$(ls groups/w/wait)" "wait lists nothing"
timeout 60 ls -lR > /dev/null
df . > /dev/null
note "walks over the whole tree end"

# ---- the names that are there from mkdir on ----

mkdir groups/new
for name in spec result members control Persistent RelationshipName CopyState PercentSynced \
	WhenSynced waiting_for pairs images; do
	[ -e groups/new/$name ] || fail "groups/new/$name is not there"
done
[ ! -e groups/new/source ] && [ ! -e groups/new/job ] || fail "links to nothing"
assert_eq "Not Applicable" "$(cat groups/new/CopyState)"
assert_eq "Not Applicable" "$(timeout 10 cat "groups/new/wait/Not Applicable")"
assert_eq "Not Applicable" "$(timeout 10 cat groups/new/wait/NotApplicable)"
must_fail cat groups/new/wait/nosuch
rmdir groups/new
[ ! -e groups/new ] || fail "rmdir left it"
mkdir groups/new
assert_eq "Not Applicable" "$(cat groups/new/CopyState)" "the same name again"
note "a group has all its names from mkdir on"

# ---- the daemon's end ----

pid=$(python3 -c 'import os; print(os.getxattr(".", "user.lunfs.pid").decode())')
assert_eq "$lunfs_pid" "$pid" "user.lunfs.pid"
must_fail python3 -c 'import os; os.setuid(65534); os.setxattr(".", "user.lunfs.stop", b"")'
assert_match "Operation not permitted" "$OUTPUT"
exec 3< groups/n/images/n_1
must_fail timeout 20 python3 -c 'import os; os.setxattr(".", "user.lunfs.stop", b"")'
assert_match "busy" "$OUTPUT"
assert_match "n_1" "$(python3 -c 'import os; print(os.getxattr(".", "user.lunfs.handles").decode())')"
[ -e README ] || fail "it has stopped nevertheless"
exec 3<&-
cd /
stop_lunfs
note "stop: refused while data is open, else it ends"
