/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * rwmodel: many threads write a source and its images and read all of them, and each
 * byte read is compared with what it must be.
 *
 *	rwmodel fill FILE --size SIZE [--seed X]
 *	rwmodel run --source FILE [--image FILE[,INSTANT]]... [--instant FILE] [--base FILE]
 *		    --seconds S [--seed X] [--writers 4] [--readers 4]
 *		    [--image-writers 0] [--punch] [--fsync] [--direct] [--align N]
 *		    [--unit 16K] [--max 256K] [--window SIZE] [--save PREFIX]
 *	rwmodel check FILE --model PREFIX
 *
 * An image must begin with the content of its INSTANT (else of --instant), a copy of the
 * source as it was then, and the source with that of --base (else of --instant); without
 * these, with pattern(seed), which `fill` writes.  Nothing is read before the start.
 *
 * Writers: each file that is written has its own writers (--image-writers: of each
 * image).  A writer owns the units u of --unit bytes with u % writers = its number, so
 * that writers are neighbours within each chunk and no two overlap; in its units it
 * writes any ranges, whose sizes and places are multiples of --align (1; --direct:
 * 512), some of them also --punch holes, --fsync, and all read their own units back.
 *
 * --window: all writes and half of the reads lie in a window of that size, which moves
 * over the files once in the run.  So at each moment there are places that are read and
 * written for the first time, where all else has been copied up long ago.
 *
 * The model of a file is two copies in memory: `now`, what was acknowledged, and
 * `next`, with the write under way; a unit's count is odd while one is.  A reader
 * reads any range up to --max of any file and compares the units whose count was
 * even and did not change.  At the end each file is read whole.
 *
 * An error of a read or write (a killed daemon) ends the run with exit status 3.
 * --save: what was known then, PREFIX.K.now and PREFIX.K.next, K = 0 the source, 1 the
 * first image ...; `check FILE --model PREFIX.K` holds a file to it, each byte being
 * that of `now` or `next`.  After a crash that is right for --direct, where what was
 * acknowledged has reached the file.
 *
 * A mismatch: seed, file, offset, the bytes expected and found, and whether they are
 * the source's; exit status 1.  The threads' steps depend on the seed only, how they
 * interleave does not.
 */

#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <linux/falloc.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/stat.h>

#include "conf/cleanup.h"
#include "tests/tool.h"

enum { MAX_FILES = 33, MAX_THREADS = 256, PIECE = 1 << 20 };

struct file {
	const char *path;
	const char *instant; /* NULL: --instant */
	unsigned index;	     /* 0 = the source */
	int fd;
	unsigned writers;
	unsigned char *now, *next;
	atomic_uint *counts; /* of each unit */
};

struct thread {
	pthread_t id;
	struct file *file; /* of a writer; NULL for a reader */
	unsigned number;
	struct tool_random random;
	unsigned char *buf;
	unsigned *counts;
};

static struct {
	struct file files[MAX_FILES];
	unsigned n_files;
	struct thread threads[MAX_THREADS];
	unsigned n_threads;
	uint64_t size, unit, max, align, seed, n_units, window;
	unsigned readers, writers, image_writers;
	bool punch, fsync, direct;
	double begin, end;
	atomic_bool stop;
	atomic_int status;
	atomic_ulong n_reads, n_writes, n_skipped;
	pthread_mutex_t print;
} all = { .unit = 16384,
	  .max = 262144,
	  .seed = 1,
	  .readers = 4,
	  .writers = 4,
	  .print = PTHREAD_MUTEX_INITIALIZER };

static void end_run(int status)
{
	int none = 0;

	atomic_compare_exchange_strong(&all.status, &none, status);
	atomic_store(&all.stop, true);
}

static void io_failed(const struct file *f, const char *what, uint64_t offset, int r)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&all.print);

	if (!atomic_load(&all.status))
		fprintf(stderr, "rwmodel: %s: %s at %" PRIu64 ": %s\n", f->path, what,
			offset, strerror(-r));
	end_run(TOOL_IO);
}

/* ---- the pattern ---- */

static void make_pattern(unsigned char *buf, uint64_t offset, size_t size)
{
	for (size_t i = 0; i < size; i += 8) {
		uint64_t word = tool_mix(all.seed + tool_mix((offset + i) / 8));

		memcpy(buf + i, &word, size - i < 8 ? size - i : 8);
	}
}

static void load_content(const char *path, unsigned char *buf)
{
	CLEANUP_CLOSE int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
	int r;

	if (!path) {
		make_pattern(buf, 0, all.size);
		return;
	}
	r = fd < 0 ? -errno : tool_pread(fd, buf, all.size, 0);
	if (r < 0)
		errx(TOOL_IO, "%s: reading %" PRIu64 " bytes: %s", path, all.size,
		     strerror(-r));
}

/* ---- comparing ---- */

static void print_bytes(const char *what, const unsigned char *p, uint64_t n)
{
	printf("  %s", what);
	for (uint64_t i = 0; i < n && i < 16; i++)
		printf(" %02x", p[i]);
	putchar('\n');
}

static void mismatch(const struct file *f, uint64_t offset, const unsigned char *found,
		     uint64_t size)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&all.print);
	const unsigned char *wanted = f->now + offset;
	const struct file *source = &all.files[0];
	uint64_t i = 0, n = 0;

	while (i < size && found[i] == wanted[i])
		i++;
	while (i + n < size && found[i + n] != wanted[i + n])
		n++;
	printf("MISMATCH: seed %" PRIu64 ": %s at %" PRIu64 " (%" PRIu64
	       " bytes in a row)\n",
	       all.seed, f->path, offset + i, n);
	print_bytes("expected", wanted + i, size - i);
	print_bytes("found   ", found + i, size - i);
	if (f != source && n > 0 && !memcmp(found + i, source->now + offset + i, n))
		printf("  found is what the source holds now\n");
	if (f != source && n > 0 && !memcmp(found + i, source->next + offset + i, n))
		printf("  found is what was last written to the source\n");
	end_run(TOOL_WRONG);
}

/* memcmp() of what may be written meanwhile: the caller finds out that it was.  The
 * thread sanitizer, which would call that a race, does not look into it. */
static bool __attribute__((no_sanitize("thread")))
is_same(const unsigned char *found, const unsigned char *now, uint64_t size)
{
	uint64_t a, b, i = 0;

	for (; i + 8 <= size; i += 8) {
		__builtin_memcpy(&a, found + i, 8);
		__builtin_memcpy(&b, now + i, 8);
		if (a != b)
			return false;
	}
	for (; i < size; i++)
		if (found[i] != now[i])
			return false;
	return true;
}

/* Compares the part of a read that lies in one unit, if nobody wrote it meanwhile. */
static bool same_unit(const struct file *f, uint64_t u, unsigned count, uint64_t offset,
		      const unsigned char *found, uint64_t size)
{
	bool same;

	if (count & 1) {
		atomic_fetch_add(&all.n_skipped, 1);
		return true;
	}
	same = is_same(found, f->now + offset, size);
	atomic_thread_fence(memory_order_acquire);
	if (atomic_load(&f->counts[u]) != count) {
		atomic_fetch_add(&all.n_skipped, 1);
		return true;
	}
	return same;
}

static void read_and_compare(struct thread *t, struct file *f, uint64_t offset,
			     uint64_t size)
{
	uint64_t first = offset / all.unit, last = (offset + size - 1) / all.unit;
	int r;

	for (uint64_t u = first; u <= last; u++)
		t->counts[u - first] = atomic_load(&f->counts[u]);
	r = tool_pread(f->fd, t->buf, size, offset);
	if (r < 0) {
		io_failed(f, "reading", offset, r);
		return;
	}
	atomic_fetch_add(&all.n_reads, 1);
	for (uint64_t u = first; u <= last; u++) {
		uint64_t from = u * all.unit < offset ? offset : u * all.unit;
		uint64_t end = (u + 1) * all.unit < offset + size ? (u + 1) * all.unit :
								    offset + size;

		if (!same_unit(f, u, t->counts[u - first], from, t->buf + (from - offset),
			       end - from)) {
			mismatch(f, from, t->buf + (from - offset), end - from);
			return;
		}
	}
}

/* ---- threads ---- */

static bool goes_on(void)
{
	return !atomic_load(&all.stop) && tool_now() < all.end;
}

/* A range within [0, size): its length at most max, both multiples of align. */
static void choose_range(struct tool_random *random, uint64_t size, uint64_t max,
			 uint64_t *ret_offset, uint64_t *ret_size)
{
	uint64_t n = size / all.align;
	uint64_t limit = max / all.align < n ? max / all.align : n, len;

	/* Short ones as often as long ones. */
	len = 1 + tool_random_below(random, 1 + tool_random_below(random, limit));
	if (len > limit)
		len = limit;
	*ret_offset = tool_random_below(random, n - len + 1) * all.align;
	*ret_size = len * all.align;
}

/* Where the window is now; the whole file if there is none. */
static void find_window(uint64_t *ret_offset, uint64_t *ret_size)
{
	double part = (tool_now() - all.begin) / (all.end - all.begin);

	*ret_offset = 0;
	*ret_size = all.size;
	if (all.window == 0 || all.window >= all.size || part < 0)
		return;
	*ret_offset = (uint64_t)((part < 1 ? part : 1) * (double)(all.size - all.window));
	*ret_offset = *ret_offset / all.unit * all.unit;
	*ret_size = all.window;
}

static void *reader_main(void *opaque)
{
	struct thread *t = opaque;

	while (goes_on()) {
		struct file *f = &all.files[tool_random_below(&t->random, all.n_files)];
		uint64_t window = 0, limit = all.size, offset, size;

		if (tool_random_below(&t->random, 2))
			find_window(&window, &limit);
		choose_range(&t->random, limit, all.max, &offset, &size);
		read_and_compare(t, f, window + offset, size);
	}
	return NULL;
}

static int put_bytes(struct thread *t, struct file *f, uint64_t offset, uint64_t size)
{
	bool punch = all.punch && tool_random_below(&t->random, 8) == 0;
	unsigned char *next = f->next + offset;

	if (punch) {
		memset(next, 0, size);
	} else {
		for (uint64_t i = 0; i < size; i += 8) {
			uint64_t word = tool_random(&t->random);

			memcpy(next + i, &word, size - i < 8 ? size - i : 8);
		}
	}
	if (!punch) {
		memcpy(t->buf, next, size);
		return tool_pwrite(f->fd, t->buf, size, offset);
	}
	return fallocate(f->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset,
			 (off_t)size) < 0 ?
		       -errno :
		       0;
}

static bool write_unit(struct thread *t, uint64_t u)
{
	struct file *f = t->file;
	uint64_t begin = u * all.unit, offset, size;
	uint64_t len = begin + all.unit > all.size ? all.size - begin : all.unit;
	int r;

	if (len < all.align)
		return true;
	choose_range(&t->random, len, len, &offset, &size);
	offset += begin;
	atomic_fetch_add(&f->counts[u], 1);
	r = put_bytes(t, f, offset, size);
	if (r < 0) {
		io_failed(f, "writing", offset, r);
		return false;
	}
	memcpy(f->now + offset, f->next + offset, size);
	atomic_fetch_add(&f->counts[u], 1);
	atomic_fetch_add(&all.n_writes, 1);
	return true;
}

/* One of the thread's own units in the window; false: there is none. */
static bool choose_unit(struct thread *t, uint64_t *ret_u)
{
	unsigned writers = t->file->writers;
	uint64_t offset, size, first, last, own;

	find_window(&offset, &size);
	first = offset / all.unit;
	last = (offset + size - 1) / all.unit;
	first += (t->number + writers - first % writers) % writers;
	if (first > last)
		return false;
	own = (last - first) / writers + 1;
	*ret_u = first + tool_random_below(&t->random, own) * writers;
	return true;
}

static void *writer_main(void *opaque)
{
	struct thread *t = opaque;
	struct file *f = t->file;
	uint64_t u, end;

	while (goes_on() && choose_unit(t, &u)) {
		end = (u + 1) * all.unit < all.size ? (u + 1) * all.unit : all.size;
		if (!write_unit(t, u))
			break;
		if (tool_random_below(&t->random, 4) == 0)
			read_and_compare(t, f, u * all.unit,
					 (end - u * all.unit) / all.align * all.align);
		if (all.fsync && tool_random_below(&t->random, 32) == 0 &&
		    fdatasync(f->fd) < 0)
			io_failed(f, "syncing", 0, -errno);
	}
	return NULL;
}

static void start_thread(void *(*fn)(void *), struct file *f, unsigned number)
{
	struct thread *t = &all.threads[all.n_threads];
	uint64_t largest = all.max > all.unit ? all.max : all.unit;

	if (all.n_threads == MAX_THREADS)
		errx(TOOL_USAGE, "more than %d threads", MAX_THREADS);
	t->file = f;
	t->number = number;
	t->random.state = tool_mix(all.seed + tool_mix(all.n_threads));
	t->buf = tool_alloc(largest);
	t->counts = calloc(largest / all.unit + 2, sizeof(*t->counts));
	if (!t->counts || pthread_create(&t->id, NULL, fn, t))
		errx(TOOL_IO, "starting a thread");
	all.n_threads++;
}

static void run_threads(void)
{
	for (unsigned i = 0; i < all.readers; i++)
		start_thread(reader_main, NULL, i);
	for (unsigned k = 0; k < all.n_files; k++) {
		for (unsigned i = 0; i < all.files[k].writers; i++)
			start_thread(writer_main, &all.files[k], i);
	}
	for (unsigned i = 0; i < all.n_threads; i++) {
		pthread_join(all.threads[i].id, NULL);
		free(all.threads[i].buf);
		free(all.threads[i].counts);
	}
}

/* ---- begin and end ---- */

static void open_file(struct file *f, const char *instant, const char *base)
{
	int flags = (f->writers ? O_RDWR : O_RDONLY) | O_CLOEXEC;
	struct stat st;

	f->fd = open(f->path, flags | (all.direct ? O_DIRECT : 0));
	if (f->fd < 0 || fstat(f->fd, &st) < 0)
		err(TOOL_IO, "%s: opening", f->path);
	if (all.size == 0)
		all.size = (uint64_t)st.st_size;
	if (all.size == 0 || (uint64_t)st.st_size < all.size)
		errx(TOOL_USAGE, "%s: %" PRIu64 " bytes, too short", f->path,
		     (uint64_t)st.st_size);
	all.n_units = (all.size + all.unit - 1) / all.unit;
	f->now = malloc(all.size);
	f->next = malloc(all.size);
	f->counts = calloc(all.n_units, sizeof(*f->counts));
	if (!f->now || !f->next || !f->counts)
		errx(TOOL_IO, "out of memory");
	if (f->index == 0 && base)
		instant = base;
	load_content(f->instant ? f->instant : instant, f->now);
	memcpy(f->next, f->now, all.size);
}

/* Each file as a whole, once nobody writes; not the tail below --align. */
static void read_whole(struct file *f)
{
	struct thread t = { .buf = tool_alloc(PIECE),
			    .counts = calloc(PIECE / all.unit + 2, sizeof(*t.counts)) };

	if (!t.counts)
		errx(TOOL_IO, "out of memory");
	for (uint64_t at = 0; at < all.size && !atomic_load(&all.status); at += PIECE) {
		uint64_t size = all.size - at < PIECE ? all.size - at : PIECE;

		if (size >= all.align)
			read_and_compare(&t, f, at, size / all.align * all.align);
	}
	free(t.buf);
	free(t.counts);
}

static void save(const struct file *f, const char *prefix)
{
	const unsigned char *content[] = { f->now, f->next };
	const char *suffix[] = { "now", "next" };
	char path[4096];

	for (int i = 0; i < 2; i++) {
		int fd, r;

		snprintf(path, sizeof(path), "%s.%u.%s", prefix, f->index, suffix[i]);
		fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
		r = fd < 0 ? -errno : tool_pwrite(fd, content[i], all.size, 0);
		if (r < 0)
			errx(TOOL_IO, "%s: writing: %s", path, strerror(-r));
		close(fd);
	}
}

static int run(double seconds, const char *instant, const char *base, const char *prefix)
{
	if (!all.files[0].path || seconds <= 0)
		errx(TOOL_USAGE, "run needs --source and --seconds");
	for (unsigned k = 0; k < all.n_files; k++) {
		all.files[k].index = k;
		all.files[k].writers = k ? all.image_writers : all.writers;
		open_file(&all.files[k], instant, base);
	}
	all.begin = tool_now();
	all.end = all.begin + seconds;
	run_threads();
	for (unsigned k = 0; k < all.n_files && !atomic_load(&all.status); k++)
		read_whole(&all.files[k]);
	for (unsigned k = 0; k < all.n_files && prefix; k++)
		save(&all.files[k], prefix);
	printf("seed=%" PRIu64 " reads=%lu writes=%lu skipped=%lu\n", all.seed,
	       atomic_load(&all.n_reads), atomic_load(&all.n_writes),
	       atomic_load(&all.n_skipped));
	return atomic_load(&all.status);
}

static int fill(const char *path)
{
	CLEANUP_CLOSE int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	unsigned char *buf = tool_alloc(PIECE);

	if (fd < 0)
		err(TOOL_IO, "%s: opening", path);
	for (uint64_t at = 0; at < all.size; at += PIECE) {
		size_t size = all.size - at < PIECE ? all.size - at : PIECE;
		int r;

		make_pattern(buf, at, size);
		r = tool_pwrite(fd, buf, size, at);
		if (r < 0)
			errx(TOOL_IO, "%s: writing: %s", path, strerror(-r));
	}
	free(buf);
	if (fsync(fd) < 0)
		err(TOOL_IO, "%s: syncing", path);
	return 0;
}

static unsigned char *load_model(const char *prefix, const char *suffix)
{
	unsigned char *content;
	char path[4096];
	struct stat st;

	snprintf(path, sizeof(path), "%s.%s", prefix, suffix);
	if (stat(path, &st) < 0)
		err(TOOL_IO, "%s", path);
	all.size = (uint64_t)st.st_size;
	content = malloc(all.size + 1);
	if (!content)
		errx(TOOL_IO, "out of memory");
	load_content(path, content);
	return content;
}

static int check(const char *path, const char *prefix)
{
	unsigned char *now = load_model(prefix, "now"),
		      *next = load_model(prefix, "next");
	unsigned char *found = malloc(all.size + 1);
	uint64_t i = 0;

	if (!found)
		errx(TOOL_IO, "out of memory");
	load_content(path, found);
	while (i < all.size && (found[i] == now[i] || found[i] == next[i]))
		i++;
	if (i < all.size) {
		printf("MISMATCH: %s at %" PRIu64 "\n", path, i);
		print_bytes("expected", now + i, all.size - i);
		print_bytes("or      ", next + i, all.size - i);
		print_bytes("found   ", found + i, all.size - i);
	}
	free(now);
	free(next);
	free(found);
	return i < all.size ? TOOL_WRONG : 0;
}

/* ---- main ---- */

static const struct option options[] = {
	{ "source", required_argument, NULL, 's' },
	{ "image", required_argument, NULL, 'i' },
	{ "instant", required_argument, NULL, 't' },
	{ "base", required_argument, NULL, 'b' },
	{ "seconds", required_argument, NULL, 'n' },
	{ "seed", required_argument, NULL, 'x' },
	{ "size", required_argument, NULL, 'z' },
	{ "writers", required_argument, NULL, 'w' },
	{ "readers", required_argument, NULL, 'r' },
	{ "image-writers", required_argument, NULL, 'v' },
	{ "unit", required_argument, NULL, 'u' },
	{ "max", required_argument, NULL, 'm' },
	{ "align", required_argument, NULL, 'a' },
	{ "window", required_argument, NULL, 'W' },
	{ "punch", no_argument, NULL, 'p' },
	{ "fsync", no_argument, NULL, 'f' },
	{ "direct", no_argument, NULL, 'd' },
	{ "save", required_argument, NULL, 'S' },
	{ "model", required_argument, NULL, 'M' },
	{ 0 },
};

static void usage(void)
{
	errx(TOOL_USAGE, "usage: rwmodel fill FILE | run | check FILE; see the head of "
			 "rwmodel.c");
}

static void add_image(char *path)
{
	char *comma = strrchr(path, ',');

	if (all.n_files == MAX_FILES)
		errx(TOOL_USAGE, "more than %d images", MAX_FILES - 1);
	if (comma) {
		*comma = '\0';
		all.files[all.n_files].instant = comma + 1;
	}
	all.files[all.n_files++].path = path;
}

int main(int argc, char **argv)
{
	const char *instant = NULL, *base = NULL, *prefix = NULL;
	double seconds = 0;
	int c;

	all.n_files = 1;
	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (c) {
		case 's':
			all.files[0].path = optarg;
			break;
		case 'i':
			add_image(optarg);
			break;
		case 't':
			instant = optarg;
			break;
		case 'b':
			base = optarg;
			break;
		case 'n':
			seconds = atof(optarg);
			break;
		case 'x':
			all.seed = tool_number(optarg);
			break;
		case 'z':
			all.size = tool_number(optarg);
			break;
		case 'w':
			all.writers = (unsigned)tool_number(optarg);
			break;
		case 'r':
			all.readers = (unsigned)tool_number(optarg);
			break;
		case 'v':
			all.image_writers = (unsigned)tool_number(optarg);
			break;
		case 'u':
			all.unit = tool_number(optarg);
			break;
		case 'm':
			all.max = tool_number(optarg);
			break;
		case 'a':
			all.align = tool_number(optarg);
			break;
		case 'W':
			all.window = tool_number(optarg);
			break;
		case 'p':
			all.punch = true;
			break;
		case 'f':
			all.fsync = true;
			break;
		case 'd':
			all.direct = true;
			break;
		case 'S':
		case 'M':
			prefix = optarg;
			break;
		default:
			usage();
		}
	}
	if (!all.align)
		all.align = all.direct ? 512 : 1;
	if (all.unit == 0 || all.unit % all.align || PIECE % all.unit ||
	    all.max < all.align || (all.window && all.window < all.unit))
		errx(TOOL_USAGE,
		     "--unit: a power of two up to 1M and a multiple of --align; "
		     "--max: at least --align");
	argc -= optind;
	argv += optind;
	if (argc == 1 && !strcmp(argv[0], "run"))
		return run(seconds, instant, base, prefix);
	if (argc == 2 && !strcmp(argv[0], "fill") && all.size)
		return fill(argv[1]);
	if (argc == 2 && !strcmp(argv[0], "check") && prefix)
		return check(argv[1], prefix);
	usage();
}
