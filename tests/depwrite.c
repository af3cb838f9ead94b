/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * depwrite: dependent writes, and whether a copy of the files is of one instant.
 *
 *	depwrite run FILE... [--count N | --seconds S] [--direct] [--fsync]
 *			     [--ack FILE] [--mark CRASHLOG [--name NAME]]
 *	depwrite check IMAGE...
 *	depwrite verify FILE N [--file I]
 *	depwrite value FILE [--file I]
 *
 * The writer puts n = 1, 2, 3 ... into the first file, waits until that is
 * acknowledged (--fsync: and synced), then puts n into the second, and so on, then
 * n + 1.  So at every instant the files' values are equal, or some first ones are
 * one ahead: v1 >= v2 >= ... >= vk >= v1 - 1.  Images of another shape are not of
 * one instant.
 *
 * A file has a ring of K blocks of 4096 bytes, --stride bytes apart (--ring 16,
 * --stride 64K), so that each write is in another chunk than the last ones; block
 * n % K gets n.  Each sector of a block is a function of seed, file (its place on
 * the command line, or --file), n and place.  The value of a file is its greatest n;
 * for that n the whole ring is known, and all of it is compared: a torn block, an
 * old one among new ones, one from the future, another file's are all found.
 * A file without any (zeros in the ring) has the value 0.  `run` goes on from the
 * value that it finds.
 *
 * `run` ends at SIGTERM or SIGINT too, and prints the value of each file.  --ack: a
 * line a file with the last n acknowledged, written in place after each one: what a
 * killed daemon owes.  --mark: "NAME I N" (ack I N) into a log of crashlog.h.
 *
 * Exit status: 0 good, 1 wrong (with a sentence a fault), 2 usage, 3 cannot read or
 * write (after `run`: the values acknowledged are printed all the same).
 */

#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/stat.h>

#include "tests/crashlog.h"
#include "tests/tool.h"

enum { BLOCK = 4096, SECTOR = 512, MAX_FILES = 64, WORDS = SECTOR / 8 };

static uint64_t ring = 16, stride = 65536, seed = 1;
static unsigned first_file;

struct target {
	const char *path;
	unsigned index;
	int fd;
	uint64_t value;
};

static volatile sig_atomic_t stopped;

static void on_signal(int sig)
{
	(void)sig;
	stopped = 1;
}

/* ---- what a block holds ---- */

/* Sector: "depwrite", n, file and block, words that depend on all of it.  n = 0 is
 * a block never written. */
static void make_sector(uint64_t *words, unsigned file, uint64_t n, unsigned sector)
{
	uint64_t h = tool_mix(seed ^ tool_mix(n ^ tool_mix(file)));

	if (n == 0) {
		memset(words, 0, SECTOR);
		return;
	}
	memcpy(words, "depwrite", 8);
	words[1] = n;
	words[2] = (uint64_t)file << 32 | sector;
	for (unsigned i = 3; i < WORDS; i++)
		words[i] = tool_mix(h + sector * WORDS + i);
}

static void make_block(void *buf, unsigned file, uint64_t n)
{
	for (unsigned s = 0; s < BLOCK / SECTOR; s++)
		make_sector((uint64_t *)buf + s * WORDS, file, n, s);
}

/* The n whose sector this is, or -1. */
static int64_t sector_value(const uint64_t *words, unsigned file, unsigned sector)
{
	uint64_t wanted[WORDS];
	uint64_t n = memcmp(words, "depwrite", 8) ? 0 : words[1];

	make_sector(wanted, file, n, sector);
	return memcmp(words, wanted, SECTOR) ? -1 : (int64_t)n;
}

/* What block i holds when the file's value is n. */
static uint64_t expected(uint64_t n, uint64_t i)
{
	uint64_t back = (n % ring + ring - i) % ring;

	return n > back ? n - back : 0;
}

/* ---- reading ---- */

/* The n of a block, or -1 with the sectors named. */
static int64_t block_value(const struct target *t, uint64_t i, const void *buf)
{
	int64_t v[BLOCK / SECTOR];
	bool same = true;

	for (unsigned s = 0; s < BLOCK / SECTOR; s++) {
		v[s] = sector_value((const uint64_t *)buf + s * WORDS, t->index, s);
		same = same && v[s] >= 0 && v[s] == v[0];
	}
	if (same && (v[0] == 0 || (uint64_t)v[0] % ring == i))
		return v[0];
	printf("%s: block %" PRIu64 " at %" PRIu64 " is %s, its sectors hold", t->path, i,
	       i * stride, same ? "another block's" : "torn");
	for (unsigned s = 0; s < BLOCK / SECTOR; s++) {
		if (v[s] < 0)
			printf(" ?");
		else
			printf(" %" PRId64, v[s]);
	}
	putchar('\n');
	return -1;
}

/* Reads the ring: the greatest n into t->value.  True when all of it is what it has
 * to be for that n (or for `wanted`, unless that is negative). */
static bool read_file(struct target *t, int64_t wanted)
{
	int64_t *values = calloc(ring, sizeof(*values));
	void *buf = tool_alloc(BLOCK);
	bool good = true;

	if (!values)
		errx(TOOL_IO, "out of memory");
	t->value = 0;
	for (uint64_t i = 0; i < ring; i++) {
		int r = tool_pread(t->fd, buf, BLOCK, i * stride);

		if (r < 0)
			errx(TOOL_IO, "%s: block %" PRIu64 ": reading: %s", t->path, i,
			     strerror(-r));
		values[i] = block_value(t, i, buf);
		if (values[i] < 0)
			good = false;
		else if ((uint64_t)values[i] > t->value)
			t->value = (uint64_t)values[i];
	}
	if (wanted < 0)
		wanted = (int64_t)t->value;
	for (uint64_t i = 0; i < ring; i++) {
		uint64_t n = expected((uint64_t)wanted, i);

		if (values[i] < 0 || (uint64_t)values[i] == n)
			continue;
		printf("%s: block %" PRIu64 " holds %" PRId64 ", not %" PRIu64
		       ": the value is %" PRId64 "\n",
		       t->path, i, values[i], n, wanted);
		good = false;
	}
	free(values);
	free(buf);
	return good;
}

static void open_target(struct target *t, int flags)
{
	t->fd = open(t->path, flags | O_CLOEXEC);
	if (t->fd < 0)
		err(TOOL_IO, "%s: opening", t->path);
}

static int check(struct target *t, unsigned n)
{
	bool good = true;

	for (unsigned k = 0; k < n; k++) {
		open_target(&t[k], O_RDONLY);
		good = read_file(&t[k], -1) && good;
	}
	for (unsigned k = 0; k < n; k++)
		printf("%s%" PRIu64, k ? " " : "", t[k].value);
	putchar('\n');
	for (unsigned k = 1; k < n; k++) {
		if (t[k].value > t[k - 1].value || t[k].value + 1 < t[0].value) {
			printf("not of one instant: %s has %" PRIu64 ", %s %" PRIu64 "\n",
			       t[k - 1].path, t[k - 1].value, t[k].path, t[k].value);
			good = false;
		}
	}
	return good ? 0 : TOOL_WRONG;
}

/* ---- writing ---- */

struct run {
	uint64_t count;
	double seconds;
	bool direct, fsync;
	int ack_fd, mark_fd;
	const char *mark_name;
};

static void acknowledged(const struct run *run, const struct target *t)
{
	char text[64];

	if (run->ack_fd >= 0) {
		snprintf(text, sizeof(text), "%019" PRIu64 "\n", t->value);
		if (pwrite(run->ack_fd, text, 20, (off_t)t->index * 20) != 20)
			err(TOOL_IO, "--ack: writing");
	}
	if (run->mark_fd >= 0) {
		snprintf(text, sizeof(text), "%s %u %" PRIu64, run->mark_name, t->index,
			 t->value);
		if (crashlog_mark(run->mark_fd, text) < 0)
			errx(TOOL_IO, "--mark: writing");
	}
}

static int write_value(const struct run *run, struct target *t, uint64_t n, void *buf)
{
	int r;

	make_block(buf, t->index, n);
	r = tool_pwrite(t->fd, buf, BLOCK, n % ring * stride);
	if (r == 0 && run->fsync && fdatasync(t->fd) < 0)
		r = -errno;
	if (r < 0) {
		fprintf(stderr, "depwrite: %s: writing %" PRIu64 ": %s\n", t->path, n,
			strerror(-r));
		return r;
	}
	t->value = n;
	acknowledged(run, t);
	return 0;
}

/* The files go on where they are: those that are behind catch up first. */
static int write_all(const struct run *run, struct target *t, unsigned n_files)
{
	double end = run->seconds > 0 ? tool_now() + run->seconds : 0;
	uint64_t n = t[n_files - 1].value + 1, last = t[0].value + run->count;
	void *buf = tool_alloc(BLOCK);
	int r = 0;

	for (; r == 0 && !stopped; n++) {
		if ((run->count && n > last) || (end > 0 && tool_now() >= end))
			break;
		for (unsigned k = 0; k < n_files && r == 0; k++) {
			if (t[k].value < n)
				r = write_value(run, &t[k], n, buf);
		}
	}
	free(buf);
	return r;
}

static int run_writer(const struct run *run, struct target *t, unsigned n)
{
	struct sigaction sa = { .sa_handler = on_signal };
	struct stat st;
	double begin;
	uint64_t from;
	int r;

	for (unsigned k = 0; k < n; k++) {
		open_target(&t[k], O_RDWR | (run->direct ? O_DIRECT : 0));
		if (fstat(t[k].fd, &st) == 0 && S_ISREG(st.st_mode) &&
		    (uint64_t)st.st_size < (ring - 1) * stride + BLOCK)
			errx(TOOL_USAGE, "%s: too small for the ring", t[k].path);
		if (!read_file(&t[k], -1))
			errx(TOOL_WRONG, "%s: is wrong before the first write",
			     t[k].path);
		if (k && (t[k].value > t[k - 1].value || t[k].value + 1 < t[0].value))
			errx(TOOL_WRONG, "%s: not of one instant with the others",
			     t[k].path);
	}
	sigaction(SIGTERM, &sa, NULL);
	sigaction(SIGINT, &sa, NULL);
	from = t[0].value;
	begin = tool_now();
	r = write_all(run, t, n);
	for (unsigned k = 0; k < n; k++)
		printf("%s%" PRIu64, k ? " " : "", t[k].value);
	putchar('\n');
	fprintf(stderr, "depwrite: %.0f writes to each of %u files a second\n",
		(double)(t[0].value - from) / (tool_now() - begin + 1e-9), n);
	return r < 0 ? TOOL_IO : 0;
}

/* ---- main ---- */

static const struct option options[] = {
	{ "count", required_argument, NULL, 'c' },
	{ "seconds", required_argument, NULL, 's' },
	{ "direct", no_argument, NULL, 'd' },
	{ "fsync", no_argument, NULL, 'f' },
	{ "ack", required_argument, NULL, 'a' },
	{ "mark", required_argument, NULL, 'm' },
	{ "name", required_argument, NULL, 'n' },
	{ "ring", required_argument, NULL, 'r' },
	{ "stride", required_argument, NULL, 't' },
	{ "seed", required_argument, NULL, 'x' },
	{ "file", required_argument, NULL, 'i' },
	{ 0 },
};

static void usage(void)
{
	errx(TOOL_USAGE, "usage: depwrite run|check FILE..., verify FILE N, value FILE; "
			 "see the head of depwrite.c");
}

static void parse_options(int argc, char **argv, struct run *run)
{
	int c;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (c) {
		case 'c':
			run->count = tool_number(optarg);
			break;
		case 's':
			run->seconds = atof(optarg);
			break;
		case 'd':
			run->direct = true;
			break;
		case 'f':
			run->fsync = true;
			break;
		case 'r':
			ring = tool_number(optarg);
			break;
		case 't':
			stride = tool_number(optarg);
			break;
		case 'x':
			seed = tool_number(optarg);
			break;
		case 'n':
			run->mark_name = optarg;
			break;
		case 'i':
			first_file = (unsigned)tool_number(optarg);
			break;
		case 'a':
			run->ack_fd = open(optarg, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
			if (run->ack_fd < 0)
				err(TOOL_IO, "%s: opening", optarg);
			break;
		case 'm':
			run->mark_fd = crashlog_open(optarg);
			if (run->mark_fd < 0)
				err(TOOL_IO, "%s: opening", optarg);
			break;
		default:
			usage();
		}
	}
	if (ring < 1 || stride < BLOCK || stride % SECTOR)
		errx(TOOL_USAGE, "--ring: at least 1, --stride: at least %d, in sectors",
		     BLOCK);
}

int main(int argc, char **argv)
{
	struct run run = { .ack_fd = -1, .mark_fd = -1, .mark_name = "ack" };
	struct target t[MAX_FILES] = { 0 };
	const char *command;
	unsigned n = 0;

	parse_options(argc, argv, &run);
	argc -= optind;
	argv += optind;
	if (argc < 2 || argc > MAX_FILES)
		usage();
	command = argv[0];
	for (int i = 1; i < argc; i++, n++) {
		t[n].path = argv[i];
		t[n].index = first_file + n;
	}
	if (!strcmp(command, "run"))
		return run_writer(&run, t, n);
	if (!strcmp(command, "check"))
		return check(t, n);
	open_target(&t[0], O_RDONLY);
	if (!strcmp(command, "verify") && n == 2)
		return read_file(&t[0], (int64_t)tool_number(t[1].path)) ? 0 : TOOL_WRONG;
	if (strcmp(command, "value") || n != 1)
		usage();
	n = read_file(&t[0], -1) ? 0 : TOOL_WRONG;
	printf("%" PRIu64 "\n", t[0].value);
	return (int)n;
}
