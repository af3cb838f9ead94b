/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * crashplay: what may be on the disk after the power went away, from the log of
 * libcrashlog.so.
 *
 *	crashplay LOG --list		  the syncs and the marks, "RECORD sync|mark|end TEXT"
 *	crashplay LOG --dump		  every record
 *	crashplay LOG --mark TEXT	  adds a mark: what a test knows to have happened
 *	crashplay LOG --at N --from BASE --to OUT [--mode none|all|random] [--seed S]
 *		  [--torn] [--fs ext4|posix] [--durable DIR]...
 *
 * The last one rebuilds the recorded directories below OUT, each under its last name, as
 * they are after a crash behind record N (a number out of --list, or any up to the end).
 * BASE holds copies of them, under the same names, from before the log.  OUT may be
 * where they lie: files there are rewritten and keep their inodes.
 *
 * The model of a crash
 *
 * Content.  A write is durable when a sync of its file that began after it has ended
 * before the crash; with O_DSYNC or RWF_DSYNC, when it has returned.  Every other one is
 * lost or not sector by sector (4096 bytes, the page; --torn: 512): a sector is as it was
 * after any one of the writes to it since the last sync, whatever other sectors are.  So
 * writes are lost, torn and reordered, between files too.  The size follows from what
 * is kept.  Writes are never mixed within a sector.
 *
 * Metadata.  Names (create, mkdir, symlink, link, unlink, rename) and sizes (truncate,
 * fallocate) and modes are journalled: those of one directory are kept up to some point,
 * in order, and none behind it; those of another directory up to another point
 * (directories between which a file was renamed share one).  Files' sizes and modes count
 * for the directory that they lie in.  Durable for sure is what stands before the begin of
 * a sync
 *    - of the directory: all of it
 *    - ext4: of a file: up to the newest change of its own metadata, so its name too,
 *      and the names of the directories above it
 *    - posix: of a file: its size and mode; a name needs the sync of its directory
 * sync() and syncfs() make all durable.  sync_file_range() makes nothing durable.
 * Content and metadata do not wait for each other: a size can be there without the
 * data, a renamed file be empty.
 *
 * A process that is killed loses nothing: that is `all`.  `none` loses all that may be
 * lost, `random` each part by chance: S, N and the log decide, nothing else.  Each file
 * has its own luck (a fourth lose all, a fourth keep all), since an order between two
 * files is what most often goes wrong.
 *
 * --durable DIR: what lies below that recorded directory (its path or last name) belongs
 * to another machine, which does not lose power: exactly its first N records are there.
 *
 * Exit status: 0; 2 usage; 3 a log that cannot be read, or with changes that the shim
 * could not follow.
 */

#include <err.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>

#include "tests/crashplay.h"
#include "tests/tool.h"

static const char *const type_names[] = {
	[CRASHLOG_FILE] = "file",
	[CRASHLOG_CREATE] = "create",
	[CRASHLOG_UNLINK] = "unlink",
	[CRASHLOG_RENAME] = "rename",
	[CRASHLOG_LINK] = "link",
	[CRASHLOG_WRITE] = "write",
	[CRASHLOG_RESULT] = "result",
	[CRASHLOG_TRUNCATE] = "truncate",
	[CRASHLOG_FALLOCATE] = "fallocate",
	[CRASHLOG_CHMOD] = "chmod",
	[CRASHLOG_SYNC_BEGIN] = "sync-begin",
	[CRASHLOG_SYNC_END] = "sync-end",
	[CRASHLOG_WRITE_SYNC] = "write-sync",
	[CRASHLOG_ALL_BEGIN] = "all-begin",
	[CRASHLOG_MARK] = "mark",
	[CRASHLOG_UNSEEN] = "unseen",
};

static struct play play;

static void print_marks(uint64_t from, uint64_t to)
{
	for (uint64_t n = from; n <= to; n++) {
		const struct crashlog_record *r = play.records[n - 1];

		if (r->type == CRASHLOG_MARK || r->type == CRASHLOG_UNSEEN)
			printf("%" PRIu64 " %s %s\n", n, type_names[r->type],
			       record_path(r));
	}
}

static uint64_t listed;

static void on_sync(uint64_t n, const char *path)
{
	print_marks(listed + 1, n);
	printf("%" PRIu64 " sync %s\n", n, path);
	listed = n;
}

static void list(void)
{
	play_parse(&play, play.n_records, on_sync);
	print_marks(listed + 1, play.n_records);
	printf("%" PRIu64 " end\n", play.n_records);
}

static void dump(void)
{
	for (uint64_t n = 1; n <= play.n_records; n++) {
		const struct crashlog_record *r = play.records[n - 1];
		bool is_write = r->type == CRASHLOG_WRITE;

		printf("%" PRIu64 " %s pid=%" PRIu32 " ino=%" PRIu64 " offset=%" PRIu64
		       " size=%" PRIu64 " mode=%o %s%s%s\n",
		       n, r->type <= CRASHLOG_UNSEEN ? type_names[r->type] : "?", r->pid,
		       r->ino, r->offset, is_write ? r->data_len : r->size, r->mode,
		       record_path(r), r->path2_len ? " " : "", record_path2(r));
	}
}

static void add_mark(const char *log, const char *text)
{
	int fd = crashlog_open(log);

	if (fd < 0 || crashlog_mark(fd, text) < 0)
		err(TOOL_IO, "%s: adding a mark", log);
	close(fd);
}

static void make_durable(const char *name)
{
	unsigned n = 0;

	for (struct object *o = play.objects; o; o = o->next) {
		const char *slash = o->root ? strrchr(o->root, '/') : NULL;

		if (!slash || (strcmp(o->root, name) && strcmp(slash + 1, name)))
			continue;
		o->durable = true;
		n++;
	}
	if (!n)
		errx(TOOL_USAGE, "--durable %s: no such directory was recorded", name);
}

static int rebuild(const struct build *b, const char *const *durable, unsigned n_durable)
{
	if (b->n > play.n_records)
		errx(TOOL_USAGE, "--at %" PRIu64 ": the log has %" PRIu64 " records",
		     b->n, play.n_records);
	play_parse(&play, b->n, NULL);
	if (play.n_unseen) {
		print_marks(1, b->n);
		errx(TOOL_IO, "%s: %u changes could not be followed", play.path,
		     play.n_unseen);
	}
	for (unsigned i = 0; i < n_durable; i++)
		make_durable(durable[i]);
	play_build(&play, b);
	return 0;
}

static const struct option options[] = {
	{ "list", no_argument, NULL, 'l' },
	{ "dump", no_argument, NULL, 'd' },
	{ "mark", required_argument, NULL, 'k' },
	{ "at", required_argument, NULL, 'n' },
	{ "from", required_argument, NULL, 'f' },
	{ "to", required_argument, NULL, 't' },
	{ "mode", required_argument, NULL, 'm' },
	{ "seed", required_argument, NULL, 's' },
	{ "torn", no_argument, NULL, 'T' },
	{ "fs", required_argument, NULL, 'F' },
	{ "durable", required_argument, NULL, 'D' },
	{ 0 },
};

static int choice(const char *option, const char *text, const char *const *names)
{
	int i = 0;

	while (names[i] && strcmp(names[i], text))
		i++;
	if (!names[i])
		errx(TOOL_USAGE, "%s %s: not known", option, text);
	return i;
}

static void usage(void)
{
	errx(TOOL_USAGE, "usage: crashplay LOG --list | --dump | --mark TEXT | --at N "
			 "--from BASE --to OUT; see the head of crashplay.c");
}

int main(int argc, char **argv)
{
	static const char *const modes[] = { "none", "all", "random", NULL };
	static const char *const models[] = { "ext4", "posix", NULL };
	struct build b = { .mode = PLAY_RANDOM, .seed = 1, .sector = 4096 };
	const char *durable[16], *mark = NULL;
	unsigned n_durable = 0;
	int c, command = 0;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (c) {
		case 'k':
			mark = optarg;
			break;
		case 'l':
		case 'd':
			command = c;
			break;
		case 'n':
			command = c;
			b.n = tool_number(optarg);
			break;
		case 'f':
			b.from = optarg;
			break;
		case 't':
			b.to = optarg;
			break;
		case 'm':
			b.mode = (enum play_mode)choice("--mode", optarg, modes);
			break;
		case 's':
			b.seed = tool_number(optarg);
			break;
		case 'T':
			b.sector = 512;
			break;
		case 'F':
			play.fs = (enum fs_model)choice("--fs", optarg, models);
			break;
		case 'D':
			if (n_durable == 16)
				usage();
			durable[n_durable++] = optarg;
			break;
		default:
			usage();
		}
	}
	if (optind + 1 != argc || (!command && !mark))
		usage();
	if (mark) {
		add_mark(argv[optind], mark);
		return 0;
	}
	play_open(&play, argv[optind]);
	if (command == 'n' && b.from && b.to)
		return rebuild(&b, durable, n_durable);
	if (command == 'n')
		usage();
	if (command == 'l')
		list();
	else
		dump();
	return 0;
}
