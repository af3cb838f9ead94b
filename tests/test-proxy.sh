#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
#
# Each fault of iscsi-proxy, seen by an initiator that forgives nothing.
. "${top_srcdir:-$(dirname "$0")/..}/tests/lib.sh"
need_tgtd
probe=$top_builddir/tests/iscsi-probe
[ -x "$probe" ] || skip "tests/iscsi-probe is not built"

start_tgtd
add_target 1 --digest
fill_random "$T/lun-1-1" 4M 3
add_lun 1 1 4M
start_proxy p
url=$(lun_url 1 1 "${proxy_port[p]}")
straight=$(lun_url 1 1)

note "with no fault armed it changes nothing"
commands=(tur read:0:8 write:16:8:90 read:16:8 read:100:2048 write:4096:1024:7 read:4096:1024 sync)
"$probe" "$straight" "${commands[@]}" > "$T/straight"
"$probe" "$url" "${commands[@]}" > "$T/proxied"
"$probe" --digest "$url" "${commands[@]}" > "$T/digest"
cat "$T/straight"
assert_eq 8 "$(grep -c '^status=0' "$T/straight")" "good answers"
cmp "$T/straight" "$T/proxied"
cmp "$T/straight" "$T/digest"
assert_eq 1 "$(proxy_count p header_digests)" "sessions with header digests"
good=$("$probe" "$straight" read:0:8)

# Each is tried without and with header digests.
for digest in '' --digest; do
	p=("$probe" ${digest:+"$digest"})
	note "busy${digest:+ with header digest}"
	arm p busy count=2 op=read
	assert_eq $'status=0\nstatus=8\nstatus=8\n'"$good" \
		"$("${p[@]}" "$url" tur read:0:8 read:0:8 read:0:8)"
	wait_fired p busy
	arm p busy status=full op=write after=1
	assert_eq $'status=0\nstatus=40\nstatus=0' \
		"$("${p[@]}" "$url" write:16:8:1 write:16:8:2 write:16:8:3)"

	note "busy to a write of more than one burst: its unsolicited data goes nowhere"
	"${p[@]}" "$url" write:4096:2048:17 > /dev/null
	arm p busy op=write
	assert_eq $'status=8\nstatus=0' "$("${p[@]}" "$url" write:4096:2048:34 sync)"
	assert_match 'first=11' "$("${p[@]}" "$url" read:4096:8)"
	assert_eq 'status=0' "$("${p[@]}" "$url" write:4096:2048:34)"
	assert_match 'first=22' "$("${p[@]}" "$url" read:6143:1)"

	note "ua"
	arm p ua op=read
	assert_eq $'status=2 key=6 asc=2900\n'"$good" "$("${p[@]}" "$url" read:0:8 read:0:8)"

	note "sense, in a range of blocks"
	arm p sense count=0 op=read lba=100-101 key=3 asc=0x11
	assert_eq $'status=2 key=3 asc=1100\nstatus=2 key=3 asc=1100\nstatus=0\nstatus=0' \
		"$("${p[@]}" "$url" read:96:8 read:101:1 read:102:8 read:99:1 | sed 's/ bytes.*//')"
	disarm p sense

	note "short"
	arm p short
	out=$("${p[@]}" "$url" read:0:8 read:0:8)
	assert_match '^status=0 bytes=2048 underflow=2048 ' "$out"
	assert_eq "$good" "$(tail -n 1 <<< "$out")"
	arm p short blocks=0
	assert_eq 'status=0 bytes=0 underflow=4096' "$("${p[@]}" "$url" read:0:8)"

	note "flip"
	arm p flip
	out=$("${p[@]}" "$url" read:0:8 read:0:8)
	assert_match '^status=0 bytes=4096 ' "$out"
	[ "$(head -n 1 <<< "$out")" != "$good" ] || fail "flip changed nothing"
	assert_eq "$good" "$(tail -n 1 <<< "$out")"

	note "cut"
	for at in command answer; do
		arm p cut op=read at=$at
		must_fail "${p[@]}" "$url" tur read:0:8
		assert_match $'^status=0\nlost: ' "$OUTPUT" "cut at=$at"
		wait_fired p cut
	done
	arm p cut
	must_fail "${p[@]}" "$url" tur
	assert_eq 'status=0' "$("${p[@]}" "$url" tur)"

	note "drop"
	for at in command answer; do
		arm p drop op=read at=$at
		must_fail "${p[@]}" "$url" tur read:0:8
		assert_eq $'status=0\nlost: no answer' "$OUTPUT" "drop at=$at"
	done
done

note "flip in the header is what header digests are for"
arm p flip at=header
must_fail "$probe" --digest "$url" read:0:8
assert_match '^lost: ' "$OUTPUT"

note "stall"
arm p stall
must_fail "$probe" "$url" tur
assert_eq "lost: no answer" "$OUTPUT"
disarm p stall
assert_eq "$good" "$("$probe" "$url" read:0:8)"

note "refuse"
arm p refuse
must_fail "$probe" "$url" tur
assert_match '^lost: ' "$OUTPUT"
disarm p refuse
# What was disarmed holds from the next look of the proxy on.
wait_until 5 "$probe" "$url" tur

note "slow"
arm p slow bytes_per_second=1048576
began=${EPOCHREALTIME/./}
"$probe" "$url" read:0:4096 > /dev/null
took=$(((${EPOCHREALTIME/./} - began) / 1000))
[ "$took" -gt 1000 ] || fail "2 MiB at 1 MiB/s took $took ms"
disarm p slow

note "a rate is a rate, and the seed repeats it"
arm p busy count=0 rate=50 op=read
reads=()
for ((i = 0; i < 64; i++)); do reads+=(read:0:1); done
busy=$("$probe" "$url" "${reads[@]}" | grep -c '^status=8')
if [ "$busy" -lt 10 ] || [ "$busy" -gt 54 ]; then fail "$busy of 64 at a rate of 50 %"; fi
disarm p busy

note "it counts what it forwards"
wait_until 5 "$probe" "$url" read:0:1
before=$(proxy_count p read_bytes)
"$probe" "$url" read:0:8 read:0:8 > /dev/null
assert_eq 8192 $(($(proxy_count p read_bytes) - before)) "read_bytes"
