/* SPDX-License-Identifier: BSD-2-Clause */

/*
 * crashplay: what is left after the crash, and writing it down.
 *
 * First the cut of each domain of metadata, then names from the kept changes, then
 * each file that has a name: its content when the log began, and over it, in order,
 * what is kept.  A file that lies at its place already is rewritten and keeps its
 * inode; what lies there and has no name any more is removed.
 */

#include <dirent.h>
#include <err.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <linux/falloc.h>
#include <stdio.h>
#include <sys/stat.h>

#include "tests/crashplay.h"
#include "tests/tool.h"

static struct play *play;
static const struct build *build;

static uint64_t draw(uint64_t a, uint64_t b)
{
	return tool_mix(build->seed ^ tool_mix(a ^ tool_mix(b)));
}

static bool is_durable(const struct object *o)
{
	return build->mode == PLAY_ALL || (o->top && o->top->durable);
}

/* ---- metadata ---- */

static bool is_committed(const struct meta *m, const struct object *domain)
{
	return m->n <= domain->committed || m->n < play->all_synced;
}

/* random: of the n changes behind the commit, 0 to n are kept, each as likely. */
static void decide_cuts(void)
{
	for (const struct meta *m = play->metas; m; m = m->next) {
		struct object *d = m->domain ? object_domain(m->domain) : NULL;

		if (d && !is_committed(m, d))
			d->n_open++;
	}
	for (struct object *o = play->objects; o; o = o->next) {
		bool all = build->mode == PLAY_ALL || (o->top && o->top->durable);

		o->n_kept = all ? o->n_open :
			    build->mode == PLAY_RANDOM ?
				  draw(o->index, 0) % (o->n_open + 1) :
				  0;
		o->cut = o->committed;
	}
	for (const struct meta *m = play->metas; m; m = m->next) {
		struct object *d = m->domain ? object_domain(m->domain) : NULL;

		if (d && !is_committed(m, d) && d->n_kept > 0) {
			d->n_kept--;
			d->cut = m->n;
		}
	}
}

static bool meta_is_kept(const struct meta *m)
{
	const struct object *d = m->domain ? object_domain(m->domain) : NULL;

	return !d || is_committed(m, d) || m->n <= d->cut;
}

static void rebuild_names(void)
{
	for (const struct meta *m = play->metas; m; m = m->next) {
		if (!meta_is_kept(m))
			continue;
		switch (m->record->type) {
		case CRASHLOG_CREATE:
		case CRASHLOG_LINK:
			object_set_entry(m->dir, NAMES_REBUILT, m->name, m->object);
			break;
		case CRASHLOG_UNLINK:
			object_set_entry(m->dir, NAMES_REBUILT, m->name, NULL);
			break;
		case CRASHLOG_RENAME:
			object_set_entry(m->dir, NAMES_REBUILT, m->name, NULL);
			object_set_entry(m->dir2, NAMES_REBUILT, m->name2, m->object);
			break;
		case CRASHLOG_CHMOD:
			m->object->mode =
				(m->object->mode & S_IFMT) | (m->record->mode & 07777);
			break;
		default:
			break;
		}
	}
}

/* ---- content ---- */

/* A part of a write that lies in one sector. */
struct piece {
	uint64_t sector;
	const struct op *op;
	bool kept;
};

static int by_sector(const void *a, const void *b)
{
	const struct piece *p = a, *q = b;

	if (p->sector != q->sector)
		return p->sector < q->sector ? -1 : 1;
	return p->op->n < q->op->n ? -1 : p->op->n > q->op->n;
}

static int by_op(const void *a, const void *b)
{
	const struct piece *p = a, *q = b;

	if (p->op->n != q->op->n)
		return p->op->n < q->op->n ? -1 : 1;
	return p->sector < q->sector ? -1 : p->sector > q->sector;
}

static bool op_is_synced(const struct object *o, const struct op *op)
{
	return is_durable(o) || op->n < o->synced || op->n < play->all_synced;
}

static uint64_t sectors_of(const struct op *op)
{
	if (op->meta || op->size == 0)
		return 0;
	return (op->offset + op->size - 1) / build->sector - op->offset / build->sector +
	       1;
}

/* How much of n changes of one sector is kept: a first part of them, as the sector
 * was at some moment.  One file in four loses all, one keeps all. */
static size_t draw_prefix(const struct object *o, uint64_t sector, size_t n)
{
	switch (build->mode == PLAY_RANDOM ? draw(o->index, 1) % 4 : 0) {
	case 0:
		return 0;
	case 1:
		return n;
	default:
		return draw(o->index, sector + 2) % (n + 1);
	}
}

static void decide_sector(const struct object *o, struct piece *p, size_t n)
{
	size_t durable = 0, kept;

	for (size_t i = 0; i < n; i++) {
		if (p[i].op->durable)
			durable = i + 1;
	}
	kept = durable + draw_prefix(o, p->sector, n - durable);
	for (size_t i = 0; i < kept; i++)
		p[i].kept = true;
}

/* The pieces of the file's writes that no sync covers, in order of the writes. */
static struct piece *decide_pieces(const struct object *o, size_t *ret_n)
{
	size_t n = 0, i = 0;
	struct piece *pieces;

	for (const struct op *op = o->ops; op; op = op->next)
		n += op_is_synced(o, op) ? 0 : sectors_of(op);
	pieces = calloc(n + 1, sizeof(*pieces));
	if (!pieces)
		errx(TOOL_IO, "out of memory");
	for (const struct op *op = o->ops; op; op = op->next) {
		uint64_t count = op_is_synced(o, op) ? 0 : sectors_of(op);

		for (uint64_t k = 0; k < count; k++)
			pieces[i++] = (struct piece){ op->offset / build->sector + k, op,
						      false };
	}
	qsort(pieces, n, sizeof(*pieces), by_sector);
	for (size_t from = 0, to; from < n; from = to) {
		for (to = from; to < n && pieces[to].sector == pieces[from].sector;)
			to++;
		decide_sector(o, pieces + from, to - from);
	}
	qsort(pieces, n, sizeof(*pieces), by_op);
	*ret_n = n;
	return pieces;
}

static void put(int fd, const char *path, const void *data, uint64_t size,
		uint64_t offset)
{
	int r = tool_pwrite(fd, data, size, offset);

	if (r < 0)
		errx(TOOL_IO, "%s: writing: %s", path, strerror(-r));
}

static void put_pieces(int fd, const char *path, const struct op *op,
		       const struct piece *p)
{
	for (; p->op == op; p++) {
		uint64_t from = p->sector * build->sector, to = from + build->sector;

		if (from < op->offset)
			from = op->offset;
		if (to > op->offset + op->size)
			to = op->offset + op->size;
		if (p->kept)
			put(fd, path, op->data + (from - op->offset), to - from, from);
	}
}

static void put_zeros(int fd, const char *path, uint64_t offset, uint64_t end)
{
	static const char zeros[65536];

	for (uint64_t n; offset < end; offset += n) {
		n = end - offset < sizeof(zeros) ? end - offset : sizeof(zeros);
		put(fd, path, zeros, n, offset);
	}
}

static void put_size_change(int fd, const char *path, const struct op *op)
{
	uint64_t end = op->offset + op->size;
	int mode = (int)op->record->mode;
	struct stat st;

	if (fstat(fd, &st) < 0)
		err(TOOL_IO, "%s", path);
	if (op->record->type == CRASHLOG_TRUNCATE) {
		if (ftruncate(fd, (off_t)op->size) < 0)
			err(TOOL_IO, "%s: truncating", path);
		return;
	}
	if (mode & ~(FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE))
		errx(TOOL_IO, "%s: fallocate mode %d is not known", path, mode);
	if (!(mode & FALLOC_FL_KEEP_SIZE) && end > (uint64_t)st.st_size &&
	    ftruncate(fd, (off_t)end) < 0)
		err(TOOL_IO, "%s: truncating", path);
	if (!(mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE)))
		return;
	if (fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)op->offset,
		      (off_t)op->size) == 0)
		return;
	if (end > (uint64_t)st.st_size)
		end = (uint64_t)st.st_size;
	put_zeros(fd, path, op->offset, end);
}

static void put_ops(const struct object *o, int fd, const char *path)
{
	size_t n;
	struct piece *pieces = decide_pieces(o, &n), *p = pieces;

	for (const struct op *op = o->ops; op; op = op->next) {
		while (p->op && p->op->n < op->n)
			p++;
		if (op->meta) {
			if (is_durable(o) || meta_is_kept(op->meta))
				put_size_change(fd, path, op);
		} else if (op_is_synced(o, op)) {
			put(fd, path, op->data, op->size, op->offset);
		} else {
			put_pieces(fd, path, op, p);
		}
	}
	free(pieces);
}

/* ---- the trees ---- */

static const char *base_name(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

/* The content when the log began, holes kept. */
static void copy_base(const struct object *o, int fd, const char *path)
{
	char from[PATH_MAX];
	struct stat st;
	off_t at = 0, end;
	int in;

	snprintf(from, sizeof(from), "%s/%s%s", build->from, base_name(o->top->root),
		 o->base + strlen(o->top->root));
	in = open(from, O_RDONLY | O_CLOEXEC);
	if (in < 0 || fstat(in, &st) < 0)
		err(TOOL_IO, "%s: opening", from);
	if (ftruncate(fd, st.st_size) < 0)
		err(TOOL_IO, "%s: truncating", path);
	while (at < st.st_size && (at = lseek(in, at, SEEK_DATA)) >= 0) {
		off_t in_at = at, out_at = at;

		end = lseek(in, at, SEEK_HOLE);
		for (; out_at < end;) {
			if (copy_file_range(in, &in_at, fd, &out_at,
					    (size_t)(end - in_at), 0) <= 0)
				err(TOOL_IO, "%s: copying to %s", from, path);
		}
		at = end;
	}
	close(in);
}

static void remove_tree(const char *path)
{
	struct stat st;
	struct dirent *d;
	DIR *dir;

	if (lstat(path, &st) < 0)
		return;
	dir = S_ISDIR(st.st_mode) ? opendir(path) : NULL;
	while (dir && (d = readdir(dir))) {
		char below[PATH_MAX];

		snprintf(below, sizeof(below), "%s/%s", path, d->d_name);
		if (strcmp(d->d_name, ".") && strcmp(d->d_name, ".."))
			remove_tree(below);
	}
	if (dir)
		closedir(dir);
	if (remove(path) < 0)
		err(TOOL_IO, "%s: removing", path);
}

static void place_file(struct object *o, const char *path)
{
	struct stat st;
	int fd;

	if (lstat(path, &st) == 0 &&
	    (!S_ISREG(st.st_mode) || st.st_nlink > 1 || o->placed))
		remove_tree(path);
	if (o->placed) {
		if (link(o->placed, path) < 0)
			err(TOOL_IO, "%s: linking", path);
		return;
	}
	fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		err(TOOL_IO, "%s: making", path);
	if (o->base)
		copy_base(o, fd, path);
	put_ops(o, fd, path);
	if (fchmod(fd, o->mode & 07777) < 0)
		err(TOOL_IO, "%s: chmod", path);
	close(fd);
	o->placed = strdup(path);
}

static void place_link(const struct object *o, const char *path)
{
	char target[PATH_MAX] = "", from[PATH_MAX];

	if (o->target) {
		snprintf(target, sizeof(target), "%s", o->target);
	} else {
		snprintf(from, sizeof(from), "%s/%s%s", build->from,
			 base_name(o->top->root), o->base + strlen(o->top->root));
		if (readlink(from, target, sizeof(target) - 1) < 0)
			err(TOOL_IO, "%s: reading the link", from);
	}
	remove_tree(path);
	if (symlink(target, path) < 0)
		err(TOOL_IO, "%s: linking", path);
}

static void remove_nameless(struct object *o, const char *path)
{
	DIR *dir = opendir(path);
	struct dirent *d;
	char below[PATH_MAX];

	while (dir && (d = readdir(dir))) {
		if (!strcmp(d->d_name, ".") || !strcmp(d->d_name, "..") ||
		    object_entry(o, NAMES_REBUILT, d->d_name))
			continue;
		snprintf(below, sizeof(below), "%s/%s", path, d->d_name);
		remove_tree(below);
	}
	if (dir)
		closedir(dir);
}

static void place_dir(struct object *o, const char *path)
{
	char below[PATH_MAX];
	struct stat st;

	if (lstat(path, &st) == 0 && !S_ISDIR(st.st_mode))
		remove_tree(path);
	if (mkdir(path, 0700) < 0 && errno != EEXIST)
		err(TOOL_IO, "%s: making", path);
	remove_nameless(o, path);
	for (const struct entry *e = o->entries[NAMES_REBUILT]; e; e = e->next) {
		snprintf(below, sizeof(below), "%s/%s", path, e->name);
		if (S_ISDIR(e->object->mode))
			place_dir(e->object, below);
		else if (S_ISLNK(e->object->mode))
			place_link(e->object, below);
		else
			place_file(e->object, below);
	}
	if (chmod(path, o->mode & 07777) < 0)
		err(TOOL_IO, "%s: chmod", path);
}

void play_build(struct play *p, const struct build *b)
{
	char path[PATH_MAX];

	play = p;
	build = b;
	decide_cuts();
	rebuild_names();
	if (mkdir(build->to, 0700) < 0 && errno != EEXIST)
		err(TOOL_IO, "%s: making", build->to);
	for (struct object *o = play->objects; o; o = o->next) {
		if (!o->root)
			continue;
		snprintf(path, sizeof(path), "%s/%s", build->to, base_name(o->root));
		place_dir(o, path);
	}
}
