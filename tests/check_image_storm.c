/* SPDX-License-Identifier: BSD-2-Clause */

/*
 * An image in a storm, held to a model: reads, writes, zeroing and flushes of any
 * range, several at once, while its copy runs and stops, its source is written, loses
 * its connection and is silent, and the power fails.
 *
 * The model.  The image is cut into atoms, of any length, and a request covers whole
 * ones.  Each atom has its changes in the order of their submission; a read may see
 * the last one that had ended when it was submitted, and any after it.  After a power
 * failure it is the last one that had ended when the last flush that was answered was
 * submitted, and any after it.  A change that failed may have been carried out.
 *
 * The same with a LUN, larger than the source, as the image: its connection is lost, too,
 * and the power of the target fails, or that of LunFS's host, or of both.
 *
 * Generations.  With digests, a new instant of the source comes into the same image, from
 * a copy that is complete or not: what is there already is not written, and whoever was
 * wrong about that shows bytes of an instant before.
 *
 * The power failure.  What is durable is a copy of each file as it was when it was
 * last synced.  A failure leaves each sector of each file as it is durable or as it
 * is now, at random: the kernel writes back when it likes.
 *
 * CHECK_IMAGE_SECONDS: how long each of the tests goes on.
 */

#include <fcntl.h>
#include <inttypes.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "tests/image_rig.h"

enum {
	SIZE = 40 * CHUNK + 5120,	   /* of the source */
	MAX_SIZE = SIZE + CHUNK + 7 * 512, /* of a LUN */
	MAX_ATOMS = 4096,
	MAX_ENTRIES = 24,
	WINDOW = 40, /* requests at once */
	IMAGE = 1,   /* its id, and the point's */
	POINT = 2,
};

/* ---- what is durable -------------------------------------------------------------- */

/* Held to write while it fails: of all files in one moment. */
static pthread_rwlock_t power = PTHREAD_RWLOCK_INITIALIZER;

enum { RAW, MAP, DIGEST, OLD_DIGEST, N_FILES };

/* The files of the image that is open. */
static struct disk {
	pthread_mutex_t lock;
	char path[160];
	ino_t inode;
	size_t size;
	char *durable;
} disks[N_FILES] = { { .lock = PTHREAD_MUTEX_INITIALIZER },
		     { .lock = PTHREAD_MUTEX_INITIALIZER },
		     { .lock = PTHREAD_MUTEX_INITIALIZER },
		     { .lock = PTHREAD_MUTEX_INITIALIZER } };

static size_t read_whole(int fd, char *buf, size_t size)
{
	ssize_t n = pread(fd, buf, size, 0);

	ck_assert_int_ge(n, 0);
	return (size_t)n;
}

static void disk_synced(struct disk *d, ino_t inode, const char *bytes, size_t n)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&d->lock);

	if (inode != d->inode)
		return;
	memcpy(d->durable, bytes, n);
	d->size = n;
}

int fdatasync(int fd)
{
	static _Thread_local char copy[SIZE + 1];
	struct disk *d = NULL;
	struct stat st;
	size_t n = 0;
	int r;

	pthread_rwlock_rdlock(&power);
	fstat(fd, &st);
	for (int i = 0; i < N_FILES; i++)
		if (st.st_ino == NOW(disks[i].inode))
			d = &disks[i];
	if (d)
		n = read_whole(fd, copy, sizeof(copy));
	r = (int)syscall(SYS_fdatasync, fd);
	if (d && !r)
		disk_synced(d, st.st_ino, copy, n);
	pthread_rwlock_unlock(&power);
	return r;
}

/* Disks are slow at times, which holds a change or fill between two of its steps. */
ssize_t pwrite(int fd, const void *buf, size_t n, off_t offset)
{
	ssize_t r;

	if (!rnd(10))
		usleep(rnd(3000));
	pthread_rwlock_rdlock(&power);
	r = syscall(SYS_pwrite64, fd, buf, n, offset);
	pthread_rwlock_unlock(&power);
	return r;
}

int fallocate(int fd, int mode, off_t offset, off_t len)
{
	int r;

	pthread_rwlock_rdlock(&power);
	r = (int)syscall(SYS_fallocate, fd, mode, offset, len);
	pthread_rwlock_unlock(&power);
	return r;
}

/* Takes a file as it is for durable. */
static void disk_open(struct disk *d, const char *file)
{
	int fd;
	struct stat st;

	snprintf(d->path, sizeof(d->path), "%s/pool/%s", rig_dir, file);
	fd = open(d->path, O_RDONLY);
	ck_assert_int_eq(fstat(fd, &st), 0);
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&d->lock);
	if (!d->durable)
		d->durable = malloc(SIZE + 1);
	d->size = read_whole(fd, d->durable, SIZE + 1);
	SET(d->inode, st.st_ino);
	close(fd);
}

/* What a power failure now would leave of a file. */
static size_t disk_fail(struct disk *d, char *left)
{
	static char current[SIZE + 1];
	int fd = open(d->path, O_RDONLY);
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&d->lock);
	size_t n = read_whole(fd, current, sizeof(current));
	unsigned bias = rnd(5);

	close(fd);
	ck_assert_uint_eq(n, d->size);
	for (size_t at = 0; at < n; at += 512)
		memcpy(left + at, (rnd(4) < bias ? current : d->durable) + at,
		       n - at < 512 ? n - at : 512);
	return n;
}

/* In a new file, of the same time of change: who has the old one open writes to that. */
static void disk_replace(struct disk *d, const char *left, size_t n)
{
	char path[200];
	const char *file = strrchr(d->path, '/') + 1;
	struct stat st;
	int fd;

	ck_assert_int_eq(stat(d->path, &st), 0);
	snprintf(path, sizeof(path), "%s.new", d->path);
	fd = open(path, O_WRONLY | O_CREAT | O_EXCL, 0600);
	ck_assert_int_eq(pwrite(fd, left, n, 0), (ssize_t)n);
	ck_assert_int_eq(futimens(fd, (struct timespec[]){ st.st_atim, st.st_mtim }), 0);
	close(fd);
	ck_assert_int_eq(rename(path, d->path), 0);
	disk_open(d, file);
}

/* ---- the model ------------------------------------------------------------------------ */

#define BASE UINT32_MAX /* a stamp: the bytes of base[] */

struct entry {
	uint32_t stamp;	       /* 0: zeros */
	uint64_t submit, done; /* 0: not yet, or failed */
};

struct atom {
	uint64_t begin, end;
	struct entry entries[MAX_ENTRIES];
	unsigned n;
};

struct request {
	struct engine_io io;
	bool busy;
	unsigned atom, n; /* atoms */
	uint64_t submit;
	char *data;
};

static pthread_mutex_t model = PTHREAD_MUTEX_INITIALIZER; /* protects all of it */
static struct atom atoms[MAX_ATOMS];
static unsigned n_atoms;
static char base[MAX_SIZE], instant[SIZE];
static bool lun;	 /* what the image is */
static uint64_t size;	 /* of it */
static bool keep, clean; /* how the image is */
static bool digests;	 /* are kept */
static uint64_t generation;
static bool is_complete; /* all of it is there; opened as such */
static bool is_written;	 /* atomic */
static uint64_t now, flushed;
static bool is_failing; /* the power: no flush counts that is answered from here on */
static struct request requests[WINDOW];
static bool calm; /* atomic: nothing may fail */
static unsigned n_ok, n_failed;

static char byte_of(uint32_t stamp, uint64_t at)
{
	if (!stamp)
		return 0;
	if (stamp == BASE)
		return base[at];
	return (char)((stamp * UINT64_C(0x9e3779b97f4a7c15) + at * 0x2545f491) >> 24);
}

static void cut_into_atoms(void)
{
	static const unsigned lengths[] = { 1, 7, 512, 700, 4096, 5000, 20000, CHUNK };
	uint64_t at = 0;

	for (n_atoms = 0; at < size; n_atoms++) {
		uint64_t len = 1 + rnd(lengths[rnd(ROWS(lengths))]);
		uint64_t edge = (at / CHUNK + 1) * CHUNK;

		if (rnd(3))
			len = len > 511 ? len / 512 * 512 : len;
		if (at + len > edge && rnd(4))
			len = edge - at;
		if (at + len > size || n_atoms == MAX_ATOMS - 1)
			len = size - at;
		atoms[n_atoms] = (struct atom){ .begin = at, .end = at + len };
		at += len;
	}
}

/* All atoms are as base has them. */
static void forget_changes(void)
{
	for (unsigned i = 0; i < n_atoms; i++) {
		atoms[i].entries[0] = (struct entry){ BASE, 1, 1 };
		atoms[i].n = 1;
	}
	now = flushed = 2;
	is_failing = false;
}

/* The last entry that had ended before a time. */
static unsigned settled(const struct atom *a, uint64_t time)
{
	unsigned i = a->n - 1;

	while (i > 0 && !(a->entries[i].done && a->entries[i].done < time))
		i--;
	return i;
}

static void wrong(const struct atom *a, unsigned first, uint64_t at, char is,
		  const char *what)
{
	const struct entry *e = &a->entries[first];

	ck_abort_msg("%s: byte %" PRIu64 " of chunk %" PRIu64 " (%" PRIu64
		     " of the atom): is %02hhx, not %02hhx of change %u nor one of %u "
		     "others; %02hhx at the instant, %02hhx in the source; %s, %s, %s",
		     what, at % CHUNK, at / CHUNK, at - a->begin, is,
		     byte_of(e->stamp, at), e->stamp, a->n - first - 1,
		     at < SIZE ? instant[at] : 0, at < SIZE ? rig.bytes[at] : 0,
		     keep ? "kept" : "through", clean ? "clean" : "dirty",
		     is_written ? "written" : "not written");
}

static void check_atom(const struct atom *a, const char *buf, uint64_t time,
		       const char *what)
{
	unsigned first = settled(a, time), e;

	for (uint64_t at = a->begin; at < a->end; at++) {
		for (e = first; e < a->n; e++)
			if (buf[at - a->begin] == byte_of(a->entries[e].stamp, at))
				break;
		/* (An assertion that holds costs a write into check's pipe.) */
		if (e == a->n)
			wrong(a, first, at, buf[at - a->begin], what);
	}
}

/* Forgets what neither a read under way nor a power failure can bring back. */
static void prune(struct atom *a)
{
	uint64_t time = flushed;
	unsigned first;

	for (unsigned i = 0; i < WINDOW; i++)
		if (requests[i].busy && requests[i].submit < time)
			time = requests[i].submit;
	first = settled(a, time);
	memmove(a->entries, a->entries + first, (a->n - first) * sizeof(a->entries[0]));
	a->n -= first;
}

static void change_ended(struct request *r, int error)
{
	for (unsigned i = r->atom; i < r->atom + r->n; i++) {
		struct atom *a = &atoms[i];

		for (unsigned e = 0; e < a->n; e++)
			if (a->entries[e].submit == r->submit && !error)
				a->entries[e].done = now;
		prune(a);
	}
}

static void read_ended(struct request *r, const char *buf, size_t n)
{
	const struct atom *first = &atoms[r->atom];

	if (n != r->io.len)
		ck_abort_msg("%zu bytes of %" PRIu64, n, r->io.len);
	for (const struct atom *a = first; a < first + r->n; a++)
		check_atom(a, buf + (a->begin - first->begin), r->submit, "read");
}

static void request_ended(struct engine_io *io, int error, const void *buf, size_t n)
{
	struct request *r = (struct request *)io;
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&model);

	now++;
	if (error && NOW(calm) && !is_failing)
		ck_abort_msg("operation %d: %s", io->op, strerror(-error));
	n_ok += !error;
	n_failed += !!error;
	if (io->op == ENGINE_IO_READ && !error)
		read_ended(r, buf, n);
	if (io->op == ENGINE_IO_WRITE || io->op == ENGINE_IO_ZERO)
		change_ended(r, error);
	if (io->op == ENGINE_IO_FLUSH && !error && r->submit > flushed && !is_failing)
		flushed = r->submit;
	free(move_ptr(r->data));
	r->busy = false;
}

/* ---- requests --------------------------------------------------------------------- */

static struct image *image;

/* Enters a change into the model; false if an atom has no room for it. */
static bool enter_change(struct request *r, uint32_t stamp)
{
	for (unsigned i = r->atom; i < r->atom + r->n; i++) {
		prune(&atoms[i]);
		if (atoms[i].n == MAX_ENTRIES)
			return false;
	}
	for (unsigned i = r->atom; i < r->atom + r->n; i++)
		atoms[i].entries[atoms[i].n++] = (struct entry){ stamp, r->submit, 0 };
	return true;
}

static void choose_range(struct request *r)
{
	unsigned max = rnd(8) ? 4 : 200;
	uint64_t begin;

	r->atom = rnd(n_atoms);
	begin = atoms[r->atom].begin;
	for (r->n = 1; r->n < max && r->atom + r->n < n_atoms; r->n++)
		if (atoms[r->atom + r->n].end - begin > ENGINE_IO_MAX)
			break;
	r->io.offset = begin;
	r->io.len = atoms[r->atom + r->n - 1].end - begin;
}

static bool make_request(struct request *r)
{
	static const enum engine_io_op ops[] = {
		ENGINE_IO_READ,	 ENGINE_IO_READ,  ENGINE_IO_READ, ENGINE_IO_WRITE,
		ENGINE_IO_WRITE, ENGINE_IO_WRITE, ENGINE_IO_ZERO,
	};
	uint32_t stamp;

	*r = (struct request){ .submit = ++now };
	r->io.done = request_ended;
	r->io.op = rnd(25) ? ops[rnd(ROWS(ops))] : ENGINE_IO_FLUSH;
	if (r->io.op == ENGINE_IO_FLUSH)
		return true;
	choose_range(r);
	stamp = r->io.op == ENGINE_IO_ZERO ? 0 : (uint32_t)now;
	if (r->io.op != ENGINE_IO_READ && !enter_change(r, stamp))
		return false;
	if (r->io.op != ENGINE_IO_WRITE)
		return true;
	r->io.data = r->data = malloc(r->io.len);
	for (uint64_t i = 0; i < r->io.len; i++)
		r->data[i] = byte_of(stamp, r->io.offset + i);
	return true;
}

/* Submits one, if there is a place. */
static void submit_one(void)
{
	struct request *r = &requests[rnd(WINDOW)];

	pthread_mutex_lock(&model);
	if (r->busy || !make_request(r)) {
		pthread_mutex_unlock(&model);
		usleep(100);
		return;
	}
	r->busy = true;
	pthread_mutex_unlock(&model);
	image_io(image, &r->io, RIG_TIMEOUT_MS);
}

static bool all_ended(void)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&model);

	for (unsigned i = 0; i < WINDOW; i++)
		if (requests[i].busy)
			return false;
	return true;
}

/* ---- the owner, and the weather ----------------------------------------------------- */

static pthread_mutex_t owner = PTHREAD_MUTEX_INITIALIZER; /* image is there */
static bool over, wants_written, is_past_instant;	  /* atomic */
static pthread_mutex_t source = PTHREAD_MUTEX_INITIALIZER; /* held while it is written */
static unsigned n_complete, n_broken;			  /* atomic */
static char reason[IMAGE_REASON_MAX];

static void on_complete(void *opaque)
{
	(void)opaque;
	__atomic_add_fetch(&n_complete, 1, __ATOMIC_RELEASE);
}

static void on_broken(void *opaque, int error, const char *text)
{
	(void)opaque;
	(void)error;
	snprintf(reason, sizeof(reason), "%s", text);
	__atomic_add_fetch(&n_broken, 1, __ATOMIC_RELEASE);
}

static void on_written(void *opaque)
{
	(void)opaque;
	SET(wants_written, true);
}

static void toss(void)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&owner);

	if (!image)
		return;
	if (__atomic_exchange_n(&wants_written, false, __ATOMIC_ACQ_REL)) {
		SET(is_written, true);
		image_set_written(image);
	}
	switch (rnd(12)) {
	case 0:
		image_start_copy(image);
		break;
	case 1:
	case 2:
		image_pause_copy(image);
		break;
	case 3:
		image_checkpoint_soon(image);
		break;
	case 4:
		if (!rnd(8))
			image_keep_reads(image);
		break;
	}
}

static void *owner_thread(void *opaque)
{
	while (!NOW(over)) {
		usleep(rnd(10000));
		toss();
	}
	return opaque;
}

/* A failure of a target is between requests: it waits for that. */
static pthread_mutex_t weather = PTHREAD_MUTEX_INITIALIZER;

static void blow(bool at_target)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&weather);
	struct ram *d = at_target ? rig_target : &rig;

	SET(d->lose, rnd(3) ? 0 : 20);
	if (at_target)
		SET(d->lose_after, rnd(3) ? 0 : 20);
	if (rnd(2)) {
		ram_away(d);
		usleep(rnd(20000));
		ram_back(d);
	} else {
		SET(d->silent, true);
		usleep(rnd(20000));
		ram_resume(d);
	}
}

static void *weather_thread(void *opaque)
{
	while (!NOW(over)) {
		usleep(rnd(40000));
		if (NOW(calm))
			continue;
		blow(lun && rnd(2));
	}
	SET(rig.lose, 0);
	if (lun)
		SET(rig_target->lose, 0);
	if (lun)
		SET(rig_target->lose_after, 0);
	return opaque;
}

static void *source_thread(void *opaque)
{
	static char buf[3 * CHUNK];

	memset(buf, 's', sizeof(buf));
	while (!NOW(over)) {
		uint64_t len = 1 + rnd(sizeof(buf)), offset = rnd(SIZE - (unsigned)len);

		usleep(rnd(10000));
		pthread_mutex_lock(&source);
		if (NOW(is_past_instant))
			do_io(NULL, rnd(3) ? ENGINE_IO_WRITE : ENGINE_IO_ZERO, buf,
			      offset, len);
		pthread_mutex_unlock(&source);
	}
	return opaque;
}

/* ---- the image ------------------------------------------------------------------- */

static struct point *point;
static struct image *before_it; /* of the generation before, retired */
static bool new_generation;

static void open_image(void)
{
	const struct image_watcher watcher = { on_complete, on_broken, on_written, NULL };
	const struct image_params params = {
		.id = IMAGE,
		.size = size,
		.generation = generation,
		.complete = is_complete,
		.written = NOW(is_written),
		.clean = clean && generation == 1,
		.digests = digests,
		.resync = digests && generation > 1,
		.target = lun ? rig_target->volume : NULL,
		.target_name = "t",
		.copy_size = SIZE,
	};

	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&owner);
	SET(wants_written, false);
	ck_assert_int_eq(image_open(&rig_ops, rig_pool, &params, &image), 0);
	image_own_file(image);
	if (before_it || new_generation)
		image_take_base(image, before_it);
	image_unref(move_ptr(before_it));
	image_set_source(image, is_complete ? NULL : point, "lun", keep, &watcher);
}

static void close_image(void)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&owner);

	image_cut_off(image);
	image_unref(move_ptr(image));
}

/* The image is what the model allows after a time; which is what it is from then on. */
static void settle(uint64_t time, const char *what)
{
	static char buf[MAX_SIZE];

	for (uint64_t at = 0; at < size; at += ENGINE_IO_MAX) {
		uint64_t n = size - at < ENGINE_IO_MAX ? size - at : ENGINE_IO_MAX;

		while (do_io(image, ENGINE_IO_READ, buf + at, at, n) != (int)n)
			ck_assert(!NOW(calm));
	}
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&model);
	for (unsigned i = 0; i < n_atoms; i++)
		check_atom(&atoms[i], buf + atoms[i].begin, time, what);
	memcpy(base, buf, size);
	forget_changes();
}

/* As from then on it is what is durable, also for the next failure. */
static void flush_all(void)
{
	while (do_io(image, ENGINE_IO_FLUSH, NULL, 0, 0) < 0)
		ck_assert(!NOW(calm));
}

static void settle_for_good(const char *what)
{
	settle(now + 1, what);
	flush_all();
}

/* The target fails and LunFS does not: what was answered may be lost, as with any LUN,
 * but not what was flushed; and what had come of the source, LunFS knows to copy
 * again. */
static void target_failure(void)
{
	uint64_t time;

	WAIT_FOR(all_ended());
	pthread_mutex_lock(&weather);
	pthread_mutex_lock(&model);
	time = flushed;
	pthread_mutex_unlock(&model);
	ram_away(rig_target);
	ram_fail(rig_target);
	ram_back(rig_target);
	pthread_mutex_unlock(&weather);
	settle(time, "after a failure of the target");
	flush_all();
}

/* What a power failure now would leave of the files; and those are there then. */
static struct left {
	size_t size;
	char bytes[SIZE + 1];
} lefts[N_FILES];

static void fail_disks(void)
{
	pthread_rwlock_wrlock(&power);
	for (int i = 0; i < N_FILES; i++)
		if (NOW(disks[i].inode))
			lefts[i].size = disk_fail(&disks[i], lefts[i].bytes);
	pthread_rwlock_unlock(&power);
}

static void replace_disks(void)
{
	for (int i = 0; i < N_FILES; i++)
		if (NOW(disks[i].inode))
			disk_replace(&disks[i], lefts[i].bytes, lefts[i].size);
}

/* The process ends, the target may lose what is not durable, or not. */
static void lun_power_failure(void)
{
	uint64_t time;

	pthread_mutex_lock(&weather);
	pthread_mutex_lock(&model);
	time = flushed;
	is_failing = true;
	pthread_mutex_unlock(&model);
	fail_disks();
	ck_assert_msg(!NOW(n_broken), "%s", reason);
	rig_replace_target();
	if (rnd(2))
		ram_lose_cache(rig_target);
	else
		memcpy(rig_target->durable, rig_target->bytes, size); /* in time */
	close_image();
	SET(n_broken, 0); /* the process that has died found its target so */
	pthread_mutex_unlock(&weather);
	WAIT_FOR(all_ended());
	replace_disks();
	open_image();
	settle(time, "after a power failure");
}

static void power_failure(void)
{
	uint64_t time;

	pthread_mutex_lock(&model);
	time = flushed;
	is_failing = true;
	pthread_mutex_unlock(&model);
	fail_disks();
	close_image();
	WAIT_FOR(all_ended());
	replace_disks();
	keep = keep || !rnd(3);
	open_image();
	settle(time, "after a power failure");
}

static void make_digests(void)
{
	if (!digests)
		return;
	ck_assert_int_eq(pool_create_digest(rig_pool, IMAGE, SIZE, 1), 0);
	disk_open(&disks[DIGEST], "e1.1.digest");
}

static void make_image(void)
{
	static char garbage[SIZE];
	int fd;

	for (int i = 0; i < N_FILES; i++)
		SET(disks[i].inode, 0);
	if (lun) {
		ck_assert_int_eq(pool_create_map(rig_pool, IMAGE, SIZE, 1), 0);
		disk_open(&disks[MAP], "e1.map");
		make_digests();
		return;
	}
	ck_assert_int_eq(pool_create_image(rig_pool, IMAGE, SIZE, 1, false), 0);
	fd = pool_open_image(rig_pool, IMAGE, O_RDWR);
	memset(garbage, 'g', SIZE);
	if (!clean)
		ck_assert_int_eq(pwrite(fd, garbage, SIZE, 0), SIZE);
	close(fd);
	disk_open(&disks[RAW], "e1.raw");
	disk_open(&disks[MAP], "e1.map");
	make_digests();
}

/* The source does not change meanwhile. */
static void take_instant(void)
{
	memcpy(base, rig.bytes, SIZE);
	memcpy(instant, base, SIZE);
	if (lun)
		memcpy(base + SIZE, rig_target->bytes + SIZE, size - SIZE);
	cut_into_atoms();
	forget_changes();
	point = rig_point(POINT + generation);
}

static void some_time(unsigned n_failures)
{
	for (unsigned i = 0; i <= n_failures; i++) {
		for (unsigned n = 5 + rnd(rnd(3) ? 100 : 1000); n; n--)
			submit_one();
		if (i == n_failures)
			break;
		if (!lun)
			power_failure();
		else if (rnd(2))
			lun_power_failure();
		else
			target_failure();
	}
	WAIT_FOR(all_ended());
}

static void copy_to_the_end(void)
{
	WAIT_FOR(({
		pthread_mutex_lock(&owner);
		image_start_copy(image);
		pthread_mutex_unlock(&owner);
		NOW(n_complete) || NOW(n_broken);
	}));
	ck_assert_msg(!n_broken, "%s", reason);
	settle_for_good("in the end");
}

/* It is complete, and its users go on. */
static void use_complete(void)
{
	if (!lun) {
		close_image();
		is_complete = true;
		open_image();
	}
	some_time(is_complete ? rnd(3) : 0);
	settle_for_good("of a complete one");
}

static void make_generation(void)
{
	char file[64];

	ck_assert_int_eq(pool_create_map(rig_pool, IMAGE, SIZE, generation), 0);
	ck_assert_int_eq(pool_create_digest(rig_pool, IMAGE, SIZE, generation), 0);
	pool_map_file(IMAGE, generation, file, sizeof(file));
	disk_open(&disks[MAP], file);
	pool_digest_file(IMAGE, generation - 1, file, sizeof(file));
	disk_open(&disks[OLD_DIGEST], file);
	pool_digest_file(IMAGE, generation, file, sizeof(file));
	disk_open(&disks[DIGEST], file);
}

/* What ResyncReplica does; the image is closed at times, as one that nobody has open. */
static void next_generation(void)
{
	struct point *old = point;

	pthread_mutex_lock(&source);
	pthread_mutex_lock(&owner);
	generation++;
	make_generation();
	take_instant();
	image_cut_off(image);
	image_retire(image, true);
	before_it = move_ptr(image);
	if (is_complete && rnd(2))
		image_unref(move_ptr(before_it));
	is_complete = false;
	n_complete = n_broken = 0;
	SET(is_written, false);
	new_generation = true;
	pthread_mutex_unlock(&owner);
	open_image();
	new_generation = false;
	pthread_mutex_unlock(&source);
	/* Nobody reads through the oldest. */
	point_remove(old);
	point_unref(old);
}

/* From an instant to the end of the copy, or of several. */
static void one_life(void)
{
	unsigned n_generations = digests ? 1 + rnd(5) : 1;

	keep = lun || digests || rnd(2);
	clean = !lun && rnd(2);
	n_complete = n_broken = 0;
	generation = 1;
	is_complete = false;
	SET(is_written, false);
	make_image();
	take_instant();
	SET(is_past_instant, true);
	open_image();
	while (generation < n_generations) {
		some_time(rnd(4));
		if (rnd(4)) {
			copy_to_the_end();
			use_complete();
		}
		next_generation();
	}
	some_time(rnd(8));
	copy_to_the_end();
	close_image();
	point_remove(point);
	point_unref(point);
}

static void storm(bool is_calm, bool is_lun, bool with_digests)
{
	void *(*const fns[])(void *) = { owner_thread, weather_thread, source_thread };
	const char *seconds = getenv("CHECK_IMAGE_SECONDS");
	pthread_t threads[ROWS(fns)];
	uint64_t end = timefmt_monotonic_ns() + (uint64_t)(seconds	? atoi(seconds) :
							   with_digests ? 2 :
									  3) *
							UINT64_C(1000000000);
	unsigned n_lives = 0;

	SET(over, false);
	SET(calm, is_calm);
	lun = is_lun;
	digests = with_digests;
	for (unsigned round = 0; timefmt_monotonic_ns() < end; round++) {
		rig_start(SIZE, true);
		rig_seed += round;
		size = SIZE;
		if (lun)
			size += rnd(2) ? 0 : (1 + rnd((MAX_SIZE - SIZE) / 512)) * 512;
		if (lun) {
			rig_start_target(size, 512);
			SET(rig_target->no_zero, rnd(2));
			SET(rig_target->late_us, 300);
		}
		SET(rig.late_us, 300);
		SET(over, false);
		SET(is_past_instant, false);
		for (unsigned i = 0; i < ROWS(fns); i++)
			ck_assert_int_eq(pthread_create(&threads[i], NULL, fns[i], NULL),
					 0);
		one_life();
		n_lives++;
		SET(over, true);
		for (unsigned i = 0; i < ROWS(fns); i++)
			pthread_join(threads[i], NULL);
		rig_stop();
	}
	printf("%u lives, %u requests done, %u failed\n", n_lives, n_ok, n_failed);
}

START_TEST(in_calm_all_is_done_and_right)
{
	storm(true, false, false);
}
END_TEST

START_TEST(in_bad_weather_what_is_done_is_right)
{
	storm(false, false, false);
}
END_TEST

START_TEST(a_lun_in_calm_is_right)
{
	storm(true, true, false);
}
END_TEST

START_TEST(a_lun_in_bad_weather_is_right)
{
	storm(false, true, false);
}
END_TEST

START_TEST(new_instants_in_calm_are_right)
{
	storm(true, false, true);
}
END_TEST

START_TEST(new_instants_in_bad_weather_are_right)
{
	storm(false, false, true);
}
END_TEST

START_TEST(new_instants_onto_a_lun_are_right)
{
	storm(rnd(2), true, true);
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
		in_calm_all_is_done_and_right,
		in_bad_weather_what_is_done_is_right,
		a_lun_in_calm_is_right,
		a_lun_in_bad_weather_is_right,
		new_instants_in_calm_are_right,
		new_instants_in_bad_weather_are_right,
		new_instants_onto_a_lun_are_right,
	};

	return unit_main("image_storm", tests, ROWS(tests));
}
