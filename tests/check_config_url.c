/* SPDX-License-Identifier: BSD-2-Clause */
#include "tests/unit.h"

#include <errno.h>

#include "conf/config.h"

START_TEST(urls_have_one_canonical_form)
{
	static const struct {
		const char *text;
		const char *canonical; /* NULL: refused */
		const char *error;
	} rows[] = {
		{ "iscsi://h/iqn.2026-01.a:b/0", "iscsi://h:3260/iqn.2026-01.a:b/0",
		  NULL },
		{ "iscsi://h:1/iqn.2026-01.a:b/16383",
		  "iscsi://h:1/iqn.2026-01.a:b/16383", NULL },
		{ "iscsi://[fe80::1%eth0]/eui.0123456789abcdef/007",
		  "iscsi://[fe80::1%eth0]:3260/eui.0123456789abcdef/7", NULL },
		{ "file:///x", "file:///x", NULL },
		{ "file:////x//y", "file:///x/y", NULL },
		{ "file:///a b;c?d@e#%20", "file:///a b;c?d@e#%20", NULL },
		{ "", NULL, "no URL" },
		{ "/x", NULL, "write iscsi://PORTAL/IQN/LUN or file:///PATH" },
		{ "iscsi:/h/iqn.2026-01.a:b/0", NULL, "no URL" },
		{ "ISCSI://h/iqn.2026-01.a:b/0", NULL, "no URL" },
		{ "iscsi://", NULL, "not iscsi://PORTAL/IQN/LUN" },
		{ "iscsi://h", NULL, "not iscsi://PORTAL/IQN/LUN" },
		{ "iscsi://h/iqn.2026-01.a:b", NULL, "not iscsi://PORTAL/IQN/LUN" },
		{ "iscsi://h/iqn.2026-01.a:b/", NULL, "LUN is no number" },
		{ "iscsi://h/iqn.2026-01.a:b/x", NULL, "LUN is no number" },
		{ "iscsi://h/iqn.2026-01.a:b/16384", NULL, "LUN is no number" },
		{ "iscsi://h/iqn.2026-01.a:b/0/1", NULL, "no iSCSI name" },
		{ "iscsi://h//0", NULL, "no iSCSI name" },
		{ "iscsi://h/disk/0", NULL, "no iSCSI name" },
		{ "iscsi:///iqn.2026-01.a:b/0", NULL, "portal is none" },
		{ "iscsi://h:0/iqn.2026-01.a:b/0", NULL, "portal is none" },
		{ "iscsi://::1/iqn.2026-01.a:b/0", NULL, "portal is none" },
		{ "iscsi://u%s3cret@h/iqn.2026-01.a:b/0", NULL, "no user or password" },
		{ "iscsi://u:s3cret@h/iqn.2026-01.a:b/0", NULL, "no user or password" },
		{ "iscsi://u%s3c/ret@h/iqn.2026-01.a:b/0", NULL, "no user or password" },
		{ "iscsi://u%s3cret", NULL, "no user or password" },
		{ "iscsi://h/iqn.2026-01.a:b/0?target_password=s3cret", NULL,
		  "no options" },
		{ "file://h/x", NULL, "not absolute" },
		{ "file:/x", NULL, "not absolute" },
		{ "file:x", NULL, "not absolute" },
		{ "file:///", NULL, "ends with a /" },
		{ "file:///x/", NULL, "ends with a /" },
		{ "file:///x\ny", NULL, "control character" },
		{ "rbd:pool/image", NULL, "rbd is not built in" },
		{ "null:1G", NULL, "no URL" },
		{ "fault:x:null:1G", NULL, "no URL" },
	};

	unsetenv("LUNFS_TEST_BACKENDS");
	for (size_t i = 0; i < ROWS(rows); i++) {
		struct config_url url = { .lun = 99 };
		char error[256] = "", text[4200] = "";
		int r = config_parse_url(rows[i].text, &url, error, sizeof(error));

		ROW_EQ(rows[i].text, r, rows[i].canonical ? 0 : -EINVAL);
		ck_assert_ptr_null(strstr(error, "s3c"));
		ck_assert_ptr_null(strchr(error, '\n'));
		if (rows[i].canonical) {
			ROW_EQ(rows[i].text, config_format_url(&url, text, sizeof(text)),
			       0);
			ROW_STR_EQ(rows[i].text, text, rows[i].canonical);
			ROW_EQ(text, config_parse_url(text, &url, error, sizeof(error)),
			       0);
		} else {
			ROW_HAS(rows[i].text, error, rows[i].error);
			ck_assert_uint_eq(url.lun, 99);
		}
	}
}
END_TEST

START_TEST(test_back_ends_need_the_environment)
{
	struct config_url url;
	char error[256], text[64];

	setenv("LUNFS_TEST_BACKENDS", "1", 1);
	ck_assert_int_eq(config_parse_url("null:1G", &url, error, sizeof(error)), 0);
	ck_assert_int_eq(url.scheme, CONFIG_URL_NULL);
	ck_assert_uint_eq(url.size, 1u << 30);
	ck_assert_int_eq(config_format_url(&url, text, sizeof(text)), 0);
	ck_assert_str_eq(text, "null:1073741824");
	ck_assert_int_eq(
		config_parse_url("fault:read=EIO:null:1M", &url, error, sizeof(error)),
		0);
	ck_assert_int_eq(url.scheme, CONFIG_URL_FAULT);
	ck_assert_str_eq(url.path, "read=EIO:null:1M");
	ck_assert_int_eq(config_format_url(&url, text, sizeof(text)), 0);
	ck_assert_str_eq(text, "fault:read=EIO:null:1M");
	ck_assert_int_eq(config_parse_url("null:big", &url, error, sizeof(error)),
			 -EINVAL);
	ck_assert_int_eq(config_parse_url("fault:x", &url, error, sizeof(error)),
			 -EINVAL);
}
END_TEST

START_TEST(urls_may_be_too_long)
{
	char text[5000], buf[16], error[256];
	struct config_url url;

	memset(text, 'x', sizeof(text));
	memcpy(text, "file:///", 8);
	text[7 + 4095] = '\0';
	ck_assert_int_eq(config_parse_url(text, &url, error, sizeof(error)), 0);
	ck_assert_int_eq(config_format_url(&url, buf, sizeof(buf)), -ENAMETOOLONG);
	text[7 + 4095] = 'x';
	text[7 + 4096] = '\0';
	ck_assert_int_eq(config_parse_url(text, &url, error, sizeof(error)), -EINVAL);
	memcpy(text, "iscsi://", 8);
	ck_assert_int_eq(config_parse_url(text, &url, error, sizeof(error)), -EINVAL);
	text[1000] = text[2000] = '/';
	ck_assert_int_eq(config_parse_url(text, &url, error, sizeof(error)), -EINVAL);
	memcpy(text, "iscsi://h/", 10);
	text[1000] = '/';
	text[1001] = '0';
	text[1002] = '\0';
	ck_assert_int_eq(config_parse_url(text, &url, error, sizeof(error)), -EINVAL);
	ROW_HAS("long target", error, "longer than 223 bytes");
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
		urls_have_one_canonical_form,
		test_back_ends_need_the_environment,
		urls_may_be_too_long,
	};

	return unit_main("config_url", tests, ROWS(tests));
}
