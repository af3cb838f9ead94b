/* SPDX-License-Identifier: BSD-2-Clause */
#include "tests/unit.h"

#include "conf/config.h"
#include "fs/reload.h"

#define BASE                                 \
	"[daemon]\nstate_dir = /var/tmp/s\n" \
	"[pool p]\ntype = dir\npath = /p\n"  \
	"[element a]\nurl = file:///a\n"     \
	"[element b]\nurl = file:///b\n"

static struct config *parse(const char *text)
{
	struct config *config = NULL;
	char *error = NULL;
	int r = config_parse("test.conf", text, strlen(text), &config, &error);

	ck_assert_msg(r == 0, "%s: %s", text, error);
	return config;
}

static void changed(const char *text, unsigned n, const char *list)
{
	CLEANUP_STRBUF struct strbuf b = STRBUF_INIT;
	struct config *before = parse(BASE), *after = parse(text);

	ROW_EQ(text, reload_changes(before, after, &b), n);
	ROW_STR_EQ(text, b.s, list);
	config_free(before);
	config_free(after);
}

START_TEST(what_differs_is_named)
{
	changed(BASE, 0, "");
	changed(BASE "[element c]\nurl = file:///c\n", 1, "[element c] (new)");
	changed("[daemon]\nstate_dir = /var/tmp/s\n[pool p]\ntype = dir\npath = /p\n"
		"[element b]\nurl = file:///b\naccess = exclusive\n",
		2, "[element b] (changed), [element a] (gone)");
	changed("[daemon]\nstate_dir = /var/tmp/s\nio_timeout = 40\n"
		"[pool p]\ntype = dir\npath = /q\n"
		"[element a]\nurl = file:///a\nio_timeout = 30\n"
		"[element b]\nurl = file:///b\nio_timeout = 30\n",
		2, "[daemon] (changed), [pool p] (changed)");
	changed(BASE "[setting s]\nshared_method = reserve\n"
		     "[access_point x]\nportal = 127.0.0.1\n",
		2, "[access_point x] (new), [setting s] (new)");
}
END_TEST

START_TEST(the_order_of_sections_does_not_count)
{
	changed("[element b]\nurl = file:///b\n"
		"[element a]\nurl = file:///a\n"
		"[pool p]\npath = /p\ntype = dir\n"
		"[daemon]\nstate_dir = /var/tmp/s\n",
		0, "");
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
		what_differs_is_named,
		the_order_of_sections_does_not_count,
	};

	return unit_main("reload", tests, ROWS(tests));
}
