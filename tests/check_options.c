/* SPDX-License-Identifier: BSD-2-Clause */
#include "tests/unit.h"

#include <errno.h>

#include "fs/options.h"

enum { MAX_ARGS = 12 };

/* Parses a command line written with blanks; `_` stands for an empty argument. */
static int parse(const char *line, struct options *options, char *error, size_t size)
{
	static char copy[1024];
	char *argv[MAX_ARGS + 1];
	int argc = 0;

	snprintf(copy, sizeof(copy), "%s", line);
	for (char *word = strtok(copy, " "); word; word = strtok(NULL, " ")) {
		ck_assert_int_lt(argc, MAX_ARGS);
		argv[argc++] = strcmp(word, "_") ? word : word + 1;
	}
	argv[argc] = NULL;
	return options_parse(argc, argv, options, error, size);
}

START_TEST(a_command_line_is_understood)
{
	static const struct {
		const char *line;
		enum options_action action;
		bool foreground, force;
		const char *config, *mountpoint, *mount_options;
	} rows[] = {
		{ "lunfs /m", OPTIONS_RUN, false, false, OPTIONS_DEFAULT_CONFIG, "/m",
		  "" },
		{ "lunfs -f -c x.conf /m", OPTIONS_RUN, true, false, "x.conf", "/m", "" },
		{ "lunfs /m -f --config=x", OPTIONS_RUN, true, false, "x", "/m", "" },
		{ "lunfs --foreground -- -m", OPTIONS_RUN, true, false,
		  OPTIONS_DEFAULT_CONFIG, "-m", "" },
		{ "lunfs -o noexec,rw -onoatime /m", OPTIONS_RUN, false, false,
		  OPTIONS_DEFAULT_CONFIG, "/m", "noexec,noatime" },
		{ "lunfs -o rw,dev,suid /m", OPTIONS_RUN, false, false,
		  OPTIONS_DEFAULT_CONFIG, "/m", "" },
		{ "lunfs -o ,, /m", OPTIONS_RUN, false, false, OPTIONS_DEFAULT_CONFIG,
		  "/m", "" },
		{ "lunfs -o context=u:o:t:s0\\,c1,noexec /m", OPTIONS_RUN, false, false,
		  OPTIONS_DEFAULT_CONFIG, "/m", "context=u:o:t:s0\\,c1,noexec" },
		{ "lunfs --check", OPTIONS_CHECK, false, false, OPTIONS_DEFAULT_CONFIG,
		  NULL, "" },
		{ "lunfs --check -c x", OPTIONS_CHECK, false, false, "x", NULL, "" },
		{ "lunfs --stop /m", OPTIONS_STOP, false, false, OPTIONS_DEFAULT_CONFIG,
		  "/m", "" },
		{ "lunfs /m --force --stop", OPTIONS_STOP, false, true,
		  OPTIONS_DEFAULT_CONFIG, "/m", "" },
		{ "lunfs --help --nonsense", OPTIONS_HELP, false, false,
		  OPTIONS_DEFAULT_CONFIG, NULL, "" },
		{ "lunfs -V", OPTIONS_VERSION, false, false, OPTIONS_DEFAULT_CONFIG, NULL,
		  "" },
	};

	for (size_t i = 0; i < ROWS(rows); i++) {
		struct options o;
		char error[512] = "";

		ROW_EQ(rows[i].line, parse(rows[i].line, &o, error, sizeof(error)), 0);
		ROW_STR_EQ(rows[i].line, error, "");
		ROW_EQ(rows[i].line, o.action, rows[i].action);
		ROW_EQ(rows[i].line, o.foreground, rows[i].foreground);
		ROW_EQ(rows[i].line, o.force, rows[i].force);
		ROW_STR_EQ(rows[i].line, o.config_path, rows[i].config);
		ROW_STR_EQ(rows[i].line, o.mountpoint ? o.mountpoint : "(null)",
			   rows[i].mountpoint ? rows[i].mountpoint : "(null)");
		ROW_STR_EQ(rows[i].line, o.mount_options, rows[i].mount_options);
	}
}
END_TEST

START_TEST(a_wrong_command_line_is_refused_with_the_reason)
{
	static const struct {
		const char *line, *part;
	} rows[] = {
		{ "lunfs", "MOUNTPOINT is missing" },
		{ "lunfs _", "MOUNTPOINT is missing" },
		{ "lunfs /a /b", "\"/b\" is too much" },
		{ "lunfs -x /m", "there is no option -x" },
		{ "lunfs --chekc", "did you mean \"--check\"?" },
		{ "lunfs --check=yes", "takes no value" },
		{ "lunfs -c", "\"-c\" needs a value" },
		{ "lunfs -c _ /m", "-c needs a file" },
		{ "lunfs --check /m", "--check takes no MOUNTPOINT" },
		{ "lunfs --check --stop /m", "exclude each other" },
		{ "lunfs --stop", "MOUNTPOINT is missing: lunfs --stop" },
		{ "lunfs --stop -f /m", "no -f, -c or -o" },
		{ "lunfs --stop -c x /m", "no -f, -c or -o" },
		{ "lunfs --stop -o rw /m", "no -f, -c or -o" },
		{ "lunfs --force /m", "--force goes with --stop" },
		{ "lunfs -o debug /m", "needs -f" },
		{ "lunfs -o allow_other /m", "allow_other = yes in [daemon]" },
		{ "lunfs -o allow_root /m", "allow_other = yes in [daemon]" },
		{ "lunfs -o default_permissions /m", "checks permissions itself" },
		{ "lunfs -o auto_unmount /m", "at its next start" },
		{ "lunfs -o rw,ro /m", "-o ro: " },
		{ "lunfs -o fsname=x /m", "-o fsname=x: it is always lunfs" },
		{ "lunfs -o subtype=x /m", "it is always lunfs" },
		{ "lunfs -o max_read=4096 /m", "size of requests" },
		{ "lunfs -o nonempty /m", "is taken anyway" },
		{ "lunfs -o noexc /m", "did you mean \"noexec\"?" },
		{ "lunfs -o noexecute /m", "there is no option \"noexecute\"" },
	};

	for (size_t i = 0; i < ROWS(rows); i++) {
		struct options o;
		char error[512] = "";

		ROW_EQ(rows[i].line, parse(rows[i].line, &o, error, sizeof(error)),
		       -EINVAL);
		ROW_HAS(rows[i].line, error, rows[i].part);
		ck_assert_msg(!strchr(error, '\n'), "%s: %s", rows[i].line, error);
	}
}
END_TEST

START_TEST(mount_options_that_do_not_fit_are_refused)
{
	char line[1000] = "lunfs -o context=";
	char error[512] = "";
	struct options o;

	memset(line + strlen(line), 'x', 600);
	strcat(line, " /m");
	ck_assert_int_eq(parse(line, &o, error, sizeof(error)), -EINVAL);
	ROW_HAS("long", error, "more than 511 bytes");
}
END_TEST

START_TEST(help_names_every_option)
{
	static const char *const options[] = { "--config", "--foreground", "--check",
					       "--stop",   "--force",	   "--help",
					       "--version" };

	for (size_t i = 0; i < ROWS(options); i++)
		ROW_HAS("help", options_help, options[i]);
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
		a_command_line_is_understood,
		a_wrong_command_line_is_refused_with_the_reason,
		mount_options_that_do_not_fit_are_refused,
		help_names_every_option,
	};

	return unit_main("options", tests, ROWS(tests));
}
