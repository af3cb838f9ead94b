#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
#
# The commands of lunfs-spec(5)'s EXAMPLES, as they stand there, one after the other in
# one shell; and what stands behind a # is what they print, in that order.
. "${top_srcdir:-$(dirname "$0")/..}/tests/lib.sh"
need_lunfs

page=${top_builddir:-$top_srcdir}/conf/lunfs-spec.5
[ -e "$page" ] || fail "$page is not built"
for e in db0 log0; do
	fill_random "$T/$e" 1M
	printf '[element %s]\nurl = file://%s\naccess = exclusive\n' $e "$T/$e"
done | write_conf
start_lunfs
mkdir "$MNT/groups/prod"
echo "db0 log0" > "$MNT/groups/prod/members"

# The indented lines, without roff's escapes; comments of their own stay.
awk '/^\.SH/ { on = /EXAMPLES/ } /^\.E[XE]/ { block = /EX/; next } on && block' "$page" |
	sed 's/^    //; s/\\-/-/g; s/\\e/\\/g' > "$T/commands"
[ "$(wc -l < "$T/commands")" -gt 25 ] || fail "EXAMPLES has too few commands"
sed -n 's/^[^#].*[^ ]  *# //p' "$T/commands" > "$T/said"
[ "$(wc -l < "$T/said")" -gt 10 ] || fail "EXAMPLES says of too few commands what they print"

sed "s,/tmp/call,$T/call,g" "$T/commands" > "$T/script"
(cd "$MNT" && timeout 60 bash -eu "$T/script") < /dev/null > "$T/out" 2> "$T/trace" ||
	fail "exit code $?: $(cat "$T/out" "$T/trace")"
diff -u --label EXAMPLES --label "what is printed" "$T/said" "$T/out" ||
	fail "EXAMPLES prints something else"
note "$(wc -l < "$T/script") lines of EXAMPLES, $(wc -l < "$T/said") of output"
stop_lunfs
