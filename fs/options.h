/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef LUNFS_OPTIONS_H
#define LUNFS_OPTIONS_H

/* The command line of lunfs(8). */

#include <stdbool.h>
#include <stddef.h>

#define OPTIONS_DEFAULT_CONFIG "/etc/lunfs/lunfs.conf"

enum options_action {
	OPTIONS_RUN,
	OPTIONS_CHECK,
	OPTIONS_STOP,
	OPTIONS_HELP,
	OPTIONS_VERSION,
};

struct options {
	enum options_action action;
	bool foreground;	 /* -f */
	bool force;		 /* --stop --force */
	bool debug;		 /* -o debug: libfuse prints each request */
	const char *config_path; /* as given, or the default */
	const char *mountpoint;	 /* as given; NULL where the action has none */
	char mount_options[512]; /* the -o options that are libfuse's, by commas */
};

/*
 * Parses the command line (getopt_long: argv is reordered, and the options
 * point into it).  0, or -EINVAL with a sentence (no newline) in error.
 */
int options_parse(int argc, char **argv, struct options *options, char *error,
		  size_t error_size);

/* The text of --help. */
extern const char options_help[];

#endif
