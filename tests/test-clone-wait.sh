#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
#
# Waiting for a CopyState: WaitForCopyState in all its values, what ends a wait
# early, and the files of wait/.
. "${top_srcdir:-$(dirname "$0")/..}/tests/lib.sh"
need_lunfs
need_cmd python3

start_tgtd
add_target 1
fill_random "$(lun_file 1 1)" 32M 1
add_lun 1 1 32M
fill_random "$(lun_file 1 2)" 4M 2
add_lun 1 2 4M
start_proxy slow
write_conf <<-END
	[element big]
	url = $(lun_url 1 1 "${proxy_port[slow]}")
	access = exclusive

	[element small]
	url = $(lun_url 1 2)
	access = exclusive
END
start_lunfs
cd "$MNT"

code()
{
	head -n 1 "$1"
}

is_null()
{
	assert_eq "" "$(cat "$1")" "$1"
}

n_jobs()
{
	find jobs -mindepth 1 -maxdepth 1 | wc -l
}

job_started="4096 Method Parameters Checked - Job Started"
done_0="0 Completed with No Error"

# ---- states without an instant ----

mkdir groups/pair
echo "small big" > groups/pair/members
n=0
for state in Initialized 8 prepared; do
	n=$((n + 1))
	G=groups/idle$n
	mkdir $G
	echo "SourceGroup=pair SyncType=Clone WaitForCopyState=$state" > $G/spec
	assert_eq "$done_0" "$(code $G/result)" "WaitForCopyState=$state"
	case $state in
	8) name=Inactive ;;
	prepared) name=Prepared ;;
	*) name=$state ;;
	esac
	assert_eq $name "$(cat $G/CopyState)"
	assert_eq $name "$(timeout 5 cat $G/wait/$name)" "wait/$name"
	[ ! -L $G/job ] || fail "$name: there is a job"
	is_null $G/WhenActivated
	is_null $G/WhenSynced
	assert_eq 0 "$(cat $G/PercentSynced)" "PercentSynced"
	assert_eq "Not Applicable" "$(cat $G/ConsistencyState)" "ConsistencyState"
	wait_until 5 file_matches $G/waiting_for Activate
	assert_eq $((4 << 20)) "$(stat -c %s $G/images/idle${n}_1)" "size of an idle image"
	must_fail head -c 1 $G/images/idle${n}_1
	assert_match "Input/output error" "$OUTPUT" "read of an idle image"
	grep -qx "Activate" $G/control || fail "$name: control: $(cat $G/control)"
done
is_null elements/idle1_1/error
note "Initialized, Inactive, Prepared: linked, and nothing else"

# What is written before the instant is in the copy.
printf changed | dd of="$(lun_file 1 2)" bs=1M seek=2 conv=notrunc status=none
before=$(date +%s%3N)
for n in 1 2 3; do
	G=groups/idle$n
	echo Activate > $G/control
	assert_eq "$job_started" "$(code $G/result)" Activate
	assert_eq Synchronized "$(timeout 30 cat $G/wait/Synchronized)" wait
	cmp "$(lun_file 1 2)" $G/images/small
	cmp "$(lun_file 1 1)" $G/images/big
	[ "$(date -d "$(cat $G/WhenSynced)" +%s%3N)" -ge "$before" ] ||
		fail "the instant $(cat $G/WhenSynced) lies before Activate"
	wait_until 5 file_has $G/waiting_for ""
	must_refuse $G/control Activate "Input/output error"
	assert_eq "4 Failed" "$(code $G/result)"
	assert_match "Initialized, Inactive, Prepared" "$(sed -n 2p $G/result)" "states that would do"
done
note "Activate takes the instant"

# ---- states that are waited for ----

mkdir groups/whole groups/begun
echo "SourceElement=small SyncType=Clone WaitForCopyState=4" > groups/whole/spec
assert_eq "$done_0" "$(code groups/whole/result)" "WaitForCopyState=4"
assert_eq Synchronized "$(cat groups/whole/CopyState)"
[ ! -L groups/whole/job ] || fail "a job is left"

arm slow slow bytes_per_second=1000000
jobs=$(n_jobs)
echo "SourceElement=big SyncType=Clone WaitForCopyState=Unsynchronized" > groups/begun/spec
assert_eq "$job_started" "$(code groups/begun/result)" "reached, and work remains"
assert_eq Unsynchronized "$(cat groups/begun/CopyState)"
assert_eq $((jobs + 1)) "$(n_jobs)" "jobs"
note "Unsynchronized: 4096; Synchronized: 0, and no job"

# ---- interrupted by a signal, and waited for again ----

mkdir groups/sig
cat > "$T/interrupted.py" <<'END'
import ctypes, errno, os, signal, sys
g = sys.argv[1]
libc = ctypes.CDLL(None, use_errno=True)
signal.signal(signal.SIGUSR1, lambda *args: None)
def write(fd, text):
    n = libc.write(fd, text, len(text))
    return n if n >= 0 else -ctypes.get_errno()
text = b"SourceElement=big SyncType=Clone WaitForCopyState=Synchronized\n"
fd = os.open(g + "/spec", os.O_RDWR)
print("pid", os.getpid(), flush=True)
r = write(fd, text)
print("first", "EINTR" if r == -errno.EINTR else r, flush=True)
print("own", os.pread(fd, 4096, 0).decode().split("\n")[0], flush=True)
print("result", open(g + "/result").readline().strip(), flush=True)
print("state", open(g + "/CopyState").readline().strip(), flush=True)
print("job", os.readlink(g + "/job"), flush=True)
r = write(fd, text.replace(b"big", b"small"))
print("other", "EINVAL" if r == -errno.EINVAL else r, flush=True)
r = write(fd, text)
print("again", r == len(text), flush=True)
print("end", open(g + "/result").readline().strip(), flush=True)
END
jobs=$(n_jobs)
python3 "$T/interrupted.py" groups/sig > "$T/sig.out" 2>&1 &
py=$!
started_pids+=("$py")
wait_until 10 file_has groups/sig/CopyState Unsynchronized
assert_eq 1 "$(wc -l < "$T/sig.out")" "the write waits"
kill -USR1 "$py"
wait_until 10 grep -q '^other' "$T/sig.out"
assert_eq "first EINTR" "$(grep '^first' "$T/sig.out")"
assert_eq "own $job_started" "$(grep '^own' "$T/sig.out")"
assert_eq "result $job_started" "$(grep '^result' "$T/sig.out")"
assert_eq "state Unsynchronized" "$(grep '^state' "$T/sig.out")"
assert_eq "other EINVAL" "$(grep '^other' "$T/sig.out")" "another text on the same open"
assert_eq $((jobs + 1)) "$(n_jobs)" "jobs"
ended "$py" && fail "the second write did not wait: $(cat "$T/sig.out")"
note "a signal ends the wait, not the job"

# ---- wait/ while it runs ----

assert_eq "" "$(ls groups/sig/wait)" "wait/ lists something"
must_fail cat groups/sig/wait/Nonsense
assert_match "No such file" "$OUTPUT"
assert_eq Unsynchronized "$(timeout 5 cat groups/sig/wait/Unsynchronized)"
rc=0
timeout 1 cat groups/sig/wait/Synchronized || rc=$?
assert_eq 124 $rc "a read in wait/ ends at a signal"

mkdir groups/early
cat groups/early/wait/Synchronized > "$T/early.out" &
early=$!
started_pids+=("$early")
cat groups/early/wait/Aborted > "$T/aborted.out" &
aborted=$!
started_pids+=("$aborted")

disarm slow slow
wait_until 60 ended "$py"
assert_eq "again True" "$(grep '^again' "$T/sig.out")" "$(cat "$T/sig.out")"
assert_eq "end $done_0" "$(grep '^end' "$T/sig.out")"
[ ! -L groups/sig/job ] || fail "a job is left after Synchronized was waited for"
cmp "$(lun_file 1 1)" groups/sig/images/sig_1
note "the same text on the same open goes on waiting"

# ---- what ends a wait otherwise ----

ended "$early" && fail "wait/ before a spec does not wait"
echo "SourceElement=small SyncType=Clone" > groups/early/spec
wait_until 20 ended "$early"
assert_eq Synchronized "$(cat "$T/early.out")" "wait/ begun before the spec"
ended "$aborted" && fail "wait/Aborted was answered: $(cat "$T/aborted.out")"
echo Detach > groups/early/control
wait_until 10 ended "$aborted"
rc=0
wait "$aborted" || rc=$?
assert_eq 1 $rc "wait/ when the relationship ends"
assert_eq "" "$(cat "$T/aborted.out")"

arm slow slow bytes_per_second=1000000
mkdir groups/abort groups/gone
cat groups/abort/wait/Synchronized > "$T/abort1.out" 2>&1 &
wait1=$!
cat groups/abort/wait/Aborted > "$T/abort2.out" 2>&1 &
wait2=$!
cat groups/gone/wait/Synchronized > "$T/gone.out" 2>&1 &
wait3=$!
started_pids+=("$wait1" "$wait2" "$wait3")
(
	rc=0
	put groups/abort/spec "SourceElement=big SyncType=Clone WaitForCopyState=Synchronized" || rc=$?
	echo "rc $rc"
) > "$T/abort3.out" 2>&1 &
wait4=$!
started_pids+=("$wait4")
wait_until 10 file_has groups/abort/CopyState Unsynchronized
ended "$wait4" && fail "WaitForCopyState=Synchronized did not wait"
job=$(readlink -f groups/abort/job)
echo Terminate > "$job/control"
for pid in "$wait1" "$wait2" "$wait4"; do
	wait_until 10 ended "$pid"
done
assert_match "Input/output error" "$(cat "$T/abort1.out")" "wait/Synchronized of an aborted copy"
assert_eq Aborted "$(cat "$T/abort2.out")" "wait/Aborted"
assert_match "Input/output error.*rc 1" "$(paste -sd' ' "$T/abort3.out")" "WaitForCopyState of an aborted copy"
assert_eq "4 Failed" "$(code groups/abort/result)"
assert_match "Aborted" "$(sed -n 2p groups/abort/result)"
rmdir groups/gone
wait_until 10 ended "$wait3"
assert_match "Input/output error" "$(cat "$T/gone.out")" "wait/ of a removed group"
note "Aborted, Detach and rmdir end waits with EIO"

# ---- interrupted while a login is waited for: nothing was made ----

mkdir elements/away groups/login
echo "iscsi://127.0.0.1:1/$IQN:t1/1" > elements/away/url
cat > "$T/login.py" <<'END'
import ctypes, errno, os, signal, sys
g = sys.argv[1]
libc = ctypes.CDLL(None, use_errno=True)
signal.signal(signal.SIGUSR1, lambda *args: None)
def write(fd, text):
    return errno.errorcode[ctypes.get_errno()] if libc.write(fd, text, len(text)) < 0 else "done"
fd = os.open(g + "/spec", os.O_RDWR)
print(write(fd, b"SourceElement=away SyncType=Clone\n"), flush=True)
print(open(g + "/result").readline().strip(), flush=True)
print(write(fd, b"SourceElement=small SyncType=Clone\n"), flush=True)
END
jobs=$(n_jobs)
python3 "$T/login.py" groups/login > "$T/login.out" 2>&1 &
py=$!
started_pids+=("$py")
is_carried_out()
{
	! put groups/login/control Detach && file_matches groups/login/result "being carried out"
}
wait_until 10 is_carried_out
kill -USR1 "$py"
wait_until 10 ended "$py"
assert_eq "EINTR|4 Failed|done" "$(paste -sd'|' "$T/login.out")" "a call interrupted during its login"
assert_eq $((jobs + 1)) "$(n_jobs)" "jobs"
rmdir elements/away
note "a signal while a login is waited for: no call"

# ---- a stop of the daemon ----

mkdir groups/stop
cat groups/stop/wait/Synchronized > "$T/stop1.out" 2>&1 &
wait1=$!
cat > "$T/stop.py" <<'END'
import errno, os, sys
try:
    os.write(os.open(sys.argv[1] + "/spec", os.O_WRONLY),
             b"SourceElement=big SyncType=Clone WaitForCopyState=Synchronized\n")
    print("done")
except OSError as e:
    print(errno.errorcode[e.errno])
END
python3 "$T/stop.py" groups/stop > "$T/stop2.out" 2>&1 &
wait2=$!
started_pids+=("$wait1" "$wait2")
wait_until 10 file_has groups/stop/CopyState Unsynchronized
cd "$T"
stop_lunfs
wait_until 10 ended "$wait1"
wait_until 10 ended "$wait2"
assert_match "endpoint is not connected" "$(cat "$T/stop1.out")" "wait/ at a stop"
assert_eq ENOTCONN "$(cat "$T/stop2.out")" "WaitForCopyState at a stop"
disarm slow slow
start_lunfs
assert_eq Synchronized "$(timeout 30 cat "$MNT/groups/stop/wait/Synchronized")" "after the restart"
cmp "$(lun_file 1 1)" "$MNT/groups/stop/images/big"
note "a stop ends waits with ENOTCONN, and the copy goes on at the next start"
