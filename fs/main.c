/* SPDX-License-Identifier: BSD-2-Clause */
/* lunfs(8): the program. */

#include <stdio.h>
#include <string.h>

#include "conf/log.h"
#include "fs/daemon.h"
#include "fs/options.h"
#include "fs/precheck.h"
#include "fs/stop.h"

enum { EXIT_USAGE = 2 };

static int run(const struct options *options)
{
	switch (options->action) {
	case OPTIONS_HELP:
		fputs(options_help, stdout);
		return 0;
	case OPTIONS_VERSION:
		puts(PACKAGE_STRING);
		return 0;
	case OPTIONS_CHECK:
		return precheck_run(options->config_path);
	case OPTIONS_STOP:
		return stop_run(options->mountpoint, options->force);
	case OPTIONS_RUN:
		break;
	}
	return daemon_run(options);
}

int main(int argc, char **argv)
{
	struct options options;
	char error[512];
	int code;

	if (options_parse(argc, argv, &options, error, sizeof(error)) < 0) {
		log_error("lunfs: %s\nsee lunfs --help", error);
		return EXIT_USAGE;
	}
	code = run(&options);
	if (fflush(stdout) != 0 && code == 0) {
		log_error("lunfs: writing to standard output failed");
		return 1;
	}
	return code;
}
