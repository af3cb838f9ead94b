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

START_TEST(names_of_elements)
{
	static const struct {
		const char *target;
		unsigned lun;
		const char *name;
	} rows[] = {
		{ "iqn.2026-01.org.example:disk.0-a:B", 0,
		  "iqn.2026-01.org.example_disk.0-a_B_0" },
		{ "iqn.2026-01.org.example", 16383, "iqn.2026-01.org.example_16383" },
		{ "eui.0123456789abcDEF", 1, "eui.0123456789abcDEF_1" },
		/* 40 bytes, and one more */
		{ "iqn.2026-01.org.example:1234567890abcd", 7,
		  "iqn.2026-01.org.example_1234567890abcd_7" },
		{ "iqn.2026-01.org.example:1234567890abcde", 7,
		  "b032ab2a7b18_g.example_1234567890abcde_7" },
		{ "iqn.2026-01.org.example:1234567890abcd", 17,
		  "efbfe182284d_g.example_1234567890abcd_17" },
		/* what another target would be called too */
		{ "iqn.2026-01.a:b_c", 0, "ce98bfee6516_iqn.2026-01.a_b_c_0" },
		{ "iqn.2026-01.a:b:c", 0, "iqn.2026-01.a_b_c_0" },
		{ "iqn.2026-01.a:\xc3\xa4;", 0, "95cda8ec9161_iqn.2026-01.a_____0" },
		{ "naa.0123456789abcdef0123456789abcdef", 16383,
		  "7ef07dd1ce47_bcdef0123456789abcdef_16383" },
	};

	for (size_t i = 0; i < ROWS(rows); i++) {
		char name[NAME_ELEMENT_MAX_LEN + 1];

		iscsiname_element(rows[i].target, rows[i].lun, name);
		ROW_STR_EQ(rows[i].target, name, rows[i].name);
		ROW_EQ(rows[i].target, name_check(name, NAME_ELEMENT_MAX_LEN), 0);
	}
}
END_TEST

/* Two of one name have one target and LUN. */
START_TEST(fuzz_names_of_elements)
{
	enum { N = 2000 };
	static const char letters[] = "ab:_.-;\xc3";
	struct unit_random random = unit_random_start("iscsiname");
	static char targets[N][ISCSINAME_MAX_LEN + 1],
		elements[N][NAME_ELEMENT_MAX_LEN + 1];
	static unsigned numbers[N];

	for (unsigned i = 0; i < N; i++) {
		size_t len = (size_t)snprintf(targets[i], sizeof(targets[i]), "%s",
					      "iqn.2026-01.a:");
		size_t end = len + unit_random_below(&random, i % 2 ? 200 : 4);

		for (; len < end; len++)
			targets[i][len] =
				letters[unit_random_below(&random, sizeof(letters) - 1)];
		numbers[i] = unit_random_below(&random, i % 3 ? 2 : 16384);
		ck_assert_int_eq(iscsiname_check(targets[i]), 0);
		iscsiname_element(targets[i], numbers[i], elements[i]);
		ROW_EQ(elements[i], name_check(elements[i], NAME_ELEMENT_MAX_LEN), 0);
	}
	for (unsigned i = 0; i < N; i++)
		for (unsigned j = 0; j < i; j++)
			if (!strcmp(elements[i], elements[j])) {
				ck_assert_str_eq(targets[i], targets[j]);
				ck_assert_uint_eq(numbers[i], numbers[j]);
			}
}
END_TEST

int main(void)
{
	const TTest *const tests[] = { names, portals, luns, names_of_elements,
				       fuzz_names_of_elements };

	return unit_main("iscsiname", tests, ROWS(tests));
}
