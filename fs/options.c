/* SPDX-License-Identifier: BSD-2-Clause */
#include "fs/options.h"

#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "conf/name.h"

const char options_help[] =
	"usage: lunfs [-f] [-c FILE] [-o OPTIONS] MOUNTPOINT\n"
	"       lunfs --check [-c FILE]\n"
	"       lunfs --stop [--force] MOUNTPOINT\n"
	"\n"
	"Mounts a tree in which groups of iSCSI LUNs are cloned, snapshotted and\n"
	"mirrored by mkdir and echo, into images that are ordinary files.\n"
	"\n"
	"  -c, --config=FILE  the configuration (default " OPTIONS_DEFAULT_CONFIG ")\n"
	"  -f, --foreground   stay in the foreground, messages go to stderr; without it\n"
	"                     lunfs returns when the mount is ready, and the daemon's\n"
	"                     messages go to syslog\n"
	"  -o OPTIONS         mount options by commas: noexec, noatime, context=...,\n"
	"                     debug (with -f: print each request)\n"
	"      --check        check the configuration, mount nothing\n"
	"      --stop         end the daemon of MOUNTPOINT and wait for its end; with open\n"
	"                     handles on data or images nothing is changed, they are\n"
	"                     named and the exit code is 1\n"
	"      --force        with --stop: go on though there are open handles\n"
	"  -h, --help         this text\n"
	"  -V, --version      the version\n"
	"\n"
	"exit codes: 0 done, 1 failed, 2 wrong usage\n"
	"see lunfs(8), lunfs-control(5), lunfs.conf(5)\n";

enum { OPTION_CHECK = 256, OPTION_STOP, OPTION_FORCE };

static const struct option long_options[] = {
	{ "check", no_argument, NULL, OPTION_CHECK },
	{ "config", required_argument, NULL, 'c' },
	{ "force", no_argument, NULL, OPTION_FORCE },
	{ "foreground", no_argument, NULL, 'f' },
	{ "help", no_argument, NULL, 'h' },
	{ "stop", no_argument, NULL, OPTION_STOP },
	{ "version", no_argument, NULL, 'V' },
	{ NULL, 0, NULL, 0 },
};

/* What was given, for the check of what goes with what. */
struct given {
	bool check, stop, config, mount_options;
};

static int fail(char *error, size_t size, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

static int fail(char *error, size_t size, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(error, size, fmt, ap);
	va_end(ap);
	return -EINVAL;
}

/* ---- -o ------------------------------------------------------------------ */

enum mount_option_kind {
	MOUNT_OPTION_PASS,   /* libfuse's */
	MOUNT_OPTION_IGNORE, /* a default of mount(8), which means nothing here */
	MOUNT_OPTION_DEBUG,
	MOUNT_OPTION_REFUSE,
};

/* A name that ends in `=` stands for all options that begin so. */
static const struct mount_option {
	const char *name;
	enum mount_option_kind kind;
	const char *reason; /* of MOUNT_OPTION_REFUSE */
} mount_options[] = {
	{ "noexec", MOUNT_OPTION_PASS, NULL },
	{ "noatime", MOUNT_OPTION_PASS, NULL },
	{ "nosuid", MOUNT_OPTION_PASS, NULL },
	{ "nodev", MOUNT_OPTION_PASS, NULL },
	{ "context=", MOUNT_OPTION_PASS, NULL },
	{ "fscontext=", MOUNT_OPTION_PASS, NULL },
	{ "defcontext=", MOUNT_OPTION_PASS, NULL },
	{ "rootcontext=", MOUNT_OPTION_PASS, NULL },
	{ "debug", MOUNT_OPTION_DEBUG, NULL },
	{ "rw", MOUNT_OPTION_IGNORE, NULL },
	{ "exec", MOUNT_OPTION_IGNORE, NULL },
	{ "suid", MOUNT_OPTION_IGNORE, NULL },
	{ "dev", MOUNT_OPTION_IGNORE, NULL },
	{ "atime", MOUNT_OPTION_IGNORE, NULL },
	{ "async", MOUNT_OPTION_IGNORE, NULL },
	{ "allow_other", MOUNT_OPTION_REFUSE,
	  "write allow_other = yes in [daemon] of the configuration" },
	{ "allow_root", MOUNT_OPTION_REFUSE,
	  "write allow_other = yes in [daemon] of the configuration, with user, group "
	  "and mode" },
	{ "default_permissions", MOUNT_OPTION_REFUSE,
	  "LunFS checks permissions itself; leave it out" },
	{ "auto_unmount", MOUNT_OPTION_REFUSE,
	  "LunFS clears the mount of a killed daemon at its next start; leave it out" },
	{ "ro", MOUNT_OPTION_REFUSE,
	  "the tree is driven by writes; who may write is set by user, group and mode "
	  "in [daemon] of the configuration" },
	{ "fsname=", MOUNT_OPTION_REFUSE, "it is always lunfs; leave it out" },
	{ "subtype=", MOUNT_OPTION_REFUSE,
	  "it is always lunfs, by which a LunFS mount is known; leave it out" },
	{ "max_read=", MOUNT_OPTION_REFUSE,
	  "LunFS sets the size of requests itself; leave it out" },
	{ "blksize=", MOUNT_OPTION_REFUSE, "it is for file systems on a device" },
	{ "blkdev", MOUNT_OPTION_REFUSE, "it is for file systems on a device" },
	{ "sync", MOUNT_OPTION_REFUSE,
	  "control writes are durable when they return, data with O_SYNC or fsync; leave "
	  "it out" },
	{ "dirsync", MOUNT_OPTION_REFUSE,
	  "control writes are durable when they return; leave it out" },
	{ "nonempty", MOUNT_OPTION_REFUSE,
	  "a directory that is not empty is taken anyway; leave it out" },
};
enum { N_MOUNT_OPTIONS = sizeof(mount_options) / sizeof(mount_options[0]) };

static bool is_prefix_option(const char *name)
{
	return name[strlen(name) - 1] == '=';
}

static const struct mount_option *find_mount_option(const char *text, size_t len)
{
	for (size_t i = 0; i < N_MOUNT_OPTIONS; i++) {
		const struct mount_option *o = &mount_options[i];
		size_t n = strlen(o->name);

		if (is_prefix_option(o->name) ? n <= len : n == len) {
			if (!memcmp(text, o->name, n))
				return o;
		}
	}
	return NULL;
}

static int unknown_mount_option(const char *text, char *error, size_t error_size)
{
	const char *valid[N_MOUNT_OPTIONS];
	size_t n = 0;

	for (size_t i = 0; i < N_MOUNT_OPTIONS; i++) {
		if (mount_options[i].kind == MOUNT_OPTION_PASS ||
		    mount_options[i].kind == MOUNT_OPTION_DEBUG)
			valid[n++] = mount_options[i].name;
	}
	return fail(error, error_size, "-o: there is no option %s: %s",
		    name_quote(text).s, name_hint(text, valid, n).s);
}

static int take_mount_option(struct options *options, const char *text, size_t len,
			     char *error, size_t error_size)
{
	const struct mount_option *o = find_mount_option(text, len);
	size_t used = strlen(options->mount_options);
	char name[128];

	snprintf(name, sizeof(name), "%.*s", (int)len, text);
	if (!o)
		return unknown_mount_option(name, error, error_size);
	switch (o->kind) {
	case MOUNT_OPTION_REFUSE:
		return fail(error, error_size, "-o %s: %s", name, o->reason);
	case MOUNT_OPTION_DEBUG:
		options->debug = true;
		return 0;
	case MOUNT_OPTION_IGNORE:
		return 0;
	case MOUNT_OPTION_PASS:
		break;
	}
	if (used + len + 2 > sizeof(options->mount_options))
		return fail(error, error_size, "-o: more than %zu bytes of options",
			    sizeof(options->mount_options) - 1);
	if (used)
		options->mount_options[used++] = ',';
	memcpy(options->mount_options + used, text, len);
	options->mount_options[used + len] = '\0';
	return 0;
}

/* The length up to the next comma; one after a backslash belongs to the value,
 * as in libfuse. */
static size_t mount_option_len(const char *text)
{
	size_t i = 0;

	while (text[i] && text[i] != ',')
		i += text[i] == '\\' && text[i + 1] ? 2 : 1;
	return i;
}

static int take_mount_options(struct options *options, const char *text, char *error,
			      size_t error_size)
{
	while (*text) {
		size_t len = mount_option_len(text);
		int r = 0;

		if (len)
			r = take_mount_option(options, text, len, error, error_size);
		if (r < 0)
			return r;
		text += len;
		text += *text == ',';
	}
	return 0;
}

/* ---- the command line ---------------------------------------------------- */

static int unknown_option(char **argv, char *error, size_t error_size)
{
	static const char *const names[] = { "--check",	     "--config", "--force",
					     "--foreground", "--help",	 "--stop",
					     "--version" };
	const char *arg = argv[optind - 1];

	if (optopt && optopt < OPTION_CHECK && arg[1] != '-')
		return fail(error, error_size, "there is no option -%c", optopt);
	if (optopt)
		return fail(error, error_size, "%s takes no value", name_quote(arg).s);
	return fail(error, error_size, "there is no option %s: %s", name_quote(arg).s,
		    name_hint(arg, names, sizeof(names) / sizeof(names[0])).s);
}

static int take_option(int c, char **argv, struct options *options, struct given *given,
		       char *error, size_t error_size)
{
	switch (c) {
	case 'c':
		if (!*optarg)
			return fail(error, error_size, "-c needs a file");
		options->config_path = optarg;
		given->config = true;
		return 0;
	case 'f':
		options->foreground = true;
		return 0;
	case 'o':
		given->mount_options = true;
		return take_mount_options(options, optarg, error, error_size);
	case 'h':
		options->action = OPTIONS_HELP;
		return 0;
	case 'V':
		options->action = OPTIONS_VERSION;
		return 0;
	case OPTION_CHECK:
		given->check = true;
		return 0;
	case OPTION_STOP:
		given->stop = true;
		return 0;
	case OPTION_FORCE:
		options->force = true;
		return 0;
	case ':':
		return fail(error, error_size, "%s needs a value",
			    name_quote(argv[optind - 1]).s);
	default:
		return unknown_option(argv, error, error_size);
	}
}

static int check_mountpoint(int n, char **args, const char *example,
			    struct options *options, char *error, size_t error_size)
{
	if (n == 0 || !*args[0])
		return fail(error, error_size, "MOUNTPOINT is missing: lunfs %s",
			    example);
	if (n > 1)
		return fail(error, error_size, "one MOUNTPOINT, not %d: %s is too much",
			    n, name_quote(args[1]).s);
	options->mountpoint = args[0];
	return 0;
}

static int check_stop(const struct given *given, int n, char **args,
		      struct options *options, char *error, size_t error_size)
{
	if (given->check)
		return fail(error, error_size, "--check and --stop exclude each other");
	if (options->foreground || given->config || given->mount_options)
		return fail(error, error_size,
			    "--stop takes --force and MOUNTPOINT only, no -f, -c or -o");
	options->action = OPTIONS_STOP;
	return check_mountpoint(n, args, "--stop /mnt/lunfs", options, error, error_size);
}

static int check_combination(const struct given *given, int n, char **args,
			     struct options *options, char *error, size_t error_size)
{
	if (given->stop)
		return check_stop(given, n, args, options, error, error_size);
	if (options->force)
		return fail(error, error_size, "--force goes with --stop only");
	if (given->check) {
		options->action = OPTIONS_CHECK;
		if (n > 0)
			return fail(error, error_size,
				    "--check takes no MOUNTPOINT: %s is too much",
				    name_quote(args[0]).s);
		return 0;
	}
	if (options->debug && !options->foreground)
		return fail(error, error_size, "-o debug needs -f");
	return check_mountpoint(n, args, "/mnt/lunfs", options, error, error_size);
}

int options_parse(int argc, char **argv, struct options *options, char *error,
		  size_t error_size)
{
	struct given given = { 0 };
	int c, r;

	*options = (struct options){ .config_path = OPTIONS_DEFAULT_CONFIG };
	optind = 0;
	while ((c = getopt_long(argc, argv, ":c:fho:V", long_options, NULL)) != -1) {
		r = take_option(c, argv, options, &given, error, error_size);
		if (r < 0)
			return r;
		if (options->action == OPTIONS_HELP || options->action == OPTIONS_VERSION)
			return 0;
	}
	return check_combination(&given, argc - optind, argv + optind, options, error,
				 error_size);
}
