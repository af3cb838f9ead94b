/* SPDX-License-Identifier: BSD-2-Clause */

/*
 * crashplay: what the records of a log mean.  One pass in order; names are followed as
 * they were in memory, so that each change finds its directory and its inode.
 */

#include <err.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "tests/crashplay.h"
#include "tests/tool.h"

/* ---- small things ---- */

static void *make(size_t size)
{
	void *p = calloc(1, size);

	if (!p)
		errx(TOOL_IO, "out of memory");
	return p;
}

/* A map from two numbers to a pointer, grown by doubling. */
struct map {
	struct slot {
		uint64_t a, b;
		void *value;
	} * slots;
	size_t size, used;
};

static struct slot *map_slot(const struct map *m, uint64_t a, uint64_t b)
{
	size_t i = tool_mix(a + tool_mix(b)) & (m->size - 1);

	while (m->slots[i].value && (m->slots[i].a != a || m->slots[i].b != b))
		i = (i + 1) & (m->size - 1);
	return &m->slots[i];
}

static void *map_get(const struct map *m, uint64_t a, uint64_t b)
{
	return m->size ? map_slot(m, a, b)->value : NULL;
}

static void map_put(struct map *m, uint64_t a, uint64_t b, void *value)
{
	struct slot *slot;

	if (m->used * 2 >= m->size) {
		struct map grown = { .size = m->size ? m->size * 2 : 1024 };

		grown.slots = make(grown.size * sizeof(*grown.slots));
		for (size_t i = 0; i < m->size; i++) {
			if (m->slots[i].value)
				map_put(&grown, m->slots[i].a, m->slots[i].b,
					m->slots[i].value);
		}
		free(m->slots);
		*m = grown;
	}
	slot = map_slot(m, a, b);
	m->used += !slot->value;
	*slot = (struct slot){ a, b, value };
}

static struct map inodes;  /* dev, ino: the object that has that number now */
static struct map tokens;  /* of syncs under way and of writes */
static struct map results; /* token of a write: its RESULT */

const char *record_path(const struct crashlog_record *r)
{
	return r->path_len ? (const char *)(r + 1) : "";
}

const char *record_path2(const struct crashlog_record *r)
{
	return r->path2_len ? (const char *)(r + 1) + r->path_len : "";
}

const unsigned char *record_data(const struct crashlog_record *r)
{
	return (const unsigned char *)(r + 1) + r->path_len + r->path2_len;
}

/* ---- the log ---- */

static bool is_whole(const struct crashlog_record *r, size_t left)
{
	uint64_t length = sizeof(*r);

	if (left < sizeof(*r) || r->magic != CRASHLOG_MAGIC || r->length > left)
		return false;
	length += (uint64_t)r->path_len + r->path2_len + r->data_len;
	return r->length >= length && r->length < length + 8;
}

/* A record that is cut short at the end is that of a process killed in mid-write. */
void play_open(struct play *play, const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	size_t room = 0;
	struct stat st;

	play->path = path;
	if (fd < 0 || fstat(fd, &st) < 0)
		err(TOOL_IO, "%s: opening", path);
	play->size = (size_t)st.st_size;
	play->map =
		play->size ? mmap(NULL, play->size, PROT_READ, MAP_PRIVATE, fd, 0) : NULL;
	if (play->map == MAP_FAILED)
		err(TOOL_IO, "%s: reading", path);
	close(fd);
	for (size_t at = 0; at < play->size;) {
		const struct crashlog_record *r = (const void *)(play->map + at);

		if (!is_whole(r, play->size - at)) {
			warnx("%s: cut off at byte %zu", path, at);
			break;
		}
		if (play->n_records == room) {
			room = room ? room * 2 : 4096;
			play->records = realloc(play->records, room * sizeof(r));
			if (!play->records)
				errx(TOOL_IO, "out of memory");
		}
		play->records[play->n_records++] = r;
		at += r->length;
		if (r->type == CRASHLOG_RESULT)
			map_put(&results, r->token, 0, (void *)(uintptr_t)r);
	}
}

/* ---- objects and names ---- */

const char *object_path(const struct object *object)
{
	static char buf[PATH_MAX + 16];
	char *p = buf + sizeof(buf) - 1;
	const struct object *o = object;

	*p = '\0';
	for (; o; o = o->parent) {
		const char *part = o->root ? o->root : o->name ? o->name : "(no name)";
		size_t n = strlen(part);

		if (p - buf < (ptrdiff_t)n + 1)
			break;
		p -= n;
		memcpy(p, part, n);
		if (o->root)
			break;
		*--p = '/';
	}
	return o || *p != '/' ? p : p + 1;
}

struct entry *object_entry(struct object *dir, enum names names, const char *name)
{
	struct entry *e = dir->entries[names];

	while (e && strcmp(e->name, name))
		e = e->next;
	return e;
}

void object_set_entry(struct object *dir, enum names names, const char *name,
		      struct object *object)
{
	struct entry **p = &dir->entries[names];

	while (*p && strcmp((*p)->name, name))
		p = &(*p)->next;
	if (!object) {
		if (*p)
			*p = (*p)->next;
		return;
	}
	if (!*p) {
		*p = make(sizeof(**p));
		(*p)->name = name;
	}
	(*p)->object = object;
}

struct object *object_domain(struct object *object)
{
	while (object->merged)
		object = object->merged;
	return object;
}

static void merge_domains(struct object *a, struct object *b)
{
	a = object_domain(a);
	b = object_domain(b);
	if (a == b)
		return;
	b->merged = a;
	if (b->committed > a->committed)
		a->committed = b->committed;
}

static struct object *new_object(struct play *play, const struct crashlog_record *r)
{
	struct object *o = make(sizeof(*o));

	o->index = play->last_object ? play->last_object->index + 1 : 1;
	o->mode = r->mode;
	o->target = S_ISLNK(r->mode) && r->data_len ? (const char *)record_data(r) : NULL;
	*(play->last_object ? &play->last_object->next : &play->objects) = o;
	play->last_object = o;
	map_put(&inodes, r->dev, r->ino, o);
	return o;
}

/* The directory and last part of a path; NULL: below nothing that is known. */
static struct object *find_dir(const struct play *play, const char *path,
			       const char **ret_name)
{
	struct object *dir = NULL;
	size_t n = 0;

	for (struct object *o = play->objects; o; o = o->next) {
		if (!o->root)
			continue;
		n = strlen(o->root);
		if (!strncmp(path, o->root, n) && path[n] == '/') {
			dir = o;
			break;
		}
	}
	path += n + 1;
	for (const char *slash; dir && (slash = strchr(path, '/')); path = slash + 1) {
		char *part = strndup(path, (size_t)(slash - path));
		struct entry *e = object_entry(dir, NAMES_LIVE, part);

		dir = e ? e->object : NULL;
		free(part);
	}
	*ret_name = path;
	return dir;
}

static struct object *must_find_dir(const struct play *play, uint64_t n, const char *path,
				    const char **ret_name)
{
	struct object *dir = find_dir(play, path, ret_name);

	if (!dir)
		errx(TOOL_IO, "%s: record %" PRIu64 ": %s: its directory is not known",
		     play->path, n, path);
	return dir;
}

static struct object *must_find_inode(const struct play *play, uint64_t n)
{
	const struct crashlog_record *r = play->records[n - 1];
	struct object *o = map_get(&inodes, r->dev, r->ino);

	if (!o)
		errx(TOOL_IO, "%s: record %" PRIu64 ": inode %" PRIu64 " is not known",
		     play->path, n, r->ino);
	return o;
}

/* ---- metadata ---- */

static struct meta *add_meta(struct play *play, uint64_t n, struct object *o,
			     struct object *domain)
{
	struct meta *m = make(sizeof(*m));

	m->n = n;
	m->record = play->records[n - 1];
	m->object = o;
	m->domain = domain;
	m->next_of_object = o->metas;
	o->metas = m;
	*(play->last_meta ? &play->last_meta->next : &play->metas) = m;
	play->last_meta = m;
	return m;
}

static struct object *inode_domain(const struct play *play, struct object *o)
{
	return play->fs == FS_POSIX ? o : o->parent;
}

/* A name of o is in dir from now on (live). */
static void set_live(struct object *dir, const char *name, struct object *o)
{
	struct entry *old = object_entry(dir, NAMES_LIVE, name);

	if (old && old->object != o)
		old->object->parent = NULL;
	object_set_entry(dir, NAMES_LIVE, name, o);
	o->parent = dir;
	o->name = name;
	if (!o->top)
		o->top = dir->top;
}

static void clear_live(struct object *dir, const char *name)
{
	struct entry *e = object_entry(dir, NAMES_LIVE, name);

	if (!e)
		return;
	if (e->object->parent == dir && !strcmp(e->object->name, name))
		e->object->parent = NULL;
	object_set_entry(dir, NAMES_LIVE, name, NULL);
}

static void parse_file(struct play *play, uint64_t n)
{
	const struct crashlog_record *r = play->records[n - 1];
	struct object *o = new_object(play, r), *dir;
	const char *path = record_path(r), *name;

	o->base = path;
	dir = find_dir(play, path, &name);
	if (!dir) {
		o->root = path;
		o->top = o;
		return;
	}
	set_live(dir, name, o);
	object_set_entry(dir, NAMES_REBUILT, name, o);
}

static void parse_name(struct play *play, uint64_t n)
{
	const struct crashlog_record *r = play->records[n - 1];
	const char *name, *name2 = NULL;
	bool is_link = r->type == CRASHLOG_LINK, is_new = r->type == CRASHLOG_CREATE;
	struct object *dir, *dir2 = NULL, *o;
	struct entry *e;
	struct meta *m;

	dir = must_find_dir(play, n, is_link ? record_path2(r) : record_path(r), &name);
	if (r->type == CRASHLOG_RENAME)
		dir2 = must_find_dir(play, n, record_path2(r), &name2);
	e = is_new || is_link ? NULL : object_entry(dir, NAMES_LIVE, name);
	o = is_new  ? new_object(play, r) :
	    is_link ? must_find_inode(play, n) :
	    e	    ? e->object :
		      NULL;
	if (!o)
		errx(TOOL_IO, "%s: record %" PRIu64 ": %s is not known", play->path, n,
		     record_path(r));
	m = add_meta(play, n, o, dir);
	m->dir = dir;
	m->name = name;
	m->dir2 = dir2;
	m->name2 = name2;
	if (is_new || is_link) {
		set_live(dir, name, o);
		return;
	}
	clear_live(dir, name);
	if (dir2) {
		set_live(dir2, name2, o);
		merge_domains(dir, dir2);
	}
}

static struct op *add_op(struct play *play, uint64_t n, struct object *o)
{
	struct op *op = make(sizeof(*op));

	op->n = n;
	op->record = play->records[n - 1];
	op->offset = op->record->offset;
	op->size = op->record->size;
	*(o->last_op ? &o->last_op->next : &o->ops) = op;
	o->last_op = op;
	return op;
}

static void parse_content(struct play *play, uint64_t n)
{
	const struct crashlog_record *r = play->records[n - 1];
	struct object *o = must_find_inode(play, n);
	const struct crashlog_record *result = map_get(&results, r->token, 0);
	struct meta *m;
	struct op *op;

	if (r->type == CRASHLOG_WRITE) {
		op = add_op(play, n, o);
		op->data = record_data(r);
		op->size = result ? result->size : r->data_len;
		map_put(&tokens, r->token, 1, o);
		map_put(&tokens, r->token, 2, op);
		return;
	}
	m = add_meta(play, n, o, inode_domain(play, o));
	if (r->type == CRASHLOG_CHMOD)
		return;
	op = add_op(play, n, o);
	op->meta = m;
}

/* ---- syncs ---- */

struct sync {
	struct object *object; /* NULL: of all */
	uint64_t begin;
};

/* All metadata on o itself before record n is durable, and with it that of the
 * directories it lies in. */
static void commit_object(const struct play *play, struct object *o, uint64_t n)
{
	for (struct meta *m = o->metas; m; m = m->next_of_object) {
		struct object *domain;

		if (m->n >= n || !m->domain || (play->fs == FS_POSIX && m->dir))
			continue;
		domain = object_domain(m->domain);
		if (domain->committed < m->n)
			domain->committed = m->n;
		if (m->dir)
			commit_object(play, m->dir2 ? m->dir2 : m->dir, n);
	}
}

static void synced(struct play *play, struct object *o, uint64_t begin)
{
	struct object *domain;

	if (!o) {
		play->all_synced = begin;
		return;
	}
	if (S_ISDIR(o->mode)) {
		domain = object_domain(o);
		if (domain->committed < begin - 1)
			domain->committed = begin - 1;
	}
	if (o->synced < begin)
		o->synced = begin;
	commit_object(play, o, begin);
}

static struct object *parse_sync_end(struct play *play, uint64_t n)
{
	const struct crashlog_record *r = play->records[n - 1];
	struct sync *s = map_get(&tokens, r->token, 0);
	struct object *o = map_get(&tokens, r->token, 1);
	struct op *op = map_get(&tokens, r->token, 2);

	if (r->type == CRASHLOG_WRITE_SYNC && o && op) {
		op->durable = true;
		commit_object(play, o, op->n);
		return o;
	}
	if (!s)
		errx(TOOL_IO, "%s: record %" PRIu64 ": a sync without a begin",
		     play->path, n);
	synced(play, s->object, s->begin);
	return s->object;
}

static void parse_sync_begin(struct play *play, uint64_t n)
{
	const struct crashlog_record *r = play->records[n - 1];
	struct sync *s = make(sizeof(*s));

	s->object = r->type == CRASHLOG_ALL_BEGIN ? NULL : must_find_inode(play, n);
	s->begin = n;
	map_put(&tokens, r->token, 0, s);
}

void play_parse(struct play *play, uint64_t n,
		void (*on_sync)(uint64_t n, const char *path))
{
	for (uint64_t i = 1; i <= n; i++) {
		struct object *o;

		switch ((enum crashlog_type)play->records[i - 1]->type) {
		case CRASHLOG_FILE:
			parse_file(play, i);
			break;
		case CRASHLOG_CREATE:
		case CRASHLOG_UNLINK:
		case CRASHLOG_RENAME:
		case CRASHLOG_LINK:
			parse_name(play, i);
			break;
		case CRASHLOG_WRITE:
		case CRASHLOG_TRUNCATE:
		case CRASHLOG_FALLOCATE:
		case CRASHLOG_CHMOD:
			parse_content(play, i);
			break;
		case CRASHLOG_SYNC_BEGIN:
		case CRASHLOG_ALL_BEGIN:
			parse_sync_begin(play, i);
			break;
		case CRASHLOG_SYNC_END:
		case CRASHLOG_WRITE_SYNC:
			o = parse_sync_end(play, i);
			if (on_sync)
				on_sync(i, o ? object_path(o) : "everything");
			break;
		case CRASHLOG_UNSEEN:
			play->n_unseen++;
			break;
		case CRASHLOG_RESULT:
		case CRASHLOG_MARK:
			break;
		default:
			errx(TOOL_IO, "%s: record %" PRIu64 ": unknown type", play->path,
			     i);
		}
	}
}
