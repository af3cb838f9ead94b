/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * bd-tool: one block device, by hand, for the tests of the back ends.
 *
 *	bd-tool [OPTION]... COMMAND URL [ARGUMENT]...
 *
 *	info		   what it says of itself, and its sessions
 *	read OFFSET LENGTH	   to standard output
 *	write OFFSET LENGTH [fua]  from standard input
 *	zero|discard OFFSET LENGTH
 *	flush
 *	extents		   "OFFSET LENGTH mapped|hole", a line each
 *	bench SIZE DEPTH TOTAL [write]
 *	stress SECONDS DEPTH	   random writes, zeros and reads, again after
 *			   each lost connection, compared with what is known
 *	watch SECONDS	   each change of its state
 *
 * Numbers take K, M, G.  -u USER:PASSWORD CHAP, -U USER:PASSWORD of the target,
 * -d header digest, -k KEY reservation, -K keep it, -l LOOPS (default 2), -s SEED
 * of the ISID, -S BYTES the size it must have, -t SECONDS to be ready (10).
 *
 * Exit status: 0 done; 1 failed; 2 refused; 3 not ready in time.
 */

#include <err.h>
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "conf/cleanup.h"
#include "conf/config.h"
#include "conf/strbuf.h"
#include "conf/timefmt.h"
#include "engine/blockdev.h"
#include "engine/loop.h"
#include "engine/workers.h"

enum { EXIT_REFUSED = 2, EXIT_NOT_READY = 3, MAX_LOOPS = 16, MAX_DEPTH = 256 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
static unsigned n_changes;
static bool is_closed;

static struct blockdev *bd;
static struct bd_info info;
static uint64_t wanted_size;
static unsigned n_loops = 2, ready_timeout = 10;
static bool keep_reservation;

static void on_changed(void *opaque)
{
	(void)opaque;
	pthread_mutex_lock(&lock);
	n_changes++;
	pthread_cond_broadcast(&cond);
	pthread_mutex_unlock(&lock);
}

static int on_identify(void *opaque, const struct bd_info *found, char *error,
		       size_t size)
{
	(void)opaque;
	if (wanted_size == 0 || found->size == wanted_size)
		return 0;
	snprintf(error, size, "the size is %" PRIu64 ", not %" PRIu64, found->size,
		 wanted_size);
	return -EXDEV;
}

static void on_closed(void *opaque)
{
	(void)opaque;
	pthread_mutex_lock(&lock);
	is_closed = true;
	pthread_cond_broadcast(&cond);
	pthread_mutex_unlock(&lock);
}

/* Waits for a change, or for the time (CLOCK_REALTIME, seconds). */
static bool wait_locked(double until)
{
	struct timespec ts = { .tv_sec = (time_t)until,
			       .tv_nsec = (long)((until - (double)(time_t)until) * 1e9) };

	return pthread_cond_timedwait(&cond, &lock, &ts) == 0;
}

static double now(void)
{
	return (double)timefmt_now_ms() / 1000;
}

static const char *state_name(enum bd_state state)
{
	static const char *const names[] = { [BD_DORMANT] = "dormant",
					     [BD_READY] = "ready",
					     [BD_AWAY] = "away",
					     [BD_REFUSED] = "refused" };

	return names[state];
}

static void wait_ready(bool refused_is_an_end)
{
	double until = now() + ready_timeout;
	struct bd_status status;

	pthread_mutex_lock(&lock);
	for (;;) {
		pthread_mutex_unlock(&lock);
		bd_get_status(bd, &status);
		pthread_mutex_lock(&lock);
		if (status.state == BD_READY ||
		    (status.state == BD_REFUSED && refused_is_an_end) || now() >= until)
			break;
		wait_locked(until < now() + 0.1 ? until : now() + 0.1);
	}
	pthread_mutex_unlock(&lock);
	if (status.state != BD_READY) {
		fprintf(stderr, "%s: %s\n", state_name(status.state), status.error);
		exit(status.state == BD_REFUSED ? EXIT_REFUSED : EXIT_NOT_READY);
	}
	bd_get_info(bd, &info);
}

static uint64_t number(const char *text)
{
	char *end;
	uint64_t n = strtoull(text, &end, 0);

	if (*end && strchr("KMG", *end)) {
		n <<= *end == 'G' ? 30 : *end == 'M' ? 20 : 10;
		end++;
	}
	if (*end || end == text)
		errx(1, "%s: not a number", text);
	return n;
}

/* One request, waited for. */

struct waited {
	struct bd_req req;
	bool done;
	int error;
};

static void on_done(struct bd_req *req, int error)
{
	struct waited *w = req->opaque;

	pthread_mutex_lock(&lock);
	w->done = true;
	w->error = error;
	pthread_cond_broadcast(&cond);
	pthread_mutex_unlock(&lock);
}

static int run_req(struct waited *w)
{
	w->req.done = on_done;
	w->req.opaque = w;
	w->done = false;
	bd_submit(bd, &w->req);
	pthread_mutex_lock(&lock);
	while (!w->done)
		pthread_cond_wait(&cond, &lock);
	pthread_mutex_unlock(&lock);
	return w->error;
}

static int explain(const struct waited *w)
{
	if (w->error == 0)
		return 0;
	fprintf(stderr, "%s at %" PRIu64 "\n", strerrorname_np(-w->error), w->req.offset);
	if (w->error == -ENODATA)
		fprintf(stderr, "bad %" PRIu64 " %" PRIu64 "\n", w->req.bad_offset,
			w->req.bad_length);
	return 1;
}

static int cmd_transfer(enum bd_op op, uint64_t offset, uint64_t length, bool fua)
{
	CLEANUP_FREE void *buf = aligned_alloc(4096, info.max_transfer);

	while (length > 0) {
		struct waited w = { .req = { .op = op,
					     .offset = offset,
					     .buf = buf,
					     .flags = fua ? BD_FUA : 0 } };

		w.req.length = length < info.max_transfer ? length : info.max_transfer;
		if (op == BD_WRITE && fread(buf, 1, w.req.length, stdin) != w.req.length)
			errx(1, "standard input is too short");
		run_req(&w);
		if (explain(&w))
			return 1;
		if (op == BD_READ && fwrite(buf, 1, w.req.length, stdout) != w.req.length)
			err(1, "standard output");
		offset += w.req.length;
		length -= w.req.length;
	}
	return 0;
}

static int cmd_simple(enum bd_op op, uint64_t offset, uint64_t length)
{
	struct waited w = { .req = { .op = op, .offset = offset, .length = length } };

	run_req(&w);
	return explain(&w);
}

static int cmd_extents(void)
{
	struct bd_extent extents[BD_MAX_EXTENTS];
	uint64_t at = 0;

	while (at < info.size) {
		struct waited w = { .req = { .op = BD_EXTENTS,
					     .offset = at,
					     .length = info.size - at,
					     .extents = extents } };

		run_req(&w);
		if (explain(&w))
			return 1;
		for (size_t i = 0; i < w.req.n_extents; i++) {
			if (extents[i].offset != at || extents[i].length == 0)
				errx(1, "the extents have a gap at %" PRIu64, at);
			printf("%" PRIu64 " %" PRIu64 " %s\n", extents[i].offset,
			       extents[i].length, extents[i].mapped ? "mapped" : "hole");
			at += extents[i].length;
		}
	}
	return 0;
}

static int cmd_info(void)
{
	CLEANUP_STRBUF struct strbuf b = STRBUF_INIT;
	struct bd_status status;

	bd_get_status(bd, &status);
	printf("state %s\nreserved %d\nlogins %u\nsize %" PRIu64 "\nblock_size %u\n"
	       "max_transfer %u\nopt_transfer %u\nopt_copy %u\n"
	       "thin %d\nread_only %d\nwrite_cache %d\n"
	       "vendor %s\nproduct %s\nrevision %s\nserial %s\nwwn %s\n",
	       state_name(status.state), status.reserved, status.logins, info.size,
	       info.block_size, info.max_transfer, info.opt_transfer, info.opt_copy, info.thin,
	       info.read_only, info.write_cache, info.vendor, info.product, info.revision,
	       info.serial, info.wwn);
	bd_sessions(bd, &b);
	printf("%s", b.s);
	return 0;
}

static int cmd_watch(unsigned seconds)
{
	double until = now() + seconds;
	struct bd_status last = { 0 };
	bool first = true;

	for (;;) {
		struct bd_status status;

		bd_get_status(bd, &status);
		if (first || status.state != last.state || status.logins != last.logins ||
		    status.reserved != last.reserved ||
		    strcmp(status.error, last.error) != 0) {
			printf("%s reserved=%d logins=%u %s\n", state_name(status.state),
			       status.reserved, status.logins, status.error);
			fflush(stdout);
		}
		last = status;
		first = false;
		if (now() >= until)
			return 0;
		pthread_mutex_lock(&lock);
		wait_locked(now() + 0.02);
		pthread_mutex_unlock(&lock);
	}
}

/* bench: each answer submits the next request, from the back end's thread. */

struct bench {
	uint64_t size, total;
	enum bd_op op;
	_Atomic uint64_t next;
	atomic_uint n_running;
};

static struct bench bench;

static void bench_next(struct bd_req *req, int error)
{
	uint64_t at;

	if (error < 0)
		errx(1, "bench: %s", strerror(-error));
	at = atomic_fetch_add(&bench.next, bench.size);
	if (at >= bench.total) {
		if (atomic_fetch_sub(&bench.n_running, 1) == 1)
			on_changed(NULL);
		return;
	}
	req->offset = at % (info.size / bench.size * bench.size);
	bd_submit(bd, req);
}

static int cmd_bench(enum bd_op op, uint64_t size, unsigned depth, uint64_t total)
{
	static struct bd_req reqs[MAX_DEPTH];
	struct rusage before, after;
	uint64_t start, ns;
	double cpu;

	bench.size = size;
	bench.total = total;
	bench.op = op;
	atomic_store(&bench.n_running, depth);
	getrusage(RUSAGE_SELF, &before);
	start = timefmt_monotonic_ns();
	for (unsigned i = 0; i < depth; i++) {
		reqs[i] = (struct bd_req){ .op = op, .length = size, .done = bench_next };
		reqs[i].buf = aligned_alloc(4096, size);
		memset(reqs[i].buf, (int)i, size);
		bench_next(&reqs[i], 0);
	}
	pthread_mutex_lock(&lock);
	while (atomic_load(&bench.n_running) > 0)
		pthread_cond_wait(&cond, &lock);
	pthread_mutex_unlock(&lock);
	ns = timefmt_monotonic_ns() - start;
	getrusage(RUSAGE_SELF, &after);
	for (unsigned i = 0; i < depth; i++)
		free(reqs[i].buf);
	cpu = (double)(after.ru_utime.tv_sec - before.ru_utime.tv_sec +
		       after.ru_stime.tv_sec - before.ru_stime.tv_sec) +
	      (double)(after.ru_utime.tv_usec - before.ru_utime.tv_usec +
		       after.ru_stime.tv_usec - before.ru_stime.tv_usec) /
		      1e6;
	printf("%.0f MB/s  %.0f/s  cpu %.2f s\n", (double)total * 1e3 / (double)ns,
	       (double)total / (double)size * 1e9 / (double)ns, cpu);
	return 0;
}

/*
 * stress: the device in cells; each cell is worked on by one request at a time
 * and holds either zeros or its own number mixed with a version.  A change
 * that met a lost connection may have been carried out or not, so it is sent
 * again until it is answered.
 */

enum { CELL = 64 << 10, MAX_CELLS = 4096 };

struct cell {
	uint64_t version; /* 0 = zeros */
	bool busy;
};

struct worker {
	struct bd_req req;
	unsigned cell;
	uint64_t version; /* being written */
	int error;
	bool done;
};

static struct cell cells[MAX_CELLS];
static unsigned n_cells, n_lost, n_answers;

static void fill_cell(uint64_t *buf, unsigned cell, uint64_t version)
{
	for (unsigned i = 0; i < CELL / 8; i++)
		buf[i] = version ? (uint64_t)cell << 48 ^ version << 16 ^ i : 0;
}

static void check_cell(const uint64_t *buf, unsigned cell, uint64_t version)
{
	for (unsigned i = 0; i < CELL / 8; i++) {
		uint64_t want = version ? (uint64_t)cell << 48 ^ version << 16 ^ i : 0;

		if (buf[i] != want)
			errx(1, "cell %u, word %u: %" PRIx64 ", not %" PRIx64, cell, i,
			     buf[i], want);
	}
}

static void stress_done(struct bd_req *req, int error)
{
	struct worker *w = req->opaque;

	pthread_mutex_lock(&lock);
	if (w->done)
		errx(1, "a request was answered twice");
	w->error = error;
	w->done = true;
	n_answers++;
	pthread_cond_broadcast(&cond);
	pthread_mutex_unlock(&lock);
}

static void stress_submit(struct worker *w)
{
	w->done = false;
	pthread_mutex_unlock(&lock);
	bd_submit(bd, &w->req);
	pthread_mutex_lock(&lock);
}

static void stress_start(struct worker *w, uint64_t *version)
{
	struct cell *cell;
	unsigned dice = (unsigned)random() % 10;

	do {
		w->cell = (unsigned)random() % n_cells;
		cell = &cells[w->cell];
	} while (cell->busy);
	cell->busy = true;
	w->req.op = dice < 5 ? BD_WRITE : dice < 9 ? BD_READ : BD_ZERO;
	w->req.flags = dice == 0 ? BD_FUA : 0;
	w->req.offset = (uint64_t)w->cell * CELL;
	w->req.length = CELL;
	w->version = w->req.op == BD_WRITE ? ++*version : 0;
	if (w->req.op == BD_WRITE)
		fill_cell(w->req.buf, w->cell, w->version);
	stress_submit(w);
}

/* An answer: true if the request is to be sent again. */
static bool stress_again(struct worker *w)
{
	struct cell *cell = &cells[w->cell];

	if (w->error == -ENOTCONN) {
		n_lost++;
		return true;
	}
	if (w->error < 0)
		errx(1, "op %d, cell %u: %s", (int)w->req.op, w->cell,
		     strerror(-w->error));
	if (w->req.op == BD_READ)
		check_cell(w->req.buf, w->cell, cell->version);
	else
		cell->version = w->version;
	cell->busy = false;
	return false;
}

static void stress_verify(void)
{
	CLEANUP_FREE uint64_t *buf = aligned_alloc(4096, CELL);

	for (unsigned i = 0; i < n_cells; i++) {
		struct waited w = { .req = { .op = BD_READ,
					     .buf = buf,
					     .length = CELL,
					     .offset = (uint64_t)i * CELL } };

		while (run_req(&w) == -ENOTCONN)
			usleep(20000);
		if (w.error < 0)
			errx(1, "verify: %s", strerror(-w.error));
		check_cell(buf, i, cells[i].version);
	}
}

static void zero_cells(void)
{
	struct waited w = { .req = { .op = BD_ZERO,
				     .length = (uint64_t)n_cells * CELL } };

	while (run_req(&w) == -ENOTCONN)
		usleep(20000);
	if (explain(&w))
		exit(1);
}

static int cmd_stress(unsigned seconds, unsigned depth)
{
	static struct worker workers[MAX_DEPTH];
	double until = now() + seconds;
	uint64_t version = (uint64_t)getpid() << 8;
	struct bd_status status;
	unsigned n_busy = 0;

	n_cells = info.size / CELL < MAX_CELLS ? (unsigned)(info.size / CELL) : MAX_CELLS;
	zero_cells();
	if (depth > n_cells / 2 || depth > MAX_DEPTH)
		errx(1, "depth is too large");
	srandom((unsigned)getpid());
	pthread_mutex_lock(&lock);
	for (unsigned i = 0; i < depth; i++) {
		workers[i].req.done = stress_done;
		workers[i].req.opaque = &workers[i];
		workers[i].req.buf = aligned_alloc(4096, CELL);
		stress_start(&workers[i], &version);
		n_busy++;
	}
	while (n_busy > 0) {
		bool any = false, lost = false;

		for (unsigned i = 0; i < depth; i++) {
			struct worker *w = &workers[i];

			if (!w->done)
				continue;
			any = true;
			if (stress_again(w)) {
				lost = true;
				stress_submit(w);
			} else if (now() < until) {
				stress_start(w, &version);
			} else {
				w->done = false;
				n_busy--;
			}
		}
		if (lost) {
			pthread_mutex_unlock(&lock);
			usleep(20000);
			pthread_mutex_lock(&lock);
		} else if (!any && !wait_locked(now() + 60)) {
			errx(1, "requests hang: %u of %u", n_busy, depth);
		}
	}
	pthread_mutex_unlock(&lock);
	stress_verify();
	for (unsigned i = 0; i < depth; i++)
		free(workers[i].req.buf);
	bd_get_status(bd, &status);
	printf("answers %u lost %u logins %u\n", n_answers, n_lost, status.logins);
	return 0;
}

static int run_command(const char *command, char **args, int n_args)
{
	const char *a = n_args > 0 ? args[0] : "0", *b = n_args > 1 ? args[1] : "0";

	if (!strcmp(command, "watch"))
		return cmd_watch((unsigned)number(a));
	wait_ready(true);
	if (!strcmp(command, "info"))
		return cmd_info();
	if (!strcmp(command, "read"))
		return cmd_transfer(BD_READ, number(a), number(b), false);
	if (!strcmp(command, "write"))
		return cmd_transfer(BD_WRITE, number(a), number(b), n_args > 2);
	if (!strcmp(command, "zero"))
		return cmd_simple(BD_ZERO, number(a), number(b));
	if (!strcmp(command, "discard"))
		return cmd_simple(BD_DISCARD, number(a), number(b));
	if (!strcmp(command, "flush"))
		return cmd_simple(BD_FLUSH, 0, 0);
	if (!strcmp(command, "extents"))
		return cmd_extents();
	if (!strcmp(command, "bench") && n_args >= 3)
		return cmd_bench(n_args > 3 ? BD_WRITE : BD_READ, number(a),
				 (unsigned)number(b), number(args[2]));
	if (!strcmp(command, "stress"))
		return cmd_stress((unsigned)number(a), (unsigned)number(b));
	errx(1, "%s: no such command", command);
}

static void split_secret(char *text, char **user, char **password)
{
	char *colon = strchr(text, ':');

	if (!colon)
		errx(1, "USER:PASSWORD is wanted");
	*colon = '\0';
	*user = text;
	*password = colon + 1;
}

int main(int argc, char **argv)
{
	static char none[] = "";
	struct config_access_point ap = { .portal = none,
					  .user = none,
					  .password = none,
					  .target_user = none,
					  .target_password = none };
	struct bd_params p = { .name = "dev",
			       .access_point = &ap,
			       .isid_seed = 1,
			       .initiator_name = "iqn.2026-01.org.lunfs.test:bd-tool" };
	struct loop *loops[MAX_LOOPS];
	struct workers *workers;
	static struct config_url url;
	char error[BD_ERROR_MAX] = "";
	int c, result, r;

	while ((c = getopt(argc, argv, "+u:U:dk:Kl:s:S:t:")) != -1) {
		switch (c) {
		case 'u':
			split_secret(optarg, &ap.user, &ap.password);
			break;
		case 'U':
			split_secret(optarg, &ap.target_user, &ap.target_password);
			break;
		case 'd':
			ap.header_digest = true;
			break;
		case 'k':
			p.pr_key = number(optarg);
			break;
		case 'K':
			keep_reservation = true;
			break;
		case 'l':
			n_loops = (unsigned)number(optarg);
			break;
		case 's':
			p.isid_seed = number(optarg);
			break;
		case 'S':
			wanted_size = number(optarg);
			break;
		case 't':
			ready_timeout = (unsigned)number(optarg);
			break;
		default:
			return 1;
		}
	}
	if (argc - optind < 2 || n_loops > MAX_LOOPS)
		errx(1, "bd-tool [OPTION]... COMMAND URL [ARGUMENT]...");
	if (config_parse_url(argv[optind + 1], &url, error, sizeof(error)) < 0)
		errx(1, "%s", error);
	for (unsigned i = 0; i < n_loops; i++) {
		r = loop_new("bd-tool", &loops[i]);
		if (r < 0)
			errx(1, "loop: %s", strerror(-r));
	}
	r = workers_new("bd-tool", 4, &workers);
	if (r < 0)
		errx(1, "workers: %s", strerror(-r));
	p.url = &url;
	p.loops = loops;
	p.n_loops = n_loops;
	p.workers = workers;
	p.watcher.identify = on_identify;
	p.watcher.changed = on_changed;
	if (bd_open(&p, &bd, error, sizeof(error)) < 0)
		errx(1, "%s", error);
	result = run_command(argv[optind], argv + optind + 2, argc - optind - 2);
	bd_close(bd, !keep_reservation, on_closed, NULL);
	pthread_mutex_lock(&lock);
	while (!is_closed)
		pthread_cond_wait(&cond, &lock);
	pthread_mutex_unlock(&lock);
	for (unsigned i = 0; i < n_loops; i++)
		loop_free(loops[i]);
	workers_free(workers);
	return result;
}
