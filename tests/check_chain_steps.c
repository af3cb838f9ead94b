/* SPDX-License-Identifier: BSD-2-Clause */

/*
 * One chunk, and every order of steps (invariant I7).  The workers, the device and the
 * syncs of files are made here: a request is carried out in one step and answered in
 * another, a work is a step, and while a file is synced others may have their steps.  A
 * scheduler of one thread walks through all orders of the steps of a scenario, depth
 * first, or, where these are too many, through as many of them at random.  In each run
 * every read of a point must bring the bytes of its instant, everything must end, and at
 * the end each point must have its bytes.  LUNFS_TEST_RUNS: the most runs of a scenario.
 *
 * What some lines are for shows when they are taken out; what fails then:
 *   chain.c, verify(): `if (holder) return 0`           all with a reader and a writer
 *   chain.c, verify(): `if (!point_is_whole(p)) ...`    a_point_leaves_its_readers
 *   preserve.c, look_locked(): of_chunk_locked()        two_writers
 *   handover.c, choose_locked(): the look at n_preserves        a_point_leaves
 *   handover.c, copy_some(): copying                    a_point_leaves
 *   volume_change.c, take_queued(): the look at fences  a_second_point
 */

#include "tests/unit.h"

#include <errno.h>
#include <pthread.h>

#include "engine/chain_int.h"
#include "engine/workers.h"

enum { BLOCK = 4096, SIZE = 2 * BLOCK, N_POINTS = 2, MAX_STEPS = 400 };
#define STORE_ID "00000000-0000-4000-8000-00000000000a"

static struct dataops dataops;
static struct bufpool *bufs;
static struct loop *loop;
static struct pool *pool;
static struct unit_random rng;

/* ---- choices --------------------------------------------------------------------- */

static struct {
	unsigned char choice[MAX_STEPS], n[MAX_STEPS];
	unsigned depth;	 /* of this run */
	unsigned prefix; /* that is given */
	bool at_random;
	unsigned long runs;
} path;

static unsigned choose(unsigned n)
{
	unsigned i = path.depth++;

	if (i >= MAX_STEPS)
		ck_abort_msg("a run without an end");
	if (i >= path.prefix)
		path.choice[i] = path.at_random ? unit_random_below(&rng, n) : 0;
	path.n[i] = n;
	return path.choice[i];
}

/* The next order, depth first; false: that was the last. */
static bool next_path(void)
{
	while (path.depth > 0 &&
	       path.choice[path.depth - 1] + 1 == path.n[path.depth - 1])
		path.depth--;
	if (!path.depth)
		return false;
	path.choice[path.depth - 1]++;
	path.prefix = path.depth;
	return true;
}

static void wrong(const char *what)
{
	char steps[3 * MAX_STEPS + 1] = "";
	size_t at = 0;

	for (unsigned i = 0; i < path.depth; i++)
		at += (size_t)sprintf(steps + at, " %u", path.choice[i]);
	ck_abort_msg("run %lu: %s; its choices:%s", path.runs, what, steps);
}

/* ---- workers --------------------------------------------------------------------- */

enum { MAX_QUEUED = 64 };
static struct work *works[MAX_QUEUED];
static unsigned n_works;

void workers_submit(struct workers *workers, struct work *work)
{
	(void)workers;
	if (n_works == MAX_QUEUED)
		ck_abort_msg("too many works");
	works[n_works++] = work;
}

int workers_new(const char *name, unsigned n_threads, struct workers **ret_workers)
{
	(void)name;
	(void)n_threads;
	(void)ret_workers;
	return -EOPNOTSUPP;
}

void workers_free(struct workers *workers)
{
	(void)workers;
}

static void run_work(unsigned i)
{
	struct work *work = works[i];

	memmove(&works[i], &works[i + 1], (--n_works - i) * sizeof(works[0]));
	work->fn(work);
}

/* ---- the device ------------------------------------------------------------------ */

static struct blockdev device;
static char bytes[SIZE];
static struct volume *volume;
static struct {
	struct bd_req *req;
	bool carried_out;
} requests[MAX_QUEUED];
static unsigned n_requests;
static unsigned n_to_lose; /* connections, in this run */
static bool lost;	   /* until the next kick */

static void device_submit(struct blockdev *bd, struct bd_req *req)
{
	(void)bd;
	if (n_requests == MAX_QUEUED)
		ck_abort_msg("too many requests");
	requests[n_requests].req = req;
	requests[n_requests++].carried_out = false;
}

static const struct blockdev_ops device_ops = { .name = "steps",
						.submit = device_submit };

static void request_step(unsigned i)
{
	struct bd_req *req = requests[i].req;
	int error = 0;

	if (!requests[i].carried_out) {
		if (req->op == BD_READ)
			memcpy(req->buf, bytes + req->offset, req->length);
		else if (req->op == BD_WRITE)
			memcpy(bytes + req->offset, req->buf, req->length);
		requests[i].carried_out = true;
		return;
	}
	memmove(&requests[i], &requests[i + 1], (--n_requests - i) * sizeof(requests[0]));
	if (n_to_lose && choose(2)) {
		n_to_lose--;
		lost = true;
		error = -ENOTCONN;
	}
	req->done(req, error);
}

/* Kicks are steps here. */
void __wrap_dataop_retry(struct dataops *all, struct dataop_retry *retry);
void __wrap_dataop_retry(struct dataops *all, struct dataop_retry *retry)
{
	(void)all;
	(void)retry;
}

/* ---- who does what --------------------------------------------------------------- */

static struct {
	struct point *point;
	char instant[SIZE];
	bool armed, left, handed_over;
} points[N_POINTS];

enum kind { END, READER, WRITER, ARM, LEAVE };

struct actor {
	enum kind kind;
	unsigned which; /* point, or block */
	unsigned times; /* that a reader reads */

	unsigned step;
	bool busy, drained;
	char buf[SIZE];
	struct point_req read;
	struct engine_io io;
	struct volume_fence fence;
};

static struct actor actors[8];
static unsigned n_actors;

static void has_read(struct point_req *req, int error)
{
	struct actor *a = req->opaque;

	if (error && !points[a->which].left && (error != -ENOTCONN || !lost))
		wrong("a read failed");
	if (!error && memcmp(a->buf, points[a->which].instant, SIZE) != 0)
		wrong("a read brought other bytes than those of the instant");
	a->busy = false;
	a->step++;
	point_unref(req->point);
}

static void read_point(struct actor *a)
{
	a->busy = true;
	point_ref(points[a->which].point);
	a->read = (struct point_req){ .point = points[a->which].point,
				      .length = SIZE,
				      .buf = a->buf,
				      .done = has_read,
				      .opaque = a };
	point_read(&a->read);
}

static void has_written(struct engine_io *io, int error, const void *buf, size_t n)
{
	struct actor *a = io->opaque;

	(void)buf;
	if (error || n != BLOCK)
		wrong("a write failed");
	a->busy = false;
	a->step++;
}

static void write_block(struct actor *a)
{
	a->busy = true;
	memset(a->buf, 'B' + (int)(a - actors), BLOCK);
	a->io = (struct engine_io){ .op = ENGINE_IO_WRITE,
				    .offset = a->which * BLOCK,
				    .len = BLOCK,
				    .data = a->buf,
				    .done = has_written,
				    .opaque = a };
	volume_io(volume, &a->io, 600000);
}

static void on_drained(struct volume_fence *fence)
{
	((struct actor *)fence->opaque)->drained = true;
}

static void arm(unsigned which)
{
	memcpy(points[which].instant, bytes, SIZE);
	point_arm(points[which].point, true);
	points[which].armed = true;
}

static void remove_point(unsigned which)
{
	point_remove(points[which].point);
	point_unref(points[which].point);
	points[which].point = NULL;
}

static bool actor_can(const struct actor *a)
{
	bool armed = points[a->which].armed;

	switch (a->kind) {
	case READER:
		return armed && !points[a->which].left && !a->busy && a->step < a->times;
	case WRITER:
		return !a->busy && a->step == 0;
	case ARM:
		return a->step == 0 || (a->step == 1 && a->drained);
	case LEAVE:
		return (a->step == 0 && armed) ||
		       (a->step == 1 && points[a->which].handed_over);
	case END:
		break;
	}
	return false;
}

static void actor_step(struct actor *a)
{
	if (a->kind == READER) {
		read_point(a);
	} else if (a->kind == WRITER) {
		write_block(a);
	} else if (a->kind == ARM && a->step++ == 0) {
		a->fence = (struct volume_fence){ .drained = on_drained, .opaque = a };
		volume_close_fence(volume, &a->fence);
	} else if (a->kind == ARM) {
		arm(a->which);
		volume_open_fence(volume, &a->fence);
	} else if (a->step++ == 0) {
		points[a->which].left = true;
		point_leave(points[a->which].point);
	} else {
		remove_point(a->which);
	}
}

/* ---- the scheduler --------------------------------------------------------------- */

static bool in_handover, in_sync;

static bool work_can(const struct work *work)
{
	const struct chain *c = volume_chain(volume);

	/* Both would wait for locks that this thread has. */
	return !in_sync || (!in_handover && work != &c->handover);
}

/* Does one of the steps that can be done, or (may_stop) none; false: none. */
static bool do_step(bool may_stop)
{
	unsigned n = 0, i;

	for (unsigned pass = 0; pass < 2; pass++) {
		unsigned at = 0;

		i = pass ? choose(n + may_stop) : UINT32_MAX;
		if (pass && i == n)
			return false;
		for (unsigned k = 0; k < n_actors; k++)
			if (actor_can(&actors[k]) && at++ == i) {
				actor_step(&actors[k]);
				return true;
			}
		for (unsigned k = 0; k < n_requests; k++)
			if (at++ == i) {
				request_step(k);
				return true;
			}
		for (unsigned k = 0; k < n_works; k++)
			if (work_can(works[k]) && at++ == i) {
				if (!in_sync)
					in_handover = works[k] ==
						      &volume_chain(volume)->handover;
				run_work(k);
				return true;
			}
		if (lost && at++ == i) {
			lost = false;
			volume_kick(volume);
			return true;
		}
		n = at;
		if (!n && !pass)
			return false;
	}
	return false;
}

/* A sync takes as long as others have steps to do. */
static bool running;

int __wrap_fdatasync(int fd);
int __wrap_fdatasync(int fd)
{
	(void)fd;
	if (!running || in_sync)
		return 0;
	in_sync = true;
	while (do_step(true))
		;
	in_sync = false;
	return 0;
}

static void handed_over(void *opaque, uint64_t id)
{
	(void)opaque;
	points[id - 1].handed_over = true;
}

static void broken(void *opaque, uint64_t id, int error, const char *reason)
{
	(void)opaque;
	(void)id;
	(void)error;
	wrong(reason);
}

static void open_points(void)
{
	for (unsigned i = 0; i < N_POINTS; i++) {
		const struct point_params params = {
			.id = i + 1,
			.sequence = i + 1,
			.size = SIZE,
			.pool = pool,
			.source_name = "lun",
			.watcher = { broken, handed_over, NULL },
		};

		memset(&points[i], 0, sizeof(points[i]));
		ck_assert_int_eq(pool_create_point(pool, i + 1, SIZE), 0);
		ck_assert_int_eq(point_open(volume, &params, &points[i].point), 0);
	}
}

static void begin_run(unsigned n_armed, const struct actor *scenario)
{
	memset(bytes, 'A', SIZE);
	ck_assert_int_eq(volume_new(&dataops, &volume), 0);
	volume_attach(volume, &device);
	open_points();
	for (n_actors = 0; scenario[n_actors].kind != END; n_actors++)
		actors[n_actors] = scenario[n_actors];
	for (unsigned i = 0; i < n_armed; i++)
		arm(i);
	path.depth = 0;
}

static void finish_steps(void)
{
	while (do_step(false))
		;
}

/* What is left over is read once more, then all goes. */
static void end_run(void)
{
	for (unsigned i = 0; i < n_actors; i++)
		if (actors[i].busy || (actors[i].kind != READER && actors[i].step == 0) ||
		    (actors[i].kind >= ARM && actors[i].step < 2))
			wrong("something never ended");
	running = false;
	path.at_random = false;
	path.prefix = path.depth;
	for (unsigned i = 0; i < N_POINTS; i++) {
		n_actors = 1;
		actors[0] = (struct actor){ .kind = READER, .which = i, .times = 1 };
		finish_steps();
		if (points[i].armed && !points[i].left && !actors[0].step)
			wrong("the last read never ended");
	}
	for (unsigned i = 0; i < N_POINTS; i++)
		if (points[i].point)
			remove_point(i);
	volume_detach(volume);
	volume_unref(volume);
	while (n_works)
		run_work(0);
	ck_assert_uint_eq(n_requests, 0);
}

static void run_once(unsigned n_armed, const struct actor *scenario, unsigned n_lost)
{
	unsigned depth;
	bool at_random = path.at_random;

	path.runs++;
	n_to_lose = n_lost;
	lost = false;
	begin_run(n_armed, scenario);
	running = true;
	finish_steps();
	depth = path.depth;
	n_to_lose = 0;
	end_run();
	path.at_random = at_random;
	path.depth = depth;
}

static void walk(const char *name, unsigned n_armed, const struct actor *scenario,
		 unsigned n_lost)
{
	const char *given = getenv("LUNFS_TEST_RUNS");
	unsigned long max = given ? strtoul(given, NULL, 0) : 4000;
	bool all = false;

	memset(&path, 0, sizeof(path));
	do {
		run_once(n_armed, scenario, n_lost);
		all = !next_path();
	} while (!all && path.runs < max / 2);
	path.at_random = true;
	while (!all && path.runs < max) {
		path.prefix = 0;
		run_once(n_armed, scenario, n_lost);
	}
	printf("%s: %lu runs%s\n", name, path.runs, all ? ", which is all" : "");
}

/* ---- scenarios ------------------------------------------------------------------- */

static void setup(void)
{
	const struct bd_params params = { .name = "lun" };
	char in_memory[] = "/dev/shm/lunfs-check.XXXXXX",
	     on_disk[] = "/tmp/lunfs-check.XXXXXX";
	char *dir = mkdtemp(in_memory), name[64], error[512];

	rng = unit_random_start("chain_steps");
	if (!dir)
		dir = mkdtemp(on_disk);
	ck_assert_ptr_nonnull(dir);
	snprintf(name, sizeof(name), "%s/pool", dir);
	ck_assert_int_ge(pool_open("p", name, STORE_ID, &pool, error, sizeof(error)), 0);
	ck_assert_int_eq(bufpool_new(8 << 20, &bufs), 0);
	ck_assert_int_eq(loop_new("loop", &loop), 0);
	ck_assert_int_eq(dataops_init(&dataops, bufs, NULL, loop), 0);
	ck_assert_int_eq(bd_init(&device, &device_ops, &params), 0);
	device.info = (struct bd_info){ .size = SIZE,
					.block_size = BLOCK,
					.max_transfer = 65536,
					.opt_transfer = 65536 };
	bd_set_state(&device, BD_READY, NULL);
}

static void teardown(void)
{
	char command[96];

	dataops_stop(&dataops);
	dataops_done(&dataops);
	loop_free(loop);
	ck_assert_uint_eq(bufpool_used(bufs), 0);
	bufpool_free(bufs);
	bd_done(&device);
	snprintf(command, sizeof(command), "rm -rf $(dirname %s)", pool_path(pool));
	pool_close(pool);
	ck_assert_int_eq(system(command), 0);
}

#define SCENARIO(name, n_armed, n_lost, ...)                                             \
	START_TEST(name)                                                                 \
	{                                                                                \
		static const struct actor scenario[] = { __VA_ARGS__, { .kind = END } }; \
                                                                                         \
		setup();                                                                 \
		walk(#name, n_armed, scenario, n_lost);                                  \
		teardown();                                                              \
	}                                                                                \
	END_TEST

#define READS(p, n)                                        \
	{                                                  \
		.kind = READER, .which = (p), .times = (n) \
	}
#define WRITES(b)                            \
	{                                    \
		.kind = WRITER, .which = (b) \
	}
#define ARMS(p)                           \
	{                                 \
		.kind = ARM, .which = (p) \
	}
#define LEAVES(p)                           \
	{                                   \
		.kind = LEAVE, .which = (p) \
	}

SCENARIO(reader_and_writer, 1, 0, READS(0, 1), WRITES(0))
SCENARIO(a_lost_connection, 1, 1, READS(0, 1), WRITES(0))
SCENARIO(two_writers, 1, 0, READS(0, 1), WRITES(0), WRITES(1))
SCENARIO(one_after_another, 1, 0, READS(0, 2), WRITES(0), WRITES(0))
SCENARIO(a_second_point, 1, 0, READS(0, 1), WRITES(0), ARMS(1), WRITES(1), READS(1, 1))
SCENARIO(a_point_leaves, 2, 0, READS(0, 1), WRITES(0), LEAVES(1))
SCENARIO(a_point_leaves_its_readers, 2, 0, READS(1, 1), WRITES(0), LEAVES(1))
SCENARIO(the_older_leaves, 2, 0, READS(1, 1), WRITES(0), LEAVES(0))
SCENARIO(one_comes_and_goes, 1, 0, READS(0, 1), ARMS(1), WRITES(0), WRITES(1), LEAVES(1))
SCENARIO(both_leave, 2, 0, WRITES(0), LEAVES(0), LEAVES(1), READS(0, 1))
SCENARIO(all_at_once, 1, 1, READS(0, 2), WRITES(0), ARMS(1), WRITES(1), READS(1, 1),
	 LEAVES(1), WRITES(0))

int main(void)
{
	const TTest *const tests[] = {
		reader_and_writer,
		a_lost_connection,
		two_writers,
		one_after_another,
		a_second_point,
		a_point_leaves,
		a_point_leaves_its_readers,
		the_older_leaves,
		one_comes_and_goes,
		both_leave,
		all_at_once,
	};

	return unit_main("chain_steps", tests, ROWS(tests));
}
