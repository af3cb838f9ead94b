#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
#
# The tables of lunfs-control(5), as it was built, are those of the code, row by row; it
# speaks of every operation; and the page has no mistake in its markup.
set -u
export LC_ALL=C

top=${top_srcdir:-$(dirname "$0")/..}
build=${top_builddir:-$top}
page=$build/engine/lunfs-control.5
tmp=$(mktemp -d) || exit 99
trap 'rm -rf "$tmp"' EXIT
failed=0

if [ ! -x "$build/tests/check_transition" ]; then
	echo "tests/check_transition is not built: it needs the library check"
	exit 77
fi
[ -s "$page" ] || { echo "$page was not built"; exit 1; }
"$build/tests/check_transition" --rows > "$tmp/code" || exit 1
[ "$(wc -l < "$tmp/code")" -gt 20 ] || { echo "check_transition --rows prints too little"; exit 1; }

# rows PAGE: the tables of TRANSITIONS in the form of check_transition --rows.
rows()
{
	awk '
		function bits(text,   n, f, i, sum) {
			sum = 0
			if (sub(/ \(complete: as before\)/, "", text) || text == "as before") {
				sum = 1
				sub(/^as before$/, "", text)
			}
			n = split(text, f, ", ")
			for (i = 1; i <= n; i++) {
				if (f[i] == "no relationship")
					f[i] = "Not Applicable"
				if (f[i] in bit)
					sum += bit[f[i]]
				else if (f[i] != "\\-")
					sum += 1e9
			}
			return sprintf("%x", sum)
		}
		FNR == NR {
			if (match($0, /X\(CIM_COPY_[A-Z_]+, [0-9]+, "/)) {
				split($0, f, /, */)
				split($0, q, "\"")
				bit[q[2]] = 2 ^ f[2]
			}
			next
		}
		/^\.SS/ { on = $2 == "Snapshot" || $2 == "Clone"; type = $2; n = 0 }
		!on || /^\.|^T\{$|^l|^Operation/ { next }
		{
			gsub(/T\}|T\{/, "")
			sub(/^\t/, "")
			sub(/\t$/, "")
			if ($0 != "")
				cell[++n] = $0
		}
		n == 5 {
			number = cell[1]
			gsub(/.*\(|\)/, "", number)
			from = cell[2]
			then = from ~ /only while/ ? "only" : from ~ /also while/ ? "also" : ""
			sub(/;.*/, "", from)
			print type, number, bits(from) then, cell[3], bits(cell[4]), bits(cell[5])
			n = 0
		}' "$top/conf/cim.h" "$1"
}

# The comparison sees another state, another code and a row that is missing.
for change in '0,/^Inactive$/s//Aborted/' '0,/\t4096\t/s//\t0\t/' '0,/^Verify (32768)$/{/^Verify (32768)$/d}'; do
	sed "$change" "$page" > "$tmp/changed.5"
	if rows "$tmp/changed.5" | cmp -s - "$tmp/code"; then
		echo "the test does not notice: $change"
		exit 1
	fi
done

rows "$page" > "$tmp/man"
if ! diff -u --label lunfs-control.5 --label transition.c "$tmp/man" "$tmp/code"; then
	echo "the tables of lunfs-control(5) and of the code differ"
	failed=1
fi

# Every operation of the ValueMap has its number there.
sed -n '/^#define CIM_OPERATION(X)/,/[^\\]$/s/.*, \([0-9]*\), "\(.*\)").*/\2 (\1)/p' \
	"$top/conf/cim.h" > "$tmp/operations"
[ "$(wc -l < "$tmp/operations")" = 27 ] || { echo "27 operations, not:"; cat "$tmp/operations"; failed=1; }
while read -r operation; do
	grep -qF "$operation" "$page" || { echo "the page does not have $operation"; failed=1; }
done < "$tmp/operations"
if grep '@' "$page" | grep -v '^\.\\"'; then
	echo "something was not put in its place"
	failed=1
fi

# No other copy of the table is kept by hand.
if grep -n 'From Synchronized\|From Unsynchronized\|: from Synchronized' "$top"/*/*.[58] "$top"/*/*.5.in; then
	echo "a page says from which CopyStates an operation is allowed; lunfs-control(5) does"
	failed=1
fi

if command -v groff > /dev/null && command -v tbl > /dev/null; then
	groff -P-cbou -t -ww -man -Tutf8 "$page" 2> "$tmp/warnings" > "$tmp/text"
	[ ! -s "$tmp/warnings" ] || { cat "$tmp/warnings"; failed=1; }
	grep -q RequestedState "$tmp/text" || { echo "nothing was formatted"; failed=1; }
fi
exit "$failed"
