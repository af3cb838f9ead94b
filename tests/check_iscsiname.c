/* SPDX-License-Identifier: BSD-2-Clause */
#include "tests/unit.h"

#include <errno.h>

#include "conf/iscsiname.h"

#define A50 "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define A200 A50 A50 A50 A50

START_TEST(names)
{
	static const struct {
		const char *name;
		int r;
	} rows[] = {
		{ "iqn.2026-01.org.example", 0 },
		{ "iqn.2026-01.org.example:disk.0-a:b", 0 },
		{ "iqn.2026-01.org.example:\xc3\xa4", 0 },
		{ "iqn.2026-01.org.example:DISK_0;b", 0 },
		{ "iqn.2026-01.a:" A200 "123456789", 0 },
		{ "iqn.2026-01.a:" A200 "1234567890", -ENAMETOOLONG },
		{ "eui.0123456789abcDEF", 0 },
		{ "naa.0123456789abcdef", 0 },
		{ "naa.0123456789abcdef0123456789abcdef", 0 },
		{ "", -EINVAL },
		{ "iqn.", -EINVAL },
		{ "iqn.2026-01", -EINVAL },
		{ "iqn.2026-01.", -EINVAL },
		{ "iqn.2026-01.:x", -EINVAL },
		{ "iqn.26-01.a", -EINVAL },
		{ "iqn.2026-1.a", -EINVAL },
		{ "iqn.2026-01.a b", -EINVAL },
		{ "iqn.2026-01.a/b", -EINVAL },
		{ "iqn.2026-01.a@b", -EINVAL },
		{ "iqn.2026-01.a?b", -EINVAL },
		{ "iqn.2026-01.a%b", -EINVAL },
		{ "iqn.2026-01.a\tb", -EINVAL },
		{ "IQN.2026-01.a", -EINVAL },
		{ "eui.0123456789abcde", -EINVAL },
		{ "eui.0123456789abcdefg", -EINVAL },
		{ "eui.0123456789abcdeg", -EINVAL },
		{ "naa.0123456789abcdef0", -EINVAL },
		{ "disk", -EINVAL },
	};

	for (size_t i = 0; i < ROWS(rows); i++)
		ROW_EQ(rows[i].name, iscsiname_check(rows[i].name), rows[i].r);
}
END_TEST

START_TEST(portals)
{
	static const struct {
		const char *text;
		const char *portal; /* NULL: refused */
	} rows[] = {
		{ "host", "host:3260" },
		{ "host:3261", "host:3261" },
		{ "10.0.0.1", "10.0.0.1:3260" },
		{ "a-b.example.org:65535", "a-b.example.org:65535" },
		{ "[::1]", "[::1]:3260" },
		{ "[fe80::1%eth0]:860", "[fe80::1%eth0]:860" },
		{ "[2001:db8::10.0.0.1]:1", "[2001:db8::10.0.0.1]:1" },
		{ "", NULL },
		{ ":3260", NULL },
		{ "host:", NULL },
		{ "host:0", NULL },
		{ "host:65536", NULL },
		{ "host:99999999999999999999999", NULL },
		{ "host:32 60", NULL },
		{ "host:1:2", NULL },
		{ "::1", NULL },
		{ "[::1", NULL },
		{ "[::1]x", NULL },
		{ "[]", NULL },
		{ "[host]", NULL },
		{ "[::1%]", NULL },
		{ "[::1%a/b]", NULL },
		{ "-host", NULL },
		{ ".host", NULL },
		{ "ho st", NULL },
		{ "user@host", NULL },
		{ "user%secret@host", NULL },
		{ "host/x", NULL },
		{ A200 A50 "aaa", A200 A50 "aaa:3260" },
		{ A200 A50 "aaaa", NULL },
		{ "[" A200 A200 "]", NULL },
	};

	for (size_t i = 0; i < ROWS(rows); i++) {
		char portal[ISCSINAME_PORTAL_SIZE] = "kept";
		int r = iscsiname_portal(rows[i].text, portal);

		ROW_EQ(rows[i].text, r, rows[i].portal ? 0 : -EINVAL);
		ROW_STR_EQ(rows[i].text, portal,
			   rows[i].portal ? rows[i].portal : "kept");
	}
}
END_TEST

START_TEST(luns)
{
	static const struct {
		const char *text;
		int r;
		unsigned lun;
	} rows[] = {
		{ "0", 0, 0 },
		{ "16383", 0, 16383 },
		{ "16384", -EINVAL, 0 },
		{ "-1", -EINVAL, 0 },
		{ "", -EINVAL, 0 },
		{ "1a", -EINVAL, 0 },
		{ "4294967296", -EINVAL, 0 },
	};

	for (size_t i = 0; i < ROWS(rows); i++) {
		unsigned lun = 99;

		ROW_EQ(rows[i].text, iscsiname_lun(rows[i].text, &lun), rows[i].r);
		ROW_EQ(rows[i].text, lun, rows[i].r ? 99 : rows[i].lun);
	}
}
END_TEST

int main(void)
{
	const TTest *const tests[] = { names, portals, luns };

	return unit_main("iscsiname", tests, ROWS(tests));
}
