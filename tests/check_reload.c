/* SPDX-License-Identifier: BSD-2-Clause */
#include "tests/unit.h"

#include "conf/config.h"
#include "fs/reload.h"

#define BASE "[daemon]\nstate_dir = /var/tmp/s\n"

static struct config *parse(const char *text)
{
	struct config *config = NULL;
	char *error = NULL;
	int r = config_parse("test.conf", text, strlen(text), &config, &error);

	ck_assert_msg(r == 0, "%s: %s", text, error);
	return config;
}

static void is_same(const char *text, bool same)
{
	struct config *before = parse(BASE), *after = parse(text);

	ROW_EQ(text, reload_same_daemon(&before->daemon, &after->daemon), same);
	config_free(before);
	config_free(after);
}

START_TEST(a_change_of_daemon_is_seen)
{
	is_same(BASE, true);
	is_same(BASE "io_timeout = 40\n", false);
	is_same(BASE "copy_memory = 128M\n", false);
	is_same(BASE "mode = 0600\n", false);
	is_same("[daemon]\nstate_dir = /var/tmp/t\n", false);
}
END_TEST

START_TEST(other_sections_do_not_count)
{
	is_same(BASE "[element b]\nurl = file:///b\n", true);
	is_same(BASE "[setting s]\nshared_method = reserve\n", true);
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
		a_change_of_daemon_is_seen,
		other_sections_do_not_count,
	};

	return unit_main("reload", tests, ROWS(tests));
}
