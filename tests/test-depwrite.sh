#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
#
# depwrite itself, on plain files: what it takes for one instant, and every way in
# which a copy can be wrong that it has to find.
. "${top_srcdir:-$(dirname "$0")/..}/tests/lib.sh"

dw=$top_builddir/tests/depwrite
[ -x "$dw" ] || skip "$dw is not built"
a=$T/a b=$T/b c=$T/c

fresh()
{
	rm -f "$a" "$b" "$c"
	truncate -s 1M "$a" "$b" "$c"
}

# wrong REGEX CMD...: exit code 1, with that sentence.
wrong()
{
	local regex=$1
	shift
	must_fail "$@"
	assert_eq 1 "$RC" "exit code of $*: $OUTPUT"
	assert_match "$regex" "$OUTPUT"
}

# copy_block FROM TO BLOCK [SECTORS]: as a copier would that copies it alone.
copy_block()
{
	dd if="$1" of="$2" bs=512 count="${4:-8}" skip=$(($3 * 128)) seek=$(($3 * 128)) \
		conv=notrunc status=none
}

note "files of one instant"
fresh
assert_eq "0 0 0" "$("$dw" check "$a" "$b" "$c")"
assert_eq "1 1 1" "$("$dw" run "$a" "$b" "$c" --count 1 2> "$T/err")"
assert_eq "41 41 41" "$("$dw" run "$a" "$b" "$c" --count 40 --fsync 2> "$T/err")"
assert_eq "41 41 41" "$("$dw" check "$a" "$b" "$c")"
"$dw" verify "$b" 41 --file 1
cp "$a" "$T/a41"
cp "$b" "$T/b41"
cp "$c" "$T/c41"
"$dw" run "$a" "$b" "$c" --count 1 --ack "$T/ack" > "$T/out" 2>&1
assert_eq "$(printf '%019d\n' 42 42 42)" "$(cat "$T/ack")" "--ack"
assert_eq "42 41 41" "$("$dw" check "$a" "$T/b41" "$T/c41")"
assert_eq "42 42 41" "$("$dw" check "$a" "$b" "$T/c41")"
assert_eq 42 "$("$dw" value "$b" --file 1)"
for ring in 1 3; do
	fresh
	"$dw" run "$a" "$b" --count 7 --ring $ring --stride 4K > "$T/out" 2>&1
	assert_eq "7 7" "$("$dw" check "$a" "$b" --ring $ring --stride 4K)"
done

note "files that are not"
fresh
"$dw" run "$a" "$b" "$c" --count 42 > "$T/out" 2>&1
wrong "not of one instant: .*a41 has 41, .*/b 42" "$dw" check "$T/a41" "$b"
wrong "not of one instant" "$dw" check "$a" "$T/b41" "$c"
"$dw" run "$a" "$b" "$c" --count 1 > "$T/out" 2>&1
wrong "not of one instant: .*/a has 43, .*b41 41" "$dw" check "$a" "$T/b41"
wrong "the value is 41" "$dw" verify "$b" 41 --file 1
wrong "the value is 44" "$dw" verify "$b" 44 --file 1
wrong "is torn" "$dw" check "$b" "$a"	# each the other's

note "files that are wrong in themselves"
# 41 + one block of 43: the 42 in between is missing.
cp "$T/a41" "$T/x"
copy_block "$a" "$T/x" $((43 % 16))
wrong "block 10 holds 26, not 42: the value is 43" "$dw" check "$T/x"
# An old block among new ones.
cp "$a" "$T/x"
copy_block "$T/a41" "$T/x" $((42 % 16))
wrong "block 10 holds 26, not 42" "$dw" check "$T/x"
cp "$a" "$T/x"
dd if=/dev/zero of="$T/x" bs=4K count=1 seek=$((5 * 16)) conv=notrunc status=none
wrong "block 5 holds 0, not 37" "$dw" check "$T/x"
# The newest one lost: the same as the instant before, and so right, but not for 43.
cp "$T/a41" "$T/x"
copy_block "$a" "$T/x" $((42 % 16))
assert_eq 42 "$("$dw" check "$T/x")"
wrong "" "$dw" verify "$T/x" 43
for sectors in 1 4 7; do
	cp "$T/a41" "$T/x"
	copy_block "$a" "$T/x" $((42 % 16)) $sectors
	wrong "block 10 at 655360 is torn, its sectors hold 42.* 26" "$dw" check "$T/x"
done
cp "$a" "$T/x"
printf 'x' | dd of="$T/x" bs=1 seek=$((3 * 65536 + 3000)) conv=notrunc status=none
wrong "block 3 at 196608 is torn, .* 35 35 [?] 35 35" "$dw" check "$T/x"
cp "$a" "$T/x"
dd if="$a" of="$T/x" bs=4K count=1 skip=16 seek=32 conv=notrunc status=none
wrong "block 2 at 131072 is another block's" "$dw" check "$T/x"

note "the writer refuses what is wrong already, and what is too small"
wrong "is wrong before" "$dw" run "$T/x" "$b" --count 1
truncate -s 64K "$T/small"
must_fail "$dw" run "$T/small" --count 1
assert_match "too small" "$OUTPUT"

note "a run that is ended, and one whose disk is full"
fresh
run_in_background "$dw" run "$a" "$b" --ack "$T/ack2" > "$T/out" 2> "$T/err"
wait_until 10 test -s "$T/ack2"
kill -TERM "$background_pid"
wait "$background_pid"
assert_match "^[0-9]+ [0-9]+$" "$(cat "$T/out")"
"$dw" check "$a" "$b" > "$T/out2"
cmp "$T/out" "$T/out2"
must_fail "$dw" run /dev/full --count 1
assert_eq 3 "$RC"

note "a copy that is taken while it writes, file after file, is found wrong"
run_in_background "$dw" run "$a" "$b" > "$T/out" 2>&1
found=0
for ((i = 0; i < 50 && !found; i++)); do
	cp "$b" "$T/b1"	# the wrong order on purpose
	cp "$a" "$T/a1"
	"$dw" check "$T/a1" "$T/b1" > "$T/check" || found=1
done
kill -TERM "$background_pid"
wait "$background_pid"
[ "$found" = 1 ] || fail "50 copies that are of no instant were taken for right"
